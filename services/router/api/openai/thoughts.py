"""A model's thoughts in OpenAI's two dialects, which clients send back as they got them.

Chat completions have no word for them, but many servers and clients do: `reasoning_content` is their text, to be
shown, and `reasoning_details` hold all that must come back, as at OpenRouter
(https://openrouter.ai/docs/use-cases/reasoning-tokens). Responses have items of type `reasoning`, whose
`encrypted_content` clients pass on unread, so all else that must come back is sealed in it too.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import structs

from libs.conversation import Message, Part, Reasoning, Refusal
from services.router.api.accept import MOST
from services.router.api.openai.decode import check_count
from services.router.api.openai.errors import unsupported

_TEXT, _SUMMARY, _ENCRYPTED = "reasoning.text", "reasoning.summary", "reasoning.encrypted"
#: Begins what is sealed here: the encrypted thoughts of other routers and vendors do not.
_SEAL = "pointsman1."
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reasoning).decode


class DetailBody(msgspec.Struct):
    """A thought of an assistant's message. `format` names its maker."""

    type: str
    text: str | None = None
    summary: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    format: str | None = None
    tool_call_id: str | None = None


class SummaryBody(msgspec.Struct):
    """A piece of the text of an item of thoughts."""

    text: str
    type: str = ""


def text_of_thoughts(thoughts: Iterable[Reasoning]) -> str:
    """Returns the text of all thoughts, to be shown."""
    return "\n\n".join([thought.text for thought in thoughts if thought.text])


def write_details(thoughts: Sequence[Reasoning]) -> list[dict[str, Any]]:
    """Returns thoughts as `reasoning_details`."""
    return [_write_detail(index, thought) for index, thought in enumerate(thoughts)]


def read_thoughts(at: str, details: Sequence[DetailBody] | None, plain: str | None) -> tuple[Reasoning, ...]:
    """Returns the thoughts of an assistant's message: its details, or its `plain` text, whose maker nobody knows,
    where there are none. Raises ApiError."""
    if not details:
        return (Reasoning(plain),) if plain else ()
    check_count(at, details, MOST["messages.parts"])
    return tuple(_read_detail(f"{at}[{index}]", detail) for index, detail in enumerate(details))


def seal(thought: Reasoning) -> str:
    """Returns what must come back of a thought, as `encrypted_content`. Its text stands beside it."""
    return _SEAL + urlsafe_b64encode(_encode(structs.replace(thought, text=""))).decode()


def unseal(sealed: str, text: str) -> Reasoning | None:
    """Returns the thought that was sealed, with its text; None where nothing was sealed here."""
    if not sealed.startswith(_SEAL):
        return None
    try:
        return structs.replace(_decode(urlsafe_b64decode(sealed[len(_SEAL) :])), text=text)
    except (Base64Error, msgspec.DecodeError, ValueError):
        return None


def with_thoughts(message: Message, thoughts: Sequence[Reasoning], refusal: str | None = None) -> Message:
    """Returns an assistant's message with these thoughts behind those that it has, before all else, and its refusal
    at the end."""
    if not thoughts and not refusal:
        return message
    earlier = [part for part in message.content if isinstance(part, Reasoning)]
    said = [part for part in message.content if not isinstance(part, Reasoning)]
    end = [Refusal(refusal)] if refusal else []
    parts: tuple[Part, ...] = (*earlier, *thoughts, *said, *end)
    return structs.replace(message, text="", parts=parts)


def _write_detail(index: int, thought: Reasoning) -> dict[str, Any]:
    more = {"id": thought.id or None, "format": thought.kind or None, "index": index}
    if thought.tool_call_id:
        more["tool_call_id"] = thought.tool_call_id
    if thought.redacted:
        return {"type": _ENCRYPTED, "data": thought.opaque, **more}
    kind, name = (_SUMMARY, "summary") if thought.summary else (_TEXT, "text")
    return {"type": kind, name: thought.text, "signature": thought.opaque or None, **more}


def _read_detail(at: str, detail: DetailBody) -> Reasoning:
    if detail.type not in (_TEXT, _SUMMARY, _ENCRYPTED):
        raise unsupported(at, f"'{at}' is of type '{detail.type[:64]}', which nobody here has written.")
    summary, redacted = detail.type == _SUMMARY, detail.type == _ENCRYPTED
    text = detail.summary if summary else detail.text
    opaque = detail.data if redacted else detail.signature
    return Reasoning(
        text or "",
        opaque or "",
        summary=summary,
        redacted=redacted,
        kind=detail.format or "",
        id=detail.id or "",
        tool_call_id=detail.tool_call_id or "",
    )
