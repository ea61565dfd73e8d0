"""The output items of a response, whole, and their places in events.

https://platform.openai.com/docs/api-reference/responses/object
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from libs.conversation import Citation, Reasoning
from services.router.api.openai.thoughts import seal


class ItemKind(StrEnum):
    """The kinds of items; a refusal is a message."""

    MESSAGE = "msg"
    REFUSAL = "refusal"
    CALL = "fc"
    THOUGHT = "rs"


@dataclass(slots=True)
class Item:
    """A part of the output: text, a refusal, a call of a function, or thoughts."""

    index: int
    kind: ItemKind
    id: str
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    #: For THOUGHT, once it is whole; and True if the client asked for all that must be sent back.
    thought: Reasoning | None = None
    sealed: bool = False

    @property
    def text(self) -> str:
        """Returns all of its pieces."""
        return "".join(self.pieces)

    @property
    def place(self) -> dict[str, Any]:
        """Returns the fields by which events refer to it."""
        place: dict[str, Any] = {"item_id": self.id, "output_index": self.index}
        if self.kind is ItemKind.THOUGHT:
            return {**place, "summary_index": 0}
        return place if self.kind is ItemKind.CALL else {**place, "content_index": 0}

    def part(self) -> dict[str, Any]:
        """Returns a message's part, with the text so far."""
        if self.kind is ItemKind.REFUSAL:
            return {"type": "refusal", "refusal": self.text}
        return {
            "type": "output_text",
            "annotations": write_annotations(self.citations),
            "logprobs": [],
            "text": self.text,
        }

    def whole(self, status: str = "completed") -> dict[str, Any]:
        """Returns the item with all of its pieces."""
        if self.kind is ItemKind.CALL:
            call = {"id": self.id, "type": "function_call", "status": status, "arguments": self.text}
            return {**call, "call_id": self.call_id, "name": self.name}
        if self.kind is ItemKind.THOUGHT:
            summary = [{"type": "summary_text", "text": self.text}] if self.text else []
            sealed = seal(self.thought) if self.sealed and self.thought is not None else None
            return {"id": self.id, "type": "reasoning", "summary": summary, "encrypted_content": sealed}
        return {
            "id": self.id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [self.part()] if status != "in_progress" else [],
        }


def write_annotations(citations: Sequence[Citation]) -> list[dict[str, Any]]:
    """Returns citations of pages as annotations of a text."""
    return [
        {
            "type": "url_citation",
            "url": citation.url,
            "title": citation.title,
            "start_index": citation.start or 0,
            "end_index": citation.end or 0,
        }
        for citation in citations
        if citation.url
    ]
