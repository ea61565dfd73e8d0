"""Images and documents as wires write them: base64, data URLs, addresses."""

from __future__ import annotations

from base64 import b64encode

from libs.conversation import File, Image, Message
from libs.types import ErrorClass
from services.router.request.generation import ProviderFailure
from services.router.request.pictures import PDF, read_media_type

#: By the end of an address, for vendors that want to be told.
_TYPES = {"png": "image/png", "gif": "image/gif", "webp": "image/webp"}


def media_type(part: Image | File) -> str:
    """Returns the media type: by the bytes; behind an address the one declared, else the likely one."""
    if part.data:
        return read_media_type(part.data)
    if part.media_type:
        return part.media_type
    if isinstance(part, File):
        return PDF
    path = part.url.partition("?")[0].partition("#")[0]
    return _TYPES.get(path.rpartition(".")[2].lower(), "image/jpeg")


def base64_of(part: Image | File, vendor: str) -> str:
    """Returns the bytes in base64. Raises ProviderFailure(UNSUPPORTED_HERE) for an address: the vendor fetches
    none."""
    if part.url:
        raise cannot_carry(f"{vendor} fetches no addresses")
    return b64encode(part.data).decode()


def address_of(part: Image | File) -> str:
    """Returns the address, or the bytes as a data URL."""
    return part.url or f"data:{media_type(part)};base64,{b64encode(part.data).decode()}"


def file_name(file: File) -> str:
    """Returns the document's name."""
    return file.name or "document.pdf"


def attachments_of(message: Message) -> list[Image | File]:
    """Returns the images and documents of a message."""
    return [part for part in message.parts if isinstance(part, Image | File)]


def cannot_carry(message: str) -> ProviderFailure:
    """Returns the failure of a request with a part that the wire has no form for: the catalog promises too much."""
    return ProviderFailure(ErrorClass.UNSUPPORTED_HERE, message)
