"""The parts of every wire format: the request read into an `Ask`, the `Answer` written as a body or a `Script`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import msgspec

from dev.simulator.behaviour import Preset, RetryStyle
from dev.simulator.pictures import describe_all
from dev.simulator.text import normalise
from dev.simulator.tools import asks_for
from dev.simulator.wires.answer import Answer, Script

encode = msgspec.json.encode
#: The roles of those who give instructions beside the conversation.
_INSTRUCTIONS = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the caller offers; `schema` is the JSON Schema of its arguments."""

    name: str
    schema: Mapping[str, Any]
    description: str = ""


@dataclass(slots=True)
class Ask:
    """A request for text, whatever wire it came by."""

    model: str
    #: All texts in order, the system's first, without the prefill; normalised.
    prompt: str
    #: Characters of all message texts, prefill included.
    characters: int
    stream: bool = False
    #: Text of a last message that is the assistant's: the answer continues it. None: there is none.
    prefill: str | None = None
    max_tokens: int | None = None
    #: The tools that are called: the one that must be, else those that the last message asks for.
    calls: tuple[Tool, ...] = ()
    #: The answer begins with thinking; `shows_thoughts`: in words; `keeps_thoughts`: encrypted, to be sent back.
    thinks: bool = False
    shows_thoughts: bool = False
    keeps_thoughts: bool = False
    #: Thoughts as the model has them, not as a summary.
    raw_thoughts: bool = False
    #: The pictures and documents that were sent, in words.
    media: tuple[str, ...] = ()
    #: The vendor of chat completions.
    vendor: str = ""
    #: JSON wanted: its schema, or an empty mapping for any object. None: text wanted.
    json_schema: Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    include_usage: bool = True
    #: The behaviour's `usage.with_finish`.
    usage_with_finish: bool = False
    #: Gemini without `alt=sse`: a JSON array instead of events.
    array: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Something went wrong; each wire says it in its own way."""

    preset: Preset
    model: str = ""
    message: str | None = None
    retry_after: float | None = None
    retry_after_as: RetryStyle = "native"
    #: A stream was asked for.
    stream: bool = False
    #: Something in the request: the fields of OpenAI's error object are then these, not the preset's.
    of_request: bool = False
    code: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer that is not a generation. Header names are as they go on the wire."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quota:
    """State of the provider's own limits, for its headers. Resets are seconds until full again."""

    request_limit: int = 10_000
    requests_left: int = 9_999
    requests_reset: float = 0.006
    token_limit: int = 2_000_000
    tokens_left: int = 1_999_000
    tokens_reset: float = 0.03


class BadRequest(Exception):
    """The request does not have the wire's shape. The message is the provider's own."""

    def __init__(self, message: str, preset: Preset = "invalid_request") -> None:
        super().__init__(message)
        self.message = message
        self.preset: Preset = preset


class Wire(Protocol):
    """One provider API. Stateless."""

    name: ClassVar[str]
    stream_content_type: ClassVar[str]

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        """Returns the request. Raises BadRequest. `model` is the one in the path, where the wire has it there."""
        ...

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        """Returns the caller's key, or None."""
        ...

    def headers(self, uid: str, quota: Quota) -> list[tuple[str, str]]:
        """Returns request id and limits, in the provider's own style."""
        ...

    def unary(self, ask: Ask, answer: Answer, uid: str) -> bytes:
        """Returns the whole answer's body."""
        ...

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        """Returns the answer as a stream."""
        ...

    def error(self, problem: Problem, uid: str) -> Reply:
        """Returns the provider's own status, headers and body for it."""
        ...

    def error_event(self, problem: Problem, uid: str) -> bytes:
        """Returns the same for the inside of a stream."""
        ...

    def models(self, names: tuple[str, ...]) -> bytes:
        """Returns the list of models."""
        ...


def text_of(content: Any) -> str:
    """Returns the text of a message's content: a string, or parts of which those with a `text` count."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        found = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in found if isinstance(text, str))
    return ""


def media_of(messages: Any, name: str = "content") -> tuple[str, ...]:
    """Returns a sentence for every picture and document of the messages, whose parts are under `name`."""
    listed = messages if isinstance(messages, list) else []
    return tuple(sentence for message in listed for sentence in describe_all(mapping(message).get(name)))


def read_turns(turns: list[tuple[str, str]]) -> tuple[str, int, str | None]:
    """Returns (normalised prompt, characters, prefill) of (role, text) turns, the system's first."""
    characters = sum(len(text) for _, text in turns)
    prefill = None
    if turns and turns[-1][0] == "assistant":
        prefill = turns[-1][1]
        turns = turns[:-1]
    return normalise([text for _, text in turns]), characters, prefill


def sse(data: bytes, event: str = "") -> bytes:
    """Returns one server-sent event."""
    if event:
        return b"event: %b\ndata: %b\n\n" % (event.encode(), data)
    return b"data: %b\n\n" % data


def bearer(headers: Mapping[str, str]) -> str | None:
    """Returns the token of `Authorization: Bearer`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def positive(value: Any, name: str) -> int | None:
    """Returns a token limit out of a request: unset, or a whole number of at least 1."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadRequest(f"Invalid value for '{name}': expected an integer of at least 1.")
    return value


def strings(value: Any) -> tuple[str, ...]:
    """Returns stop sequences: one, many or none."""
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value or () if isinstance(item, str) and item)


def mapping(value: Any) -> dict[str, Any]:
    """Returns the value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def choose_calls(
    tools: list[Tool],
    forced: str | None,
    turns: list[tuple[str, str]],
    *,
    free: bool = True,
    many: bool = True,
) -> tuple[Tool, ...]:
    """Returns the tools that are called. `forced`: the name of the one that must be, empty for any; None: those that
    the user's last words ask for, where the model is `free` to; `many`: more than one at once."""
    if forced is not None:
        named = [tool for tool in tools if tool.name == forced]
        return tuple((named or ([] if forced else tools))[:1])
    if not free or not tools:
        return ()
    role, text = next(((role, text) for role, text in reversed(turns) if role not in _INSTRUCTIONS), ("", ""))
    asked = (
        tuple(tool for tool in tools if asks_for(text, tool.name, tool.description)) if role == "user" else ()
    )
    return asked if many else asked[:1]


BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
)
UNAVAILABLE = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
