"""The parts of every wire format: the request read into an `Ask`, the `Answer` written as a body or a `Script`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import msgspec

from dev.simulator.behaviour import Preset, RetryStyle
from dev.simulator.text import normalise

encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the caller offers; `schema` is the JSON Schema of its arguments."""

    name: str
    schema: Mapping[str, Any]


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
    #: The tool that must be called. None: none must.
    tool: Tool | None = None
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
class Usage:
    """Tokens as reported. `input` includes cached ones; `output` does not include `reasoning`."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(slots=True)
class Answer:
    """The answer of the virtual provider. Joined, `pieces` are the text, or the JSON arguments of `tool`."""

    pieces: tuple[str, ...]
    #: stop, stop_sequence, length, tool_calls, content_filter; None: the wire says nothing.
    finish: str | None
    usage: Usage | None
    tool: str | None = None
    stop_sequence: str | None = None
    #: The same pieces as JSON strings.
    quoted: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.quoted) != len(self.pieces):
            self.quoted = tuple(map(encode, self.pieces))

    @property
    def text(self) -> str:
        """Returns the whole text."""
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Script:
    """A streamed answer, each part one write. `opening` comes with the first token."""

    opening: bytes
    pieces: list[bytes]
    finish: bytes
    terminator: bytes
    malformed: bytes


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


def choose_tool(tools: list[Tool], name: str | None) -> Tool | None:
    """Returns the tool called `name`; the first where any will do (empty name); None where none must be called."""
    if name is None or not tools:
        return None
    return next((tool for tool in tools if tool.name == name), tools[0] if not name else None)


def arguments_of(answer: Answer) -> Any:
    """Returns a tool call's arguments as an object; a truncated call has none."""
    try:
        return msgspec.json.decode(answer.text.encode())
    except msgspec.DecodeError:
        return {}


BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n"
)
UNAVAILABLE = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
