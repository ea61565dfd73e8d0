"""The parts of messages in both dialects: their JSON, and how they are read.

Bounded as the head of `decode` says. References: https://platform.openai.com/docs/api-reference/chat/create,
https://platform.openai.com/docs/api-reference/responses/create.
"""

from __future__ import annotations

import binascii

import msgspec

from libs.conversation import File, Image, ImageDetail, Message, Part, Refusal, Role, Text
from services.router.api.accept import MOST
from services.router.api.openai.decode import check_count
from services.router.api.openai.errors import invalid_parameter, unsupported

_DETAILS = {
    None: None,
    "auto": None,
    "low": ImageDetail.LOW,
    "high": ImageDetail.HIGH,
    "original": ImageDetail.HIGH,
}
#: Media types that are said in two ways, or say nothing.
_ALIASES = {"image/jpg": "image/jpeg", "application/octet-stream": "", "application/x-pdf": "application/pdf"}
#: Parts that are text, in either dialect.
_TEXT = ("text", "input_text", "output_text")


class UrlBody(msgspec.Struct):
    """An image's address, or a data URL."""

    url: str
    detail: str | None = None


class FileBody(msgspec.Struct):
    """A document: a data URL or bare base64, and its name."""

    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None


class PartBody(msgspec.Struct):
    """A part of a message."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | UrlBody | None = None
    file: FileBody | None = None
    detail: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    file_id: str | None = None


Content = str | list[PartBody] | None


def read_message(at: str, role: Role, content: Content) -> Message:
    """Returns a message. `at` names its content. Raises ApiError."""
    if content is None or isinstance(content, str):
        return Message(role, content or "")
    check_count(at, content, MOST["messages.parts"])
    parts = [_read_part(f"{at}[{number}]", part) for number, part in enumerate(content)]
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) == len(parts):
        return Message(role, "".join(texts))
    return Message(role, parts=tuple(parts))


def _read_part(at: str, part: PartBody) -> Part:
    if part.type in _TEXT and part.text is not None:
        return Text(part.text)
    if part.type == "refusal" and part.refusal is not None:
        return Refusal(part.refusal)
    if part.type in ("image_url", "input_image") and part.image_url is not None:
        image = part.image_url
        url, detail = (image, part.detail) if isinstance(image, str) else (image.url, image.detail)
        return _read_image(f"{at}.image_url", url, detail)
    file = part.file if part.type == "file" else None
    if part.type == "input_file" or file is not None:
        data, name = (file.file_data, file.filename) if file else (part.file_data, part.filename)
        where = f"{at}.file.file_data" if file else f"{at}.file_data"
        if data:
            declared, raw = _read_data(where, data)
            return File(raw, "", declared, name or "")
        if part.file_url:
            return File(b"", part.file_url, "", name or "")
    if part.file_id or (file and file.file_id):
        raise unsupported(at, f"Files are not kept here: send the bytes or an address in '{at}'.")
    raise unsupported(
        at, f"Only text, images and PDF files can be sent; '{at}' is of type '{part.type[:64]}'."
    )


def _read_image(at: str, url: str, detail: str | None) -> Image:
    if detail not in _DETAILS:
        raise invalid_parameter(at, f"'detail' of '{at}' must be auto, low or high.", "invalid_value")
    if not url.startswith("data:"):
        return Image(b"", url, "", _DETAILS[detail])
    declared, raw = _read_data(at, url)
    return Image(raw, "", declared, _DETAILS[detail])


def _read_data(at: str, text: str) -> tuple[str, bytes]:
    """Returns the media type and the bytes of a data URL, or of bare base64 (no type). Raises ApiError."""
    kind = ""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        kind, *rest = head.removeprefix("data:").split(";")
        if not comma or rest[-1:] != ["base64"]:
            raise invalid_parameter(at, f"'{at}' must be a data URL in base64.", "invalid_value")
    try:
        raw = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raw = _read_lines(at, text)
    if not raw:
        raise invalid_parameter(at, f"'{at}' is empty.", "invalid_value")
    return _ALIASES.get(kind.lower(), kind.lower()), raw


def _read_lines(at: str, text: str) -> bytes:
    """Returns the bytes of base64 in lines, as encoders for mail write it. Raises ApiError."""
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except ValueError:
        # Also for characters beyond ASCII.
        raise invalid_parameter(at, f"'{at}' is not valid base64.", "invalid_value") from None
