"""A response, whole or as a stream of typed events.

References: https://platform.openai.com/docs/api-reference/responses/object and …/responses-streaming. Nothing is
stored: `store` is always false. Beyond OpenAI's fields a finished response has `pointsman` (see
`account.pointsman_object`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from libs.answer import Delta, Restarted, Result, Selection
from libs.conversation import ToolCallDelta
from libs.types import FinishReason
from services.router.api.openai.account import pointsman_object, responses_usage
from services.router.api.openai.errors import ApiError
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.responses_body import Echo
from services.router.api.openai.responses_request import read_responses

_encode = msgspec.json.Encoder().encode
#: Reasons for which a response is incomplete; OpenAI has no word for an end that is not known to be one.
_INCOMPLETE: dict[FinishReason | None, str | None] = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: None,
    None: None,
}
_DEFAULTS: dict[str, Any] = {
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
}


class ResponsesExchange:
    """Satisfies `exchange.Exchange`."""

    def __init__(self, body: bytes, headers: Mapping[str, str], request_id: str) -> None:
        """Reads the request. Raises ApiError."""
        self.request: ParsedRequest
        self.request, self._echo = read_responses(body, headers, request_id)

    def whole(self, result: Result, created: int) -> bytes:
        """See `Exchange.whole`."""
        output = []
        if result.text or not result.tool_calls:
            item = _Item(0, f"msg_{result.request_id}")
            item.pieces.append(result.text)
            output.append(item)
        for number, call in enumerate(result.tool_calls):
            item = _Item(len(output), f"fc_{result.request_id}_{number}", call.id, call.name)
            item.pieces.append(call.arguments_json)
            output.append(item)
        return _encode(_finished(_Head(self._echo, result.request_id, created), result, output))

    def stream(self, request_id: str, created: int) -> ResponsesStream:
        """See `Exchange.stream`."""
        return ResponsesStream(_Head(self._echo, request_id, created))


@dataclass(slots=True)
class _Head:
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


@dataclass(slots=True)
class _Item:
    """A part of the output: the text, or, where it has a name, a call of a function."""

    index: int
    id: str
    call_id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def place(self) -> dict[str, Any]:
        """The fields by which events refer to it."""
        place = {"item_id": self.id, "output_index": self.index}
        return place if self.name else {**place, "content_index": 0}

    def whole(self, status: str = "completed") -> dict[str, Any]:
        """Returns the item with all of its pieces."""
        text = "".join(self.pieces)
        if self.name:
            call = {"id": self.id, "type": "function_call", "status": status, "arguments": text}
            return {**call, "call_id": self.call_id, "name": self.name}
        content = [_part(text)] if status != "in_progress" else []
        return {
            "id": self.id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _status(result: Result) -> str:
    return "incomplete" if result.finish_reason in _INCOMPLETE else "completed"


def _finished(head: _Head, result: Result, items: list[_Item]) -> dict[str, Any]:
    reason = _INCOMPLETE.get(result.finish_reason)
    return head.response(
        result.selection.target,
        _status(result),
        incomplete_details={"reason": reason} if reason else None,
        output=[item.whole(_status(result)) for item in items],
        usage=responses_usage(result.usage),
        pointsman=pointsman_object(result),
    )


class ResponsesStream:
    """Satisfies `exchange.StreamEncoder`. The text is one output item, each call of a function another; they are
    opened when their first piece comes, and closed when the next one opens."""

    def __init__(self, head: _Head) -> None:
        self._head = head
        self._model = ""
        self._number = 0
        self._items: list[_Item] = []
        self._open: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._delta_prefix = b""

    def begin(self, selection: Selection) -> bytes:
        """Returns the events that create the response and begin it."""
        self._model = selection.target
        response = self._head.response(self._model, "in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def delta(self, delta: Delta) -> bytes:
        """Returns pieces of text and of calls, with the events that open and close their items."""
        events = b""
        if delta.text:
            if self._open is None or self._open.name:
                events = self._close() + self._begin_item(_Item(len(self._items), self._next_id("msg")))
            assert self._open is not None
            self._open.pieces.append(delta.text)
            events += self._piece(delta.text)
        for piece in delta.tool_calls:
            events += self._call(piece)
        return events

    def restarted(self, restarted: Restarted) -> bytes:
        """Ends the items so far as incomplete, and returns an event of Pointsman's own which says that they are
        void."""
        events = self._close("incomplete")
        self._items.clear()
        self._calls.clear()
        self._model = restarted.selection.target
        return events + self._event("pointsman.restarted", from_provider=restarted.from_provider)

    def finish(self, result: Result) -> bytes:
        """Returns the end of the last item, then of the response."""
        events = b""
        if not self._items:
            events = self._begin_item(_Item(0, self._next_id("msg")))
        events += self._close(_status(result))
        response = _finished(self._head, result, self._items)
        return events + self._event(f"response.{_status(result)}", response=response)

    def fail(self, error: ApiError) -> bytes:
        """Returns the failed response, whose error clients see in the last event."""
        output = [item.whole("incomplete") for item in self._items]
        fields = {"code": error.code or error.kind, "message": error.message}
        response = self._head.response(self._model, "failed", error=fields, output=output)
        return self._event("response.failed", response=response)

    def _next_id(self, kind: str) -> str:
        return f"{kind}_{self._head.request_id}_{self._number}"

    def _call(self, piece: ToolCallDelta) -> bytes:
        events = b""
        item = self._calls.get(piece.index)
        if item is None:
            item = _Item(len(self._items), self._next_id("fc"), piece.id, piece.name or "function")
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

    def _begin_item(self, item: _Item) -> bytes:
        self._items.append(item)
        self._open = item
        events = self._event(
            "response.output_item.added", output_index=item.index, item=item.whole("in_progress")
        )
        kind = "response.function_call_arguments.delta" if item.name else "response.output_text.delta"
        if not item.name:
            events += self._event("response.content_part.added", **item.place, part=_part(""))
        constant = _encode({"type": kind, **item.place, **({} if item.name else {"logprobs": []})})[:-1]
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
        text = "".join(item.pieces)
        if item.name:
            kind = "response.function_call_arguments.done"
            events = self._event(kind, **item.place, name=item.name, arguments=text)
        else:
            events = self._event("response.output_text.done", **item.place, logprobs=[], text=text)
            events += self._event("response.content_part.done", **item.place, part=_part(text))
        return events + self._event(
            "response.output_item.done", output_index=item.index, item=item.whole(status)
        )

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = _encode({"type": kind, **fields, "sequence_number": self._number})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
