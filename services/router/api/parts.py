"""Checks the parts of messages: who may say them, how large they may be."""

from __future__ import annotations

from collections.abc import Sequence

from libs.bounds import MAX_ID
from libs.conversation import File, Image, Message, Reasoning, Refusal, Role, Text
from services.router.api.faults import Faults
from services.router.request.attachments import SentImage, measure
from services.router.request.pictures import PDF, read_media_type

#: Bytes of an image. Anthropic and Cohere take no more, others do.
MAX_IMAGE_BYTES = 5 * 1024 * 1024
#: Pixels of an image's side, as its header claims. Anthropic and Bedrock take 8000, others scale larger ones down.
MAX_SIDE = 16_384
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
#: Bytes of what only a provider can read.
MAX_OPAQUE = 1024 * 1024
#: Characters of an address.
MAX_URL = 4096
#: The parts that each may say.
_SAYS: dict[Role, tuple[type, ...]] = {
    Role.SYSTEM: (Text,),
    Role.USER: (Text, Image, File),
    Role.ASSISTANT: (Text, Reasoning, Refusal),
    Role.TOOL: (Text, Image, File),
}


def count_parts(messages: Sequence[Message]) -> tuple[int, int]:
    """Returns the parts of all messages, and the images and files among them."""
    parts = attachments = 0
    for message in messages:
        if message.parts:
            parts += len(message.parts)
            attachments += sum([isinstance(part, Image | File) for part in message.parts])
    return parts, attachments


def check_parts(message: Message, at: str, found: Faults) -> None:
    """Adds the faults of a message's parts, and counts their bytes. `at` names the message."""
    found.check(not message.text, f"{at}.text", "must not be set where parts are")
    for index, part in enumerate(message.parts):
        place = f"{at}.parts[{index}]"
        said = isinstance(part, _SAYS[message.role])
        found.check(said, place, f"cannot be part of a message of role {message.role.value}")
        match part:
            case Text() | Refusal():
                found.measure(place, part.text)
            case Reasoning():
                _check_reasoning(part, place, found)
            case Image():
                _check_source(part, place, found, IMAGE_TYPES)
            case File():
                found.measure(f"{place}.name", part.name)
                ok = len(part.name) <= MAX_ID and (not part.name or part.name.isprintable())
                found.check(ok, f"{place}.name", f"must be at most {MAX_ID} printable characters")
                _check_source(part, place, found, (PDF,))


def has_content(message: Message) -> bool:
    """Returns True if a message's parts say something: text that is not blank, an image, or a file."""
    return any(
        not isinstance(part, Text) or bool(part.text and not part.text.isspace()) for part in message.parts
    )


def _check_reasoning(part: Reasoning, at: str, found: Faults) -> None:
    found.measure(f"{at}.text", part.text)
    found.measure(f"{at}.opaque", part.opaque)
    found.check(len(part.opaque) <= MAX_OPAQUE, f"{at}.opaque", f"must be at most {MAX_OPAQUE} bytes")
    for name in ("kind", "id", "tool_call_id"):
        found.measure(f"{at}.{name}", getattr(part, name))


def _check_source(part: Image | File, at: str, found: Faults, types: Sequence[str]) -> None:
    """Checks bytes or address, and measures. `types`: the media types that are taken."""
    declared = part.media_type
    if bool(part.data) == bool(part.url):
        found.check(False, at, "needs either data or url")
    elif declared and declared not in types:
        found.check(False, f"{at}.media_type", f"must be {' or '.join(types)}")
    elif part.url:
        found.measure(f"{at}.url", part.url)
        ok = len(part.url) <= MAX_URL and part.url.startswith(("https://", "http://"))
        ok = ok and part.url.isprintable() and " " not in part.url
        found.check(ok, f"{at}.url", f"must be an https or http address of at most {MAX_URL} characters")
        _measure(part, at, found)
    else:
        found.size += len(part.data)
        _check_data(part, at, found, types)


def _check_data(part: Image | File, at: str, found: Faults, types: Sequence[str]) -> None:
    size, kind = len(part.data), read_media_type(part.data)
    if isinstance(part, Image) and size > MAX_IMAGE_BYTES:
        found.check(False, at, f"has {size} bytes; at most {MAX_IMAGE_BYTES} are accepted")
    elif kind not in types:
        found.check(False, at, f"must be {' or '.join(types)}, and its bytes are {kind or 'none of them'}")
    elif part.media_type and part.media_type != kind:
        found.check(False, f"{at}.media_type", f"is not what the bytes are, {kind}")
    else:
        _measure(part, at, found)


def _measure(part: Image | File, at: str, found: Faults) -> None:
    size = measure(part)
    if size is None:
        found.check(False, at, "does not tell its width and height: it is cut off or damaged")
        return
    if isinstance(size, SentImage):
        ok = max(size.width, size.height) <= MAX_SIDE
        most = f"at most {MAX_SIDE} a side are accepted"
        found.check(ok, at, f"is {size.width} × {size.height} pixels; {most}")
    found.attachments.append(size)
