"""Checks the parts of messages: who may say them, how large they may be."""

from __future__ import annotations

from collections.abc import Sequence

from libs.bounds import MAX_ID
from libs.conversation import File, Image, Message, Reasoning, Refusal, Role, Text
from services.router.api.faults import Faults

#: Bytes of an image. Anthropic and Cohere take no more, others do.
MAX_IMAGE_BYTES = 5 * 1024 * 1024
#: Characters of an address.
MAX_URL = 4096
#: The parts that each may say.
_SAYS: dict[Role, tuple[type, ...]] = {
    Role.SYSTEM: (Text,),
    Role.USER: (Text, Image, File),
    Role.ASSISTANT: (Text, Reasoning, Refusal),
    Role.TOOL: (Text, Image),
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
                found.check(len(part.data) <= MAX_IMAGE_BYTES, place, f"has {len(part.data)} bytes; {_MOST}")
                _check_source(part, place, found)
            case File():
                found.measure(f"{place}.name", part.name)
                ok = len(part.name) <= MAX_ID and (not part.name or part.name.isprintable())
                found.check(ok, f"{place}.name", f"must be at most {MAX_ID} printable characters")
                _check_source(part, place, found)


_MOST = f"at most {MAX_IMAGE_BYTES} are accepted"


def has_content(message: Message) -> bool:
    """Returns True if a message says something: text that is not blank, an image, or a file."""
    return any(
        not isinstance(part, Text) or bool(part.text and not part.text.isspace()) for part in message.content
    )


def _check_reasoning(part: Reasoning, at: str, found: Faults) -> None:
    found.measure(f"{at}.text", part.text)
    found.measure(f"{at}.opaque", part.opaque)
    for name in ("kind", "id", "tool_call_id"):
        found.measure(f"{at}.{name}", getattr(part, name))


def _check_source(part: Image | File, at: str, found: Faults) -> None:
    found.size += len(part.data)
    found.check(bool(part.data) != bool(part.url), at, "needs either data or url")
    if part.url:
        found.measure(f"{at}.url", part.url)
        ok = len(part.url) <= MAX_URL and part.url.startswith(("https://", "http://"))
        found.check(ok, f"{at}.url", f"must be an https or http address of at most {MAX_URL} characters")
