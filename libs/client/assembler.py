"""Builds the whole answer out of a stream's events."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import structs

from libs.answer import Completed, Delta, Event, Restarted, Result
from libs.conversation import Citation, Reasoning, ToolCall
from libs.thoughts import ThoughtAssembler


@dataclass(slots=True)
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class TextAssembler:
    """Assembles an answer from every event in order. A `Restarted` discards what came before it, so `text` is always
    what a reader should be shown now."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._thoughts = ThoughtAssembler()
        self._refusal: list[str] = []
        self._citations: list[Citation] = []
        self._result: Result | None = None

    def feed(self, event: Event) -> None:
        """Takes one event in."""
        if isinstance(event, Restarted):
            self._thoughts.clear()
            for held in (self._parts, self._calls, self._refusal, self._citations):
                held.clear()
        elif isinstance(event, Delta):
            self._parts.append(event.text)
            for piece in event.tool_calls:
                call = self._calls.setdefault(piece.index, _Call())
                call.id = call.id or piece.id
                call.name = call.name or piece.name
                call.arguments.append(piece.arguments_json)
            self._thoughts.feed(event.reasoning)
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
        return self._thoughts.whole()

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
