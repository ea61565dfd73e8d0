"""A response as a stream of typed events, and the object that it ends in.

https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from libs.answer import Delta, Restarted, Result, Selection
from libs.conversation import Citation, ReasoningDelta, ToolCallDelta
from libs.thoughts import ThoughtAssembler
from libs.types import FinishReason
from services.router.api.openai.account import pointsman_object, responses_usage
from services.router.api.openai.errors import ApiError
from services.router.api.openai.responses_body import Echo
from services.router.api.openai.responses_items import Item, ItemKind, write_annotations

_encode = msgspec.json.Encoder().encode
#: Reasons for which a response is incomplete; OpenAI has no word for an end that is not known to be one.
_INCOMPLETE: dict[FinishReason | None, str | None] = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: None,
    None: None,
}
PREFIXES = {
    ItemKind.MESSAGE: "msg",
    ItemKind.REFUSAL: "msg",
    ItemKind.CALL: "fc",
    ItemKind.THOUGHT: "rs",
}
_DELTAS = {
    ItemKind.MESSAGE: "response.output_text.delta",
    ItemKind.REFUSAL: "response.refusal.delta",
    ItemKind.CALL: "response.function_call_arguments.delta",
}
_DEFAULTS: dict[str, Any] = {
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
}


@dataclass(slots=True)
class ResponseHead:
    """The part that all states of one response have in common."""

    echo: Echo
    request_id: str
    created: int

    def response(self, model: str, status: str, **more: Any) -> dict[str, Any]:
        """Returns the response object."""
        echoed = {name: getattr(self.echo, name) for name in self.echo.__struct_fields__}
        return {
            "id": f"resp_{self.request_id}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            **{name: value if bytes(value) else _DEFAULTS.get(name) for name, value in echoed.items()},
            "model": model,
            "output": [],
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "usage": None,
            **more,
        }


def _status(result: Result, *, refused: bool) -> str:
    # That of a refusal is no filter, as OpenAI does it.
    if refused:
        return "completed"
    return "incomplete" if result.finish_reason in _INCOMPLETE else "completed"


def finished_response(head: ResponseHead, result: Result, items: list[Item]) -> dict[str, Any]:
    """Returns the response object of a whole answer with these items."""
    status = _status(result, refused=_refused(items))
    reason = _INCOMPLETE.get(result.finish_reason) if status == "incomplete" else None
    return head.response(
        result.selection.target,
        status,
        incomplete_details={"reason": reason} if reason else None,
        output=[item.whole(status) for item in items],
        usage=responses_usage(result.usage),
        pointsman=pointsman_object(result),
    )


def _refused(items: list[Item]) -> bool:
    return any(item.kind is ItemKind.REFUSAL for item in items)


class ResponsesStream:
    """Satisfies `exchange.StreamEncoder`. The text is one output item, each call of a function another; they are
    opened when their first piece comes, and closed when the next one opens. Thoughts are closed at the end: the
    part of them that must be sent back may come last."""

    def __init__(self, head: ResponseHead, *, sealed: bool) -> None:
        """`sealed`: thoughts come with all that must be sent back."""
        self._head = head
        self._sealed = sealed
        self._thoughts = ThoughtAssembler()
        self._thinking: dict[int, Item] = {}
        #: Items so far, those that became void included.
        self._count = 0
        self._model = ""
        self._number = 0
        self._items: list[Item] = []
        self._open: Item | None = None
        self._calls: dict[int, Item] = {}
        #: Sources that came before the text that they stand for.
        self._sources: list[Citation] = []
        self._delta_prefix = b""

    def begin(self, selection: Selection) -> bytes:
        """Returns the events that create the response and begin it."""
        self._model = selection.target
        response = self._head.response(self._model, "in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def delta(self, delta: Delta) -> bytes:
        """Returns pieces of thoughts, text and calls, with the events that open and close their items."""
        events = b""
        if delta.reasoning:
            self._thoughts.feed(delta.reasoning)
            events = b"".join([self._think(piece) for piece in delta.reasoning])
        if delta.text:
            events += self._say(ItemKind.MESSAGE, delta.text)
        if delta.refusal:
            events += self._say(ItemKind.REFUSAL, delta.refusal)
        for citation in delta.citations:
            events += self._cite(citation)
        for piece in delta.tool_calls:
            events += self._call(piece)
        return events

    def restarted(self, restarted: Restarted) -> bytes:
        """Ends the items so far as incomplete, and returns an event of Pointsman's own which says that they are
        void."""
        events = self.void_thoughts() + self._close("incomplete")
        self._items.clear()
        self._calls.clear()
        self._sources.clear()
        self._count = 0
        self._model = restarted.selection.target
        return events + self._event("pointsman.restarted", from_provider=restarted.from_provider)

    def finish(self, result: Result) -> bytes:
        """Returns the end of the last item, then of the response."""
        events = b""
        if all(item.kind is ItemKind.THOUGHT for item in self._items):
            events = self._begin_item(self._new_item(ItemKind.MESSAGE))
        status = _status(result, refused=_refused(self._items))
        events += self._end_thoughts(status) + self._close(status)
        response = finished_response(self._head, result, self._items)
        return events + self._event(f"response.{status}", response=response)

    def void_thoughts(self) -> bytes:
        """Ends the thoughts so far as incomplete, and leaves them out of the response."""
        events = self._end_thoughts("incomplete")
        self._items = [item for item in self._items if item.kind is not ItemKind.THOUGHT]
        self._thoughts.clear()
        return events

    def fail(self, error: ApiError) -> bytes:
        """Returns the failed response, whose error clients see in the last event."""
        output = [item.whole("incomplete") for item in self._items]
        fields = {"code": error.code or error.kind, "message": error.message}
        response = self._head.response(self._model, "failed", error=fields, output=output)
        return self._event("response.failed", response=response)

    def _new_item(self, kind: ItemKind, call_id: str = "", name: str = "") -> Item:
        name_of_item = f"{PREFIXES[kind]}_{self._head.request_id}_{self._number}"
        return Item(self._count, kind, name_of_item, call_id, name)

    def _say(self, kind: ItemKind, text: str) -> bytes:
        events = b""
        if self._open is None or self._open.kind is not kind:
            events = self._close() + self._begin_item(self._new_item(kind))
        assert self._open is not None
        self._open.pieces.append(text)
        events += self._piece(text)
        if self._sources and kind is ItemKind.MESSAGE:
            sources, self._sources = self._sources, []
            events += b"".join(map(self._cite, sources))
        return events

    def _cite(self, citation: Citation) -> bytes:
        item = self._open
        if item is None or item.kind is not ItemKind.MESSAGE:
            self._sources.append(citation)
            return b""
        if not citation.url:
            return b""
        item.citations.append(citation)
        return self._event(
            "response.output_text.annotation.added",
            **item.place,
            annotation_index=len(item.citations) - 1,
            annotation=write_annotations([citation])[0],
        )

    def _think(self, delta: ReasoningDelta) -> bytes:
        piece, item, events = delta.piece, self._thinking.get(delta.index), b""
        if item is None:
            if not (piece.text or self._sealed):
                return b""
            item = self._thinking[delta.index] = self._new_item(ItemKind.THOUGHT)
            item.sealed = self._sealed
            self._add(item)
            whole = item.whole("in_progress")
            events = self._event("response.output_item.added", output_index=item.index, item=whole)
        if not piece.text:
            return events
        if not item.pieces:
            part = {"type": "summary_text", "text": ""}
            events += self._event("response.reasoning_summary_part.added", **item.place, part=part)
        item.pieces.append(piece.text)
        kind = "response.reasoning_summary_text.delta"
        return events + self._event(kind, **item.place, delta=piece.text)

    def _end_thoughts(self, status: str) -> bytes:
        events = b""
        whole = dict(zip(self._thoughts.indexes(), self._thoughts.whole(), strict=True))
        for index, item in self._thinking.items():
            item.thought = whole[index]
            if text := item.text:
                part = {"type": "summary_text", "text": text}
                events += self._event("response.reasoning_summary_text.done", **item.place, text=text)
                events += self._event("response.reasoning_summary_part.done", **item.place, part=part)
            done = item.whole(status)
            events += self._event("response.output_item.done", output_index=item.index, item=done)
        self._thinking.clear()
        return events

    def _call(self, piece: ToolCallDelta) -> bytes:
        events = b""
        item = self._calls.get(piece.index)
        if item is None:
            item = self._new_item(ItemKind.CALL, piece.id, piece.name or "function")
            self._calls[piece.index] = item
            events = self._close() + self._begin_item(item)
        item.pieces.append(piece.arguments_json)
        if not piece.arguments_json:
            return events
        if item is self._open:
            return events + self._piece(piece.arguments_json)
        # Pieces of two calls in turns: rare enough to be spelt out.
        kind = "response.function_call_arguments.delta"
        return events + self._event(kind, **item.place, delta=piece.arguments_json)

    def _add(self, item: Item) -> None:
        self._items.append(item)
        self._count += 1

    def _begin_item(self, item: Item) -> bytes:
        self._add(item)
        self._open = item
        events = self._event(
            "response.output_item.added", output_index=item.index, item=item.whole("in_progress")
        )
        kind = _DELTAS[item.kind]
        if item.kind is not ItemKind.CALL:
            events += self._event("response.content_part.added", **item.place, part=item.part())
        more: dict[str, Any] = {"logprobs": []} if item.kind is ItemKind.MESSAGE else {}
        constant = _encode({"type": kind, **item.place, **more})[:-1]
        self._delta_prefix = b'event: %b\ndata: %b,"delta":' % (kind.encode(), constant)
        return events

    def _piece(self, text: str) -> bytes:
        event = b'%b%b,"sequence_number":%d}\n\n' % (self._delta_prefix, _encode(text), self._number)
        self._number += 1
        return event

    def _close(self, status: str = "completed") -> bytes:
        item, self._open = self._open, None
        if item is None:
            return b""
        if item.kind is ItemKind.CALL:
            kind = "response.function_call_arguments.done"
            events = self._event(kind, **item.place, name=item.name, arguments=item.text)
        elif item.kind is ItemKind.REFUSAL:
            events = self._event("response.refusal.done", **item.place, refusal=item.text)
            events += self._event("response.content_part.done", **item.place, part=item.part())
        else:
            events = self._event("response.output_text.done", **item.place, logprobs=[], text=item.text)
            events += self._event("response.content_part.done", **item.place, part=item.part())
        return events + self._event(
            "response.output_item.done", output_index=item.index, item=item.whole(status)
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = _encode({"type": kind, **fields, "sequence_number": self._number})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
