"""Builds the whole answer out of a stream's events."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import structs

from libs.answer import Completed, Delta, Event, Restarted, Result
from libs.conversation import Citation, Reasoning, ToolCall


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Thought:
    text: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)
    so_far: Reasoning = field(default_factory=Reasoning)

    def append(self, piece: Reasoning) -> None:
        self.text.append(piece.text)
        self.opaque.append(piece.opaque)
        before = self.so_far
        self.so_far = Reasoning(
            summary=before.summary or piece.summary,
            redacted=before.redacted or piece.redacted,
            kind=before.kind or piece.kind,
            id=before.id or piece.id,
            tool_call_id=before.tool_call_id or piece.tool_call_id,
        )


class TextAssembler:
    """Assembles an answer from every event in order. A `Restarted` discards what came before it, so `text` is always
    what a reader should be shown now."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._thoughts: dict[int, _Thought] = {}
        self._refusal: list[str] = []
        self._citations: list[Citation] = []
        self._result: Result | None = None

    def feed(self, event: Event) -> None:
        """Takes one event in."""
        if isinstance(event, Restarted):
            for held in (self._parts, self._calls, self._thoughts, self._refusal, self._citations):
                held.clear()
        elif isinstance(event, Delta):
            self._parts.append(event.text)
            for piece in event.tool_calls:
                call = self._calls.setdefault(piece.index, _Call())
                call.id = call.id or piece.id
                call.name = call.name or piece.name
                call.arguments.append(piece.arguments_json)
            for thought in event.reasoning:
                self._thoughts.setdefault(thought.index, _Thought()).append(thought.piece)
            self._refusal.append(event.refusal)
            self._citations.extend(event.citations)
        elif isinstance(event, Completed):
            self._result = event.result

    @property
    def text(self) -> str:
        """Returns the answer so far."""
        return "".join(self._parts)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Returns the tool calls so far, in the order of their index."""
        return tuple(
            ToolCall(call.id, call.name, "".join(call.arguments)) for _, call in sorted(self._calls.items())
        )

    @property
    def reasoning(self) -> tuple[Reasoning, ...]:
        """Returns the model's thoughts so far, in the order of their index."""
        return tuple(
            structs.replace(thought.so_far, text="".join(thought.text), opaque="".join(thought.opaque))
            for _, thought in sorted(self._thoughts.items())
        )

    @property
    def result(self) -> Result | None:
        """Returns the account with all that was streamed filled in; None until the stream has completed."""
        if self._result is None:
            return None
        return structs.replace(
            self._result,
            text=self.text,
            tool_calls=self.tool_calls,
            reasoning=self.reasoning,
            refusal="".join(self._refusal),
            citations=tuple(self._citations),
        )
