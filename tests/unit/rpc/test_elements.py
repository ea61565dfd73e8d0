"""The number of elements that a message may hold, found out on its bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from pointsman.analytics.v1 import analytics_pb2
from pointsman.router.v1 import router_pb2

from libs.errors import InvalidArgument
from libs.rpc.elements import check_elements, shape_of

GENERATE = shape_of(cast("Descriptor", router_pb2.GenerateRequest.DESCRIPTOR))
MOST = 500


class Watched(bytes):
    """Counts how many of its bytes are looked at one by one."""

    looks = 0

    def __getitem__(self, place: Any) -> Any:
        Watched.looks += 1
        return super().__getitem__(place)


def varint(number: int) -> bytes:
    out = b""
    while number >= 128:
        out += bytes((number % 128 + 128,))
        number //= 128
    return out + bytes((number,))


def inside(field: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def refused(message: bytes) -> str:
    with pytest.raises(InvalidArgument) as caught:
        check_elements(message, GENERATE, MOST)
    return caught.value.reason


KINDS: dict[str, Callable[[int], bytes]] = {
    "empty messages": lambda n: inside(1, b"\x1a\x00" * n),
    "empty messages on top": lambda n: b"\x0a\x00" * n,
    "deeper ones": lambda n: inside(1, inside(3, b"\x1a\x00" * n)),
    "entries of a map": lambda n: inside(1, b"\xb2\x01\x00" * n),
    "texts": lambda n: inside(1, b"\x42\x00" * n),
    "one number over and over": lambda n: inside(1, b"\x20\x01" * n),
    "unknown fields": lambda n: b"\xf8\x07\x01" * n,
    "unknown messages": lambda n: b"\xfa\x07\x00" * n,
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_work_ends_with_the_bound_whatever_is_sent_too_often(kind: str) -> None:
    """Twice as many elements beyond the bound are refused after the same number of looks."""
    looks = []
    for count in (50_000, 100_000):
        Watched.looks = 0
        assert refused(Watched(KINDS[kind](count))) == "TOO_MANY_ELEMENTS"
        looks.append(Watched.looks)
    assert looks[0] <= looks[1] <= looks[0] + 20
    assert looks[1] <= MOST * 12


def test_a_long_text_is_stepped_over() -> None:
    """The looks at a message do not grow with the texts in it."""
    looks = []
    for size in (1_000_000, 2_000_000):
        request = router_pb2.GenerateRequest()
        request.generation.messages.add(text="x" * size)
        Watched.looks = 0
        check_elements(Watched(request.SerializeToString()), GENERATE, MOST)
        looks.append(Watched.looks)
    assert looks[0] <= looks[1] <= looks[0] + 5


def test_entries_of_packed_fields_count() -> None:
    """Numbers that share one field are as many as their bytes."""
    shape = shape_of(cast("Descriptor", analytics_pb2.Query.DESCRIPTOR))
    packed = analytics_pb2.Query.DESCRIPTOR.fields_by_name["group_by"].number
    with pytest.raises(InvalidArgument) as caught:
        check_elements(inside(packed, b"\x01" * 1001), shape, MOST)
    assert caught.value.reason == "TOO_MANY_ELEMENTS"


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x0a\xff\xff\x7f",
        b"\x0b" + b"\x0a\x00" * 10,
        b"\xff" * 20,
        inside(1, b"\x1a\x7f"),
        b"\x09\x00",
        b"\x0f",
        b"\x80",
    ],
)
def test_bytes_of_which_the_scan_makes_no_sense_are_no_message(wrong: bytes) -> None:
    """Nothing is decoded that the scan has not seen to its end: lengths beyond the end, groups, endless numbers."""
    assert refused(inside(1, b"\x42\x01x" * 400) + wrong) == "BAD_MESSAGE"


@given(st.binary(max_size=200), st.integers(0, 40))
def test_what_the_decoder_takes_the_scan_takes(tail: bytes, count: int) -> None:
    """No message of any bytes is refused as malformed that protobuf would decode, but for groups."""
    message = b"\x0a\x00" * count + tail
    try:
        router_pb2.GenerateRequest.FromString(message)
    except Exception:
        return
    if not _has_groups(message):
        check_elements(message, GENERATE, len(message) // 2)


def _has_groups(message: bytes) -> bool:
    """Says so for more than have some: any byte that could be a group's tag."""
    return any(byte & 7 in (3, 4) for byte in message)


def test_a_type_that_holds_itself_has_one_shape() -> None:
    """Recursive types end, and a type met twice is described once."""
    from google.protobuf.struct_pb2 import Struct

    shape = shape_of(Struct.DESCRIPTOR)
    assert shape_of(Struct.DESCRIPTOR) is shape
    nested: Message = Struct(fields={})
    check_elements(nested.SerializeToString(), shape, 1)
