"""Puts a model's streamed thoughts together, for the router's doors and its callers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import structs

from libs.conversation import Reasoning, ReasoningDelta


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

    def whole(self) -> Reasoning:
        return structs.replace(self.so_far, text="".join(self.text), opaque="".join(self.opaque))


class ThoughtAssembler:
    """The thoughts of one answer so far."""

    __slots__ = ("_thoughts",)

    def __init__(self) -> None:
        self._thoughts: dict[int, _Thought] = {}

    def feed(self, pieces: Iterable[ReasoningDelta]) -> None:
        """Takes pieces in."""
        for piece in pieces:
            self._thoughts.setdefault(piece.index, _Thought()).append(piece.piece)

    def clear(self) -> None:
        """Forgets all: the answer begins anew."""
        self._thoughts.clear()

    def indexes(self) -> list[int]:
        """Returns the indexes of the thoughts, in their order."""
        return sorted(self._thoughts)

    def whole(self) -> tuple[Reasoning, ...]:
        """Returns the thoughts in the order of their index."""
        return tuple(thought.whole() for _, thought in sorted(self._thoughts.items()))
