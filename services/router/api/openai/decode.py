"""JSON bodies to typed values; the first fault becomes an error that names it.

A body of ten megabytes can hold millions of values, each many times as large once it is built as the comma that it
takes to write it. So only these are built from a body: objects with at least one field that must be there, and texts.
Both need quotes, so their number is bounded by that of the body's strings, which is counted before anything is
built, in one pass over the bytes: a quote in a text is escaped, all others begin or end a string. A field that might
hold other values is kept as it was written, and is built only where it is small.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec

from services.router.api.openai.errors import ApiError, invalid_parameter

_T = TypeVar("_T")
#: The default of a field that is kept as it was written (msgspec takes no union of Raw and None).
NOTHING = msgspec.Raw(b"")
#: Strings in one body, keys included. The largest that is of use, 128 tools with schemas of 700 strings, has fewer.
MAX_STRINGS = 100_000
#: Bytes of a field that has no reason to be large: names, labels, stop sequences.
MAX_SMALL = 64 * 1024
#: Values that count as not set; anything of more than MAX_EMPTY bytes counts as set without being read.
_EMPTY = frozenset({b"", b"null", b"false", b"0", b"0.0", b'""', b"[]", b"{}"})
MAX_EMPTY = 64
#: Whole numbers that every provider takes.
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
#: Fields that nobody knows are named as far as they look like fields, and not more of them.
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
MOST_UNKNOWN = 16
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
#: The place in msgspec's messages: "... - at `$.messages[0].role`".
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_FIELD = re.compile(r"^Object missing required field `(?P<field>[^`]+)`")


def decode_naming_unknown(
    strict: msgspec.json.Decoder[_T], lenient: msgspec.json.Decoder[_T], body: bytes
) -> tuple[_T, list[str]]:
    """Returns the decoded request, and the names of fields that nobody knows. `strict` refuses those, `lenient`
    leaves them out; most requests have none. Raises ApiError."""
    _check_strings(body)
    try:
        return strict.decode(body), []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Known for what it is to the other decoder, unless it is a field.
        request = _decoded(lenient, body, "")
    unknown = _fields.decode(body).keys() - set(getattr(request, "__struct_fields__", ()))
    named = sorted(filter(_NAME.fullmatch, unknown))[:MOST_UNKNOWN]
    return request, named if len(named) == len(unknown) else [*named, "..."]


def decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    """Returns the decoded request. Unknown fields are ignored. Raises ApiError."""
    _check_strings(body)
    return _decoded(decoder, body, "")


def _check_strings(body: bytes) -> None:
    # First without a copy: nearly every body has fewer quotes than that, escaped ones included.
    if body.count(b'"') > 2 * MAX_STRINGS:
        structure = body.replace(rb"\\", b"").replace(rb"\"", b"")
        if structure.count(b'"') > 2 * MAX_STRINGS:
            raise invalid_parameter(
                "", f"The body holds more than {MAX_STRINGS:,} strings.", "too_many_strings"
            )


def decode_small(param: str, raw: msgspec.Raw, decoder: msgspec.json.Decoder[_T]) -> _T | None:
    """Returns a decoded field that was kept as it was written and has no reason to be large; None where it is not
    set. Raises ApiError."""
    if not raw:
        return None
    if len(memoryview(raw)) > MAX_SMALL:
        raise invalid_parameter(
            param, f"'{param}' must be at most {MAX_SMALL:,} bytes of JSON.", "invalid_value"
        )
    return _decoded(decoder, bytes(raw), param)


def is_set(raw: msgspec.Raw) -> bool:
    """Returns True if a field is set to something: not to null, false, 0 or what is empty."""
    view = memoryview(raw)
    return len(view) > MAX_EMPTY or bytes(view).translate(None, b" \t\r\n") not in _EMPTY


def check_count(param: str, values: Sequence[object] | None, most: int) -> None:
    """Raises ApiError where there are more than `most`: before anything loops over them."""
    if values is not None and len(values) > most:
        text = f"'{param}' holds {len(values):,} entries; at most {most:,} are accepted."
        raise invalid_parameter(param, text, "invalid_value")


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes, param: str) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(
            400, f"We could not parse the JSON body of your request: {reason}.", code="invalid_json"
        ) from None


def _invalid(text: str, param: str) -> ApiError:
    at = _AT.search(text)
    path = param + (at["path"] if at else "")
    what = text[: at.start()] if at else text
    missing = _FIELD.match(what)
    if missing:
        path = f"{path}.{missing['field']}".lstrip(".")
        return invalid_parameter(path, f"Missing required parameter: '{path}'.", "missing_required_parameter")
    return invalid_parameter(path, f"Invalid type for '{path or 'the body'}': {what}.", "invalid_type")


def json_text(param: str, raw: msgspec.Raw) -> str:
    """Returns JSON as it was written; empty where there was none, or null. Raises ApiError where it is not UTF-8."""
    try:
        text = bytes(raw).decode()
    except UnicodeDecodeError:
        raise invalid_parameter(param, f"'{param}' is not UTF-8.", "invalid_value") from None
    return "" if text == "null" else text
