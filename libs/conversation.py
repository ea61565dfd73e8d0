"""The values of a conversation, which the router and its callers share."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Role(StrEnum):
    """The speaker of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ReasoningEffort(StrEnum):
    """The effort that a reasoning model should make."""

    NONE = "none"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class ReasoningSummary(StrEnum):
    """The summary of its thoughts that a reasoning model should show."""

    AUTO = "auto"
    CONCISE = "concise"
    DETAILED = "detailed"


class ToolCall(Struct, frozen=True):
    """A tool the model asks to be called; `arguments_json` exactly as the model wrote it."""

    id: str
    name: str
    arguments_json: str


class Tool(Struct, frozen=True):
    """A tool the model may call; `parameters_json` is a JSON Schema as text, empty for none."""

    name: str
    description: str = ""
    parameters_json: str = ""


class ImageDetail(StrEnum):
    """The detail in which a model should look at an image."""

    LOW = "low"
    HIGH = "high"


class Text(Struct, frozen=True, tag=True):
    """A part of text."""

    text: str


def _shown(part: Image | File) -> str:
    """Returns what a log may show of it."""
    return f"{len(part.data)} bytes" if part.data else "an address"


class Image(Struct, frozen=True, tag=True):
    """An image: its bytes, or the address from which the provider fetches it; exactly one of both. `media_type`
    empty: read from the bytes."""

    data: bytes = b""
    url: str = ""
    media_type: str = ""
    detail: ImageDetail | None = None

    def __repr__(self) -> str:
        return f"Image({_shown(self)})"


class File(Struct, frozen=True, tag=True):
    """A document, a PDF: its bytes, or the address from which the provider fetches it; exactly one of both.
    `media_type` empty: read from the bytes."""

    data: bytes = b""
    url: str = ""
    media_type: str = ""
    name: str = ""

    def __repr__(self) -> str:
        return f"File({_shown(self)})"


class Reasoning(Struct, frozen=True, tag=True):
    """A model's thoughts, which go back to the kind of provider that made them, and to nobody else.

    `text`: the thoughts, or a `summary` of them; empty where the provider shows none (`redacted`: it hides them).
    `opaque`: what its provider alone can read, a signature of the text or the thoughts encrypted, exactly as it came.
    `kind`: the provider's, empty: not known. `id`: the provider's own, empty: it has none. `tool_call_id`: the call
    that `opaque` belongs to, empty: none."""

    text: str = ""
    opaque: str = ""
    summary: bool = False
    redacted: bool = False
    kind: str = ""
    id: str = ""
    tool_call_id: str = ""


class Refusal(Struct, frozen=True, tag=True):
    """The words in which a model refused."""

    text: str


Part = Text | Image | File | Reasoning | Refusal


class Message(Struct, frozen=True):
    """One turn of the conversation. `text` is the short form of a single part of text: a message has either `text` or
    `parts`."""

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    parts: tuple[Part, ...] = ()

    @property
    def content(self) -> tuple[Part, ...]:
        """Returns the parts; of a message in the short form its text as one, or none where it is empty."""
        return self.parts or ((Text(self.text),) if self.text else ())

    @property
    def size(self) -> int:
        """Returns the characters of its text, and of all its parts the characters and bytes."""
        if not self.parts:
            return len(self.text)
        return sum(
            [len(part.data) if isinstance(part, Image | File) else len(part.text) for part in self.parts]
        )

    @property
    def written(self) -> str:
        """Returns the text of all parts, a refusal's too, for where there is room for text alone."""
        if not self.parts:
            return self.text
        return "".join([part.text for part in self.parts if isinstance(part, Text | Refusal)])


class ResponseFormat(Struct, frozen=True):
    """JSON answers. `schema_json` empty: any JSON object."""

    schema_json: str = ""
    schema_name: str = "answer"


class ToolCallDelta(Struct, frozen=True):
    """A piece of a tool call. Pieces with one index belong together; strings are to be appended."""

    index: int
    id: str = ""
    name: str = ""
    arguments_json: str = ""


class ReasoningDelta(Struct, frozen=True):
    """A piece of a model's thoughts. Pieces with one index belong together; `text` and `opaque` are to be appended,
    all else holds for all once it is set."""

    index: int
    piece: Reasoning


class Citation(Struct, frozen=True):
    """A source that the model names for its answer. `url` empty: a document of the request, whose name is `title`.
    `quote`: the source's words. `start`, `end`: the characters of the answer's text that it stands for, `end` not
    included; None: not known."""

    url: str = ""
    title: str = ""
    quote: str = ""
    start: int | None = None
    end: int | None = None
