"""Records of requests as they come in, and what is asked of them."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.errors import InvalidArgument
from libs.request_record import ConsideredModel as SentModel
from libs.request_record import encode_request
from libs.selection import Degradation, Scores
from services.analytics.api.proto_account import account_to_proto, check_lookup
from services.analytics.api.proto_usage import MAX_REQUEST_BYTES, request_from_bytes
from services.analytics.ledger.account import Account
from services.analytics.ledger.attempt import Outcome
from services.analytics.ledger.record_bounds import UnusableRecord
from services.analytics.ledger.request import ConsideredModel
from tests.support.requests import sent_request

A_MODEL = SentModel("a/m", "too dear", 2, Scores(0.5, 0.25, 1.0, 0.125, 0.75), 30)


def test_every_field_that_a_router_sends_is_read() -> None:
    """By its name, whatever its place; those that have another form here are turned into it."""
    sent = sent_request(
        degradation=Degradation.QUEUED,
        capabilities={"json"},
        candidates=[A_MODEL],
        error_reason="X",
        queued=1.5,
    )
    read = request_from_bytes(encode_request(sent))
    assert read.outcome is Outcome.SUCCESS
    assert (read.degradation, read.capabilities, read.queued) == ("queued", ("json",), 1.5)
    assert read.candidates == (ConsideredModel("a/m", "too dear", 2, 0.5, 0.25, 1.0, 0.125, 0.75, 30),)
    for name in set(sent.__struct_fields__) - {"outcome", "degradation", "capabilities", "candidates"}:
        assert getattr(read, name) == getattr(sent, name), name


@pytest.mark.parametrize(
    "fields",
    [
        {"record_id": ""}, {"record_id": "x" * 129}, {"request_id": "a\0b"}, {"tenant": ""},
        {"labels": {f"k{i}": "" for i in range(33)}}, {"labels": {"": "v"}}, {"labels": {"k": "v" * 513}},
        {"started": 0.0}, {"started": math.nan}, {"latency": -1.0}, {"latency": math.inf}, {"queued": math.nan},
        {"paused": 1e9}, {"time_to_first_token": -0.1}, {"attempts": -1}, {"attempts": 10_001},
        {"estimated_input_tokens": -1}, {"max_output_tokens": 10**9 + 1}, {"cost_micro_usd": -1},
        {"probability": 0.0}, {"probability": 1.5}, {"probability": math.nan}, {"trace_id": "a" * 33},
        {"capabilities": ["c"] * 33}, {"candidates": [A_MODEL] * 101}, {"policy": "p" * 129},
        {"candidates": [SentModel("m" * 258, "", 0, Scores(), 0)]},
        {"candidates": [SentModel("m", "w" * 257, 0, Scores(), 0)]},
        {"candidates": [SentModel("m", "", -1, Scores(), 0)]},
        {"candidates": [SentModel("m", "", 0, Scores(total=math.nan), 0)]},
        {"error_reason": "x" * MAX_REQUEST_BYTES},
    ],
)  # fmt: skip
def test_a_record_out_of_its_bounds_is_refused(fields: dict[str, Any]) -> None:
    """With a reason; nothing of it is kept."""
    with pytest.raises(UnusableRecord):
        request_from_bytes(encode_request(sent_request(**fields)))


def test_a_record_of_a_later_version_is_read() -> None:
    """Fields that were added at its end are passed over."""
    longer = [*msgspec.msgpack.decode(encode_request(sent_request())), "more"]
    assert request_from_bytes(msgspec.msgpack.encode(longer)).record_id == "q1"


@given(data=st.binary(max_size=200) | st.integers(0, 300).map(lambda n: encode_request(sent_request())[:n]))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Torn records and noise alike."""
    try:
        request_from_bytes(data)
    except UnusableRecord:
        return
    assert data == encode_request(sent_request())


@given(place=st.integers(0), byte=st.integers(0, 255))
def test_a_record_with_a_wrong_byte_is_read_or_refused(place: int, byte: int) -> None:
    """Also one that is no text where a text should be, which ended the whole batch, again and again."""
    data = bytearray(encode_request(sent_request()))
    data[place % len(data)] = byte
    with suppress(UnusableRecord):
        assert request_from_bytes(bytes(data)).record_id


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "request_id"),
        ({"request_id": "r", "attempt_id": "a"}, "request_id"),
        ({"attempt_id": "a", "tenant": "acme"}, "tenant"),
        ({"request_id": "r" * 129}, "request_id"),
        ({"attempt_id": "a\0"}, "attempt_id"),
        ({"request_id": "r", "tenant": "t" * 129}, "tenant"),
    ],
)
def test_a_wrong_question_names_the_field(asked: dict[str, str], field: str) -> None:
    """Before the database is asked."""
    with pytest.raises(InvalidArgument) as caught:
        check_lookup(pb.GetRequestRequest(**asked))
    assert [violation.field for violation in caught.value.violations] == [field]


def test_an_account_is_told_with_every_field_of_its_record() -> None:
    """Each field of the record is a field of the answer, and set."""
    sent = sent_request(degradation=Degradation.QUEUED, queued=1.0, paused=2.0, time_to_first_token=0.5)
    sent = msgspec.structs.replace(
        sent, campaign="c", error_reason="X", failed_over=True, streamed=True, cached=True, trace_id="f" * 32
    )
    told = account_to_proto(Account(request_from_bytes(encode_request(sent)), ()))
    fields = {field.name for field, _ in told.record.ListFields()}
    assert fields == set(pb.RequestRecord.DESCRIPTOR.fields_by_name)
