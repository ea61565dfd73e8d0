"""JSON bodies to typed values; the first thing that is wrong becomes an error that names it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from services.gateway.domain.errors import ApiError, unsupported, wrong

_T = TypeVar("_T")
#: The default of a field that is kept as it was written (msgspec takes no union of Raw and None).
NOTHING = msgspec.Raw(b"")
#: How msgspec says where: "... - at `$.messages[0].role`".
_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_FIELD = re.compile(r"^Object missing required field `(?P<field>[^`]+)`")


def decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    """The request. Fields that are not known are ignored. Raises ApiError."""
    try:
        # As text: what is kept raw is valid UTF-8 too then.
        return decoder.decode(body.decode())
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(
            400, f"We could not parse the JSON body of your request: {reason}.", code="invalid_json"
        ) from None


def _invalid(text: str) -> ApiError:
    at = _AT.search(text)
    path = at["path"] if at else ""
    what = text[: at.start()] if at else text
    missing = _FIELD.match(what)
    if missing:
        path = f"{path}.{missing['field']}".lstrip(".")
        return wrong(path, f"Missing required parameter: '{path}'.", "missing_required_parameter")
    return wrong(path, f"Invalid type for '{path or 'the body'}': {what}.", "invalid_type")


def json_text(raw: msgspec.Raw) -> str:
    """JSON as it was written; empty where there was none, or null."""
    text = bytes(raw).decode()
    return "" if text == "null" else text


class Part(msgspec.Struct):
    """A part of a message."""

    type: str
    text: str | None = None
    refusal: str | None = None


def text_of(at: str, content: str | Sequence[Part] | None, known: Sequence[str]) -> str:
    """The text of a message whose parts are of the `known` types; a refusal counts as what the model said. Raises
    ApiError for any other part."""
    if isinstance(content, str):
        return content
    texts = []
    for number, part in enumerate(content or ()):
        text = part.text if part.type in known else part.refusal if part.type == "refusal" else None
        if text is None:
            where = f"{at}[{number}]"
            raise unsupported(where, f"Only text can be sent; '{where}' is of type '{part.type}'.")
        texts.append(text)
    return "".join(texts)
