"""Decodes the stream of OpenAI's responses API, and reads the ends of its answers.

Servers differ in what they stream: OpenAI sends every piece and then all of it again, three times over (the part, the
item, the response); others send an item whole, or nothing before the finished response. So the text
of later events is taken only where it did not come before. Of thoughts their encrypted form is whole in the finished
item alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from libs.conversation import Reasoning, ToolCall
from libs.types import FinishReason, Usage
from services.router.providers.wires.citations import read_annotations
from services.router.providers.wires.errors import classify_inside, cut_off, failure_of_reason
from services.router.providers.wires.fields import (
    MAX_ITEMS,
    as_count,
    as_dict,
    as_json_text,
    as_list,
    as_str,
    join_halves,
)
from services.router.providers.wires.responses_output import (
    ANSWER_TEXT,
    BETWEEN,
    REASONING,
    call_id,
    calls_of,
    texts_of,
    thought_of,
    thoughts_of,
)
from services.router.providers.wires.sse import Event
from services.router.providers.wires.stream import Decoder
from services.router.request.generation import ProviderFailure, StreamEvent
from services.router.request.usage import merge_usage, told_usage

_INCOMPLETE = {
    "max_output_tokens": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_PIECES = ("response.output_text.delta", "response.refusal.delta")
_PARTS = ("response.output_text.done", "response.refusal.done", "response.content_part.done")
#: Events of thoughts → True: of a summary of them.
_THOUGHT_PIECES = {"response.reasoning_text.delta": False, "response.reasoning_summary_text.delta": True}
_THOUGHT_PARTS = {"response.reasoning_text.done": False, "response.reasoning_summary_text.done": True}
#: Types of parts that are thoughts, or summaries of them.
_REASONING_PARTS = ("reasoning_text", "summary_text")
_ENDS = ("response.completed", "response.incomplete", "response.done")


#: Places of calls that only the finished response holds; no item has one like it.
_ONLY_AT_THE_END = -1_000_000


@dataclass(slots=True)
class _Thinking:
    """An item of thoughts: the parts that came, and whether they are summaries; None: none came."""

    parts: set[int] = field(default_factory=set)
    summary: bool | None = None
    #: The finished item came.
    finished: bool = False


class ResponsesDecoder(Decoder):
    """Decodes response.* events. The terminator is response.completed or response.incomplete."""

    __slots__ = ("_begun", "_calls", "_items", "_parts", "_refused", "_texts", "_thinking", "_with_arguments")

    def __init__(self, *, may_be_empty: bool = False) -> None:
        super().__init__(may_be_empty=may_be_empty)
        self._refused = False
        #: All text so far, and the (item, part) it belongs to.
        self._texts: list[str] = []
        self._parts: set[tuple[int, int]] = set()
        #: Places of items that are thoughts → what is known of each.
        self._thinking: dict[int, _Thinking] = {}
        #: Places of items that have an id but no index.
        self._items: dict[str, int] = {}
        #: Places of calls by their id, of those that have begun, and of those whose arguments came.
        self._calls: dict[str, int] = {}
        self._begun: set[int] = set()
        self._with_arguments: set[int] = set()

    def _event(self, event: Event, out: list[StreamEvent]) -> None:
        if event.data.strip() == b"[DONE]":
            return
        super()._event(event, out)

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        data = as_dict(data)
        kind = as_str(data.get("type")) or name
        if kind in _PIECES:
            refused = "refusal" in kind
            self._add_part(self._part(data), as_str(data.get("delta")), out, refused=refused)
        elif kind in _PARTS:
            part = as_dict(data.get("part"))
            # Only the event that ends any part has one, with a type of its own.
            answer = not part or part.get("type") in ANSWER_TEXT
            self._whole(self._part(data), part or data, out, answer=answer)
        elif kind in _THOUGHT_PIECES:
            self._think(data, as_str(data.get("delta")), out, summary=_THOUGHT_PIECES[kind])
        elif kind in _THOUGHT_PARTS:
            self._think(data, as_str(data.get("text")), out, summary=_THOUGHT_PARTS[kind], whole=True)
        elif kind == "response.output_text.annotation.added":
            out.extend(read_annotations([data.get("annotation")]))
        elif kind == "response.function_call_arguments.delta":
            place = self._place(data)
            # Of a call that has not begun they come again, whole, when it does.
            if place in self._begun:
                self._with_arguments.add(place)
                self._add_tool_call(place, "", "", as_str(data.get("delta")), out)
        elif kind == "response.function_call_arguments.done":
            self._arguments(self._place(data), data.get("arguments"), out)
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._item(data, out, done=kind.endswith("done"))
        elif kind in _ENDS:
            self._finished(as_dict(data.get("response")), out)
        elif kind in ("response.failed", "response.cancelled"):
            response = as_dict(data.get("response"))
            usage = merge_usage(self.usage, usage_of(response))
            raise unfinished_failure(response, usage, kind.removeprefix("response."))
        elif kind == "error" or (data.get("error") and not kind.startswith("response.")):
            raise classify_inside(data, usage=self.usage)

    def _add_part(
        self, part: tuple[int, int], text: str, out: list[StreamEvent], *, refused: bool = False
    ) -> None:
        if text:
            self._parts.add(part)
            self._texts.append(text)
            if refused:
                self._refused = True
                self._add_refusal(text, out)
            else:
                self._add_text(text, out)

    def _whole(
        self, at: tuple[int, int], part: Mapping[str, Any], out: list[StreamEvent], *, answer: bool
    ) -> None:
        """Adds a finished part where it did not come before. `answer`: its text is known to be the answer's."""
        kind = part.get("type")
        if kind in _REASONING_PARTS or at[0] in self._thinking:
            self._think_part(at, as_str(part.get("text")), out, summary=kind == "summary_text", whole=True)
        elif at not in self._parts:
            if refusal := as_str(part.get("refusal")):
                self._add_part(at, refusal, out, refused=True)
            elif answer:
                self._add_part(at, as_str(part.get("text")), out)

    def _think(
        self,
        data: Mapping[str, Any],
        text: str,
        out: list[StreamEvent],
        *,
        summary: bool,
        whole: bool = False,
    ) -> None:
        number = as_count(data.get("summary_index" if summary else "content_index")) or 0
        self._think_part((self._place(data), number), text, out, summary=summary, whole=whole)

    def _think_part(
        self, at: tuple[int, int], text: str, out: list[StreamEvent], *, summary: bool, whole: bool
    ) -> None:
        """Adds a piece of thoughts, or a `whole` part of them where none of it came before. An item shows either its
        thoughts or summaries of them; only the first kind that comes is taken."""
        known = self._thinking.setdefault(at[0], _Thinking())
        if not text or known.summary not in (None, summary) or (whole and at[1] in known.parts):
            return
        between = BETWEEN if known.parts and at[1] not in known.parts else ""
        known.summary = summary
        known.parts.add(at[1])
        self._add_reasoning(at[0], Reasoning(between + text, summary=summary), out)

    def _item(self, data: Mapping[str, Any], out: list[StreamEvent], *, done: bool) -> None:
        item = as_dict(data.get("item"))
        place = self._place({**data, "item_id": item.get("id")})
        if item.get("type") == "function_call":
            self._calls[call_id(item)] = place
            self._begun.add(place)
            self._add_tool_call(place, call_id(item), as_str(item.get("name")), "", out)
            if done:
                self._arguments(place, item.get("arguments"), out)
        elif item.get("type") == REASONING:
            self._thinking.setdefault(place, _Thinking())
            if done:
                self._thought(place, thought_of(item), out)
        elif item.get("type") == "message" and done:
            for number, part in enumerate(map(as_dict, as_list(item.get("content")))):
                answer = part.get("type", "output_text") in ANSWER_TEXT
                self._whole((place, number), part, out, answer=answer)

    def _thought(self, place: int, thought: Reasoning, out: list[StreamEvent]) -> None:
        """Adds the part of a finished item of thoughts that did not come before."""
        known = self._thinking.setdefault(place, _Thinking())
        if known.finished:
            return
        known.finished = True
        shown = bool(known.parts)
        self._add_reasoning(
            place,
            structs.replace(
                thought,
                text="" if shown else thought.text,
                summary=bool(known.summary) if shown else thought.summary,
                redacted=thought.redacted and not shown,
            ),
            out,
        )

    def _arguments(self, place: int, arguments: Any, out: list[StreamEvent]) -> None:
        text = as_json_text(arguments)
        if text and place in self._begun and place not in self._with_arguments:
            self._with_arguments.add(place)
            self._add_tool_call(place, "", "", text, out)

    def _finished(self, response: Mapping[str, Any], out: list[StreamEvent]) -> None:
        self.model = as_str(response.get("model")) or self.model
        self._tell(usage_of(response))
        output = as_list(response.get("output"))
        if not any(known.finished for known in self._thinking.values()):
            self._missing_thoughts(output, out)
        texts = list(texts_of(output))
        so_far, whole = join_halves("".join(self._texts)), "".join(text for text, _ in texts)
        # Items are numbered and named differently here by some servers, so the text alone shows what is missing.
        if len(whole) > len(so_far) and whole.startswith(so_far):
            refused = not so_far and any(refused for _, refused in texts)
            self._add_part((_ONLY_AT_THE_END, 0), whole[len(so_far) :], out, refused=refused)
        self._missing_calls(calls_of(output), out)
        self.finish = finish_of(
            response, calls=self._tools.count > 0, refused=self._refused, usage=self.usage
        )
        self.done = True

    def _missing_thoughts(self, output: Sequence[Any], out: list[StreamEvent]) -> None:
        """Adds thoughts of which no finished item came. Their items have the order in which they began."""
        places = list(self._thinking)
        for number, thought in enumerate(thoughts_of(output)):
            place = places[number] if number < len(places) else _ONLY_AT_THE_END - number
            self._thought(place, thought, out)

    def _missing_calls(self, whole: Sequence[ToolCall], out: list[StreamEvent]) -> None:
        new = self._tools.count < len(whole)
        for number, call in enumerate(whole):
            place = self._calls.get(call.id)
            if place is not None:
                self._arguments(place, call.arguments_json, out)
            elif new:
                self._add_tool_call(_ONLY_AT_THE_END - number, call.id, call.name, call.arguments_json, out)

    def _part(self, data: Mapping[str, Any]) -> tuple[int, int]:
        return self._place(data), as_count(data.get("content_index")) or 0

    def _place(self, data: Mapping[str, Any]) -> int:
        """Returns the number of the item that an event belongs to."""
        index = as_count(data.get("output_index"))
        if index is not None:
            return index
        item = as_str(data.get("item_id"))
        if not item or len(self._items) >= MAX_ITEMS:
            return self._items.get(item, 0)
        return self._items.setdefault(item, -1 - len(self._items))


