"""Reads answers that may hold anything: nothing here raises but `Undecodable`.

Providers add fields, send numbers as text and null where the documentation shows an object, so a value is taken
only when it has the type that makes sense of it and is treated as absent otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from libs.bounds import MAX_TOKENS

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

#: More than any model has ever counted; a larger figure is noise. Four of them add up to no more than the ledger
#: keeps: it refuses the whole record of an attempt with more.
_MAX_COUNT = MAX_TOKENS // 4

#: No provider's array has more values; what is beyond is left out, so that no loop over one takes long.
MAX_ITEMS = 4096

#: The fields of events whose text is a piece of the answer, to which the next piece is joined.
_PIECES = frozenset(
    (
        "arguments",
        "completion",
        "content",
        "delta",
        "generation",
        "input",
        "outputText",
        "partial_json",
        "reasoning",
        "reasoning_content",
        "refusal",
        "response",
        "summary",
        "text",
        "thinking",
        "tool_plan",
    )
)

_EMPTY: Mapping[str, Any] = {}


class Undecodable(ValueError):
    """The bytes are not JSON."""


def decode(data: bytes | str) -> Any:
    """Decodes JSON; leniently (NaN, raw control characters, lone surrogates) where the strict decoder refuses,
    because Python servers emit such text. Raises Undecodable."""
    try:
        return _decode(data)
    except (ValueError, RecursionError):
        pass
    try:
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
        # A lone surrogate cannot be encoded as UTF-8 further on.
        clean = json.dumps(json.loads(text, strict=False), ensure_ascii=False).encode("utf-8", "replace")
        return json.loads(clean)
    except (ValueError, RecursionError) as error:
        raise Undecodable(str(error)) from None


def decode_event(data: bytes | str) -> tuple[Any, bool]:
    """Decodes one event of a stream as `decode` does, but leaves half a surrogate pair at either end of a piece of
    text: some servers send the halves of one character in two events. Returns the value, and True if there may be
    halves in it. Raises Undecodable."""
    try:
        return _decode(data), False
    except (ValueError, RecursionError):
        pass
    try:
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
        return _without_halves(json.loads(text, strict=False), ""), True
    except (ValueError, RecursionError) as error:
        raise Undecodable(str(error)) from None


def _without_halves(value: Any, name: str) -> Any:
    if type(value) is dict:
        return {_drop_halves(key): _without_halves(inner, key) for key, inner in value.items()}
    if type(value) is list:
        return [_without_halves(inner, name) for inner in value]
    if type(value) is not str:
        return value
    if name not in _PIECES or not value:
        return _drop_halves(value)
    begin = int("\udc00" <= value[0] <= "\udfff")
    end = len(value) - int(len(value) > begin and "\ud800" <= value[-1] <= "\udbff")
    return value[:begin] + _drop_halves(value[begin:end]) + value[end:]


def _drop_halves(text: str) -> str:
    # A lone surrogate cannot be encoded as UTF-8 further on.
    return text.encode("utf-8", "replace").decode()


def join_halves(text: str) -> str:
    """Returns the text with halves of surrogate pairs that stand beside each other joined, and others replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def encode(value: Any) -> bytes:
    """Returns compact JSON."""
    return _encode(value)


def as_dict(value: Any) -> Mapping[str, Any]:
    """Returns the object, or an empty one."""
    return value if type(value) is dict else _EMPTY


def as_list(value: Any) -> list[Any]:
    """Returns the array, or an empty one; of a longer one the first MAX_ITEMS."""
    if type(value) is not list:
        return []
    return value if len(value) <= MAX_ITEMS else value[:MAX_ITEMS]


def as_str(value: Any) -> str:
    """Returns the text, or an empty one."""
    return value if type(value) is str else ""


def as_count(value: Any) -> int | None:
    """Returns a count of tokens, or None where it is missing, negative or absurd. An explicit zero stays zero."""
    if type(value) is int:
        return value if 0 <= value <= _MAX_COUNT else None
    if type(value) is float and value.is_integer():
        return as_count(int(value))
    return None


def first_count(*values: Any) -> int:
    """Returns the first that is a count of tokens; 0 where none is."""
    for value in values:
        if value is not None and (count := as_count(value)) is not None:
            return count
    return 0


def as_number(value: Any) -> float | None:
    """Returns a finite number, also where it is written as text; else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) <= 1e15 else None


def as_json_text(value: Any) -> str:
    """Returns tool arguments as JSON text, where the wire sends text and where it sends an object."""
    if type(value) is str:
        return value
    return "" if value is None else encode(value).decode()


def drop_unset(**values: Any) -> dict[str, Any]:
    """Returns the values that are not None: unset is left out of a request, not sent as null."""
    return {name: value for name, value in values.items() if value is not None}


def text_of(content: Any) -> str:
    """Returns the text of a message's content: a string, or the `text` blocks of a list. Thinking blocks are not
    text."""
    if type(content) is str:
        return content
    return "".join(
        block if type(block) is str else as_str(as_dict(block).get("text"))
        for block in as_list(content)
        if type(block) is str or as_dict(block).get("type", "text") in ("text", "output_text")
    )
