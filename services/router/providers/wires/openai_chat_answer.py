"""Reads answers of chat completions, whole and streamed, in one dialect.

https://platform.openai.com/docs/api-reference/chat/object and …/chat-streaming
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.conversation import Citation, Reasoning, ToolCall
from libs.types import FinishReason, Usage
from services.router.providers.wires.chat_thoughts import Details, text_of_thoughts, whole_detail
from services.router.providers.wires.citations import read_annotations, read_search_results
from services.router.providers.wires.errors import classify_inside, malformed, read_finish
from services.router.providers.wires.fields import (
    as_count,
    as_dict,
    as_json_text,
    as_list,
    as_str,
    first_count,
    text_of,
)
from services.router.providers.wires.openai_compatible import Dialect
from services.router.providers.wires.sse import Event
from services.router.providers.wires.stream import Decoder
from services.router.providers.wires.whole_answer import WholeThoughts, complete, read_calls
from services.router.request.generation import Completion, StreamEvent
from services.router.request.usage import told_usage

FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "sensitive": FinishReason.CONTENT_FILTER,
}


#: Fields of a message that hold thoughts; so may its content.
_THOUGHTS = frozenset(("reasoning_content", "reasoning", "reasoning_details"))


class OpenAIChatDecoder(Decoder):
    """Decodes `chat.completion.chunk` events."""

    __slots__ = ("_details", "_dialect", "_refused", "_sources", "reasonless")

    def __init__(self, dialect: Dialect, *, may_be_empty: bool = False) -> None:
        super().__init__(may_be_empty=may_be_empty)
        self._dialect = dialect
        self._details = Details()
        self._refused = False
        #: Sources that stand beside the answer come again with each chunk.
        self._sources = False
        self.reasonless = dialect.reasonless

    def _event(self, event: Event, out: list[StreamEvent]) -> None:
        if event.data == b"[DONE]" or event.data.strip() == b"[DONE]":
            self._end_thoughts(out)
            self.done = True
            return
        super()._event(event, out)

    def _read(self, name: str, data: Any, out: list[StreamEvent]) -> None:
        data = as_dict(data)
        groq = as_dict(data.get("x_groq"))
        usage = data.get("usage") or groq.get("usage")
        if usage:
            self._tell(read_usage(usage, self._dialect))
        if is_error(data) or groq.get("error") or name == "error":
            raise classify_inside(groq if groq.get("error") else data, self.usage)
        if not self.model:
            self.model = as_str(data.get("model"))
        for choice in map(as_dict, as_list(data.get("choices"))):
            if choice.get("index"):
                # Only the first of several answers was asked for.
                continue
            delta, reason = as_dict(choice.get("delta")), choice.get("finish_reason")
            if not delta and not self.has_content and (reason or "delta" not in choice):
                # A server that does not stream sends one whole message. Perplexity repeats all of it with each delta.
                delta = as_dict(choice.get("message"))
            if delta:
                self._think(delta, out)
            content = delta.get("content") if delta else choice.get("text")
            if content:
                self._add_text(content if type(content) is str else text_of(content), out)
            if delta.get("refusal"):
                self._refused = True
                self._add_refusal(as_str(delta["refusal"]), out)
            if delta.get("annotations"):
                out.extend(read_annotations(delta["annotations"]))
            for call in as_list(delta.get("tool_calls")):
                self._call(as_dict(call), out)
            if legacy := as_dict(delta.get("function_call")):
                self._call({"index": 0, "function": legacy}, out)
            if reason == "error" or choice.get("error"):
                raise classify_inside(choice, self.usage)
            if reason:
                self._end_thoughts(out)
                self._set_finish(reason_of(choice), FINISH_REASONS)
                if self._refused and self.finish is not None:
                    self.finish = FinishReason.CONTENT_FILTER

        if not self._sources and (data.get("citations") or data.get("search_results")):
            self._sources = True
            out.extend(read_search_results(data))

    def _think(self, delta: Mapping[str, Any], out: list[StreamEvent]) -> None:
        details = as_list(delta.get("reasoning_details"))
        for detail in map(as_dict, details):
            self._add_reasoning(*self._details.add(detail), out)
        if not details:
            self._add_reasoning("", Reasoning(text_of_thoughts(delta)), out)

    def _end_thoughts(self, out: list[StreamEvent]) -> None:
        for index, rest in self._details.end():
            self._add_reasoning(index, rest, out)

    def _call(self, call: Mapping[str, Any], out: list[StreamEvent]) -> None:
        function = as_dict(call.get("function"))
        self._add_tool_call(
            as_count(call.get("index")),
            as_str(call.get("id")),
            as_str(function.get("name")),
            as_json_text(function.get("arguments")),
            out,
        )


def reason_of(choice: Mapping[str, Any]) -> str:
    """Returns why a choice ended: a word, or an object with the word as its type (SGLang's native answers)."""
    reason = choice.get("finish_reason")
    return as_str(as_dict(reason).get("type")) if type(reason) is dict else as_str(reason)


def is_error(data: Mapping[str, Any]) -> bool:
    """Returns True if a 200's JSON is an error after all."""
    return (
        bool(data.get("error"))
        or data.get("object") == "error"
        or ("detail" in data and "choices" not in data)
    )


def read_completion(data: Mapping[str, Any], dialect: Dialect) -> Completion:
    """Reads a whole chat completion. Raises ProviderFailure."""
    usage = read_usage(data.get("usage"), dialect)
    if is_error(data):
        raise classify_inside(data, usage)
    choices = as_list(data.get("choices"))
    choice = as_dict(choices[0]) if choices else {}
    if not choice:
        raise malformed("the answer holds no choice", usage)
    message = as_dict(choice.get("message"))
    text = text_of(message.get("content")) or as_str(choice.get("text"))
    calls = _tool_calls(message)
    reason = reason_of(choice)
    if reason == "error" or choice.get("error"):
        raise classify_inside(choice, usage)
    finish = read_finish(reason, FINISH_REASONS, usage)
    if not reason and calls:
        finish = FinishReason.TOOL_CALLS
    refusal = as_str(message.get("refusal"))
    if refusal and not text:
        finish = FinishReason.CONTENT_FILTER
    return complete(
        text,
        finish,
        usage,
        calls,
        as_str(data.get("model")),
        reasoning=_read_thoughts(message),
        refusal=refusal,
        citations=_read_citations(message, data),
    )


def _read_citations(message: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[Citation, ...]:
    if not (message.get("annotations") or data.get("search_results") or data.get("citations")):
        return ()
    return (*read_annotations(message.get("annotations")), *read_search_results(data))


def _read_thoughts(message: Mapping[str, Any]) -> tuple[Reasoning, ...]:
    if type(message.get("content")) is not list and _THOUGHTS.isdisjoint(message):
        return ()
    found = WholeThoughts()
    details = as_list(message.get("reasoning_details"))
    for detail in map(as_dict, details):
        found.add(whole_detail(detail))
    if not details:
        found.add(Reasoning(text_of_thoughts(message)))
    return found.whole()


def read_usage(value: Any, dialect: Dialect) -> Usage | None:
    """Reads usage; None where no count is given."""
    usage = as_dict(value)
    prompt, output = as_count(usage.get("prompt_tokens")), as_count(usage.get("completion_tokens"))
    inputs = as_dict(usage.get("prompt_tokens_details"))
    outputs = as_dict(usage.get("completion_tokens_details"))
    cached = first_count(
        inputs.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens")
    )
    written = as_count(inputs.get("cache_write_tokens")) or 0
    reasoning = first_count(outputs.get("reasoning_tokens"), usage.get("reasoning_tokens"))
    if output is not None:
        if dialect.reasoning_apart:
            output += reasoning
        for name in dialect.output_apart:
            output += first_count(usage.get(name))
    return told_usage(prompt, output, cached, written, reasoning)


def _tool_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    if message.get("tool_calls") and (calls := read_calls(message)):
        return calls
    legacy = message.get("function_call")
    if legacy and (name := as_str(as_dict(legacy).get("name"))):
        return (ToolCall("", name, as_json_text(legacy.get("arguments"))),)
    return ()