def finish_of(
    response: Mapping[str, Any], *, calls: bool, refused: bool, usage: Usage | None
) -> FinishReason:
    """Returns the reason why a response ended. Raises ProviderFailure where it did not end but was broken off."""
    status = response.get("status")
    if status not in ("completed", "incomplete", None):
        raise unfinished_failure(response, usage, as_str(status))
    if refused:
        return FinishReason.CONTENT_FILTER
    if status == "incomplete":
        reason = as_str(as_dict(response.get("incomplete_details")).get("reason"))
        return _INCOMPLETE.get(reason, FinishReason.OTHER)
    # The wire has no finish reason for tool calls.
    return FinishReason.TOOL_CALLS if calls else FinishReason.STOP


def unfinished_failure(response: Mapping[str, Any], usage: Usage | None, status: str) -> ProviderFailure:
    """Returns the failure of a response that is not complete; its error, where it names one, says more than its
    status."""
    if response.get("error"):
        return classify_inside(response, usage=usage)
    return failure_of_reason(status, usage) or cut_off(usage)


def usage_of(response: Mapping[str, Any]) -> Usage | None:
    """Reads usage; None where no count is given."""
    usage = as_dict(response.get("usage"))
    details = as_dict(usage.get("input_tokens_details"))
    return told_usage(
        as_count(usage.get("input_tokens")),
        as_count(usage.get("output_tokens")),
        as_count(details.get("cached_tokens")) or 0,
        as_count(details.get("cache_write_tokens")) or 0,
        as_count(as_dict(usage.get("output_tokens_details")).get("reasoning_tokens")) or 0,
    )
