"""OpenAI responses. Source: platform.openai.com/docs/api-reference/responses and …/responses-streaming."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from time import time
from typing import Any, ClassVar

from dev.simulator.signatures import sign
from dev.simulator.wires import openai_errors
from dev.simulator.wires.answer import Answer, Part, Script, call_id
from dev.simulator.wires.base import (
    Ask,
    BadRequest,
    Problem,
    Reply,
    Tool,
    choose_calls,
    encode,
    mapping,
    media_of,
    positive,
    read_turns,
    sse,
    text_of,
)
from dev.simulator.wires.openai_chat import OpenAIChat


def _read_input(body: dict[str, Any]) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    instructions = body.get("instructions")
    if isinstance(instructions, str) and instructions:
        turns.append(("system", instructions))
    given = body.get("input")
    if isinstance(given, str):
        return [*turns, ("user", given)]
    if not isinstance(given, list) or not given:
        raise BadRequest("Missing required parameter: 'input'.")
    for item in given:
        kind = mapping(item).get("type")
        if kind == "function_call_output":
            turns.append(("tool", text_of(item.get("output"))))
        elif "role" in mapping(item):
            turns.append((str(item["role"]), text_of(item.get("content"))))
    return turns


def _read_calls(body: dict[str, Any], turns: list[tuple[str, str]]) -> tuple[Tool, ...]:
    choice = body.get("tool_choice")
    forced = "" if choice == "required" else mapping(choice).get("name")
    functions = [mapping(tool) for tool in body.get("tools") or () if mapping(tool).get("type") == "function"]
    offered = [
        Tool(str(f.get("name")), mapping(f.get("parameters")), str(f.get("description", "")))
        for f in functions
    ]
    many = body.get("parallel_tool_calls") is not False
    return choose_calls(offered, forced, turns, free=choice != "none", many=many)


def _read_format(body: dict[str, Any]) -> Mapping[str, Any] | None:
    wanted = mapping(mapping(body.get("text")).get("format"))
    if wanted.get("type") == "json_schema":
        return mapping(wanted.get("schema"))
    return {} if wanted.get("type") == "json_object" else None


@dataclass(frozen=True, slots=True)
class _Stream:
    """A way to stream a part: the event's name, the fields that place it and that every delta has, those of its item
    that are still to come, and the part that its text is in."""

    kind: bytes
    place: dict[str, Any]
    more: dict[str, Any]
    empty: dict[str, Any]
    part: str = ""
    type: str = ""

    def make(self, text: str) -> dict[str, Any]:
        """Returns the part with a text."""
        more: dict[str, Any] = {"annotations": [], "logprobs": []} if self.type == "output_text" else {}
        return {"type": self.type, **more, "text": text}


_STREAMS = {
    "text": _Stream(
        b"response.output_text",
        {"content_index": 0},
        {"logprobs": []},
        {"content": [], "status": "in_progress"},
        "content_part",
        "output_text",
    ),
    "call": _Stream(b"response.function_call_arguments", {}, {}, {"arguments": "", "status": "in_progress"}),
}
_SUMMARY = _Stream(
    b"response.reasoning_summary_text",
    {"summary_index": 0},
    {},
    {"summary": []},
    "reasoning_summary_part",
    "summary_text",
)
#: As models with open weights show their thinking.
_RAW = _Stream(
    b"response.reasoning_text", {"content_index": 0}, {}, {"content": []}, "content_part", "reasoning_text"
)


def _thinking_stream(ask: Ask) -> _Stream:
    return _RAW if ask.raw_thoughts else _SUMMARY


def _reasoning(ask: Ask, part: Part, uid: str) -> dict[str, Any]:
    stream = _thinking_stream(ask)
    shown = [stream.make(part.text)] if part.pieces else []
    item: dict[str, Any] = {
        "id": f"rs_{uid}",
        "type": "reasoning",
        "summary": [] if ask.raw_thoughts else shown,
    }
    if ask.raw_thoughts:
        item["content"] = shown
    if ask.keeps_thoughts:
        item["encrypted_content"] = sign("openai", part.text)
    return item


class OpenAIResponses(OpenAIChat):
    """POST …/responses."""

    name: ClassVar[str] = "openai_responses"

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        model = body.get("model") or ""
        if not isinstance(model, str) or not model:
            raise BadRequest("Missing required parameter: 'model'.")
        if "response_format" in body:
            raise BadRequest(
                "Unsupported parameter: 'response_format'. In the Responses API, this parameter has moved to"
                " 'text.format'."
            )
        turns = _read_input(body)
        prompt, characters, prefill = read_turns(turns)
        reasoning = mapping(body.get("reasoning"))
        effort = reasoning.get("effort")
        return Ask(
            model,
            prompt,
            characters,
            stream=body.get("stream") is True,
            prefill=prefill,
            max_tokens=positive(body.get("max_output_tokens"), "max_output_tokens"),
            calls=_read_calls(body, turns),
            thinks=effort not in (None, "none"),
            shows_thoughts=bool(reasoning.get("summary")),
            keeps_thoughts="reasoning.encrypted_content" in (body.get("include") or ()),
            media=media_of(body.get("input")),
            json_schema=_read_format(body),
        )

    def _items(self, ask: Ask, answer: Answer, uid: str, status: str) -> list[dict[str, Any]]:
        """Returns the items of the output, whole."""
        items: list[dict[str, Any]] = []
        calls = 0
        for part in answer.parts:
            if part.kind == "thinking":
                items.append(_reasoning(ask, part, uid))
            elif part.kind == "text":
                items.append(
                    {
                        "id": f"msg_{uid}",
                        "type": "message",
                        "status": status,
                        "content": [self._part(part.text)],
                        "role": "assistant",
                    }
                )
            else:
                item = {
                    "id": f"fc_{uid}_{calls}",
                    "type": "function_call",
                    "status": status,
                    "arguments": part.text,
                    "call_id": call_id(answer, uid, calls, "call_"),
                    "name": part.name,
                }
                items.append({name: value for name, value in item.items() if value is not None})
                calls += 1
        return items

    @staticmethod
    def _part(text: str) -> dict[str, Any]:
        return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}

    def _response(self, ask: Ask, answer: Answer, uid: str, *, done: bool) -> dict[str, Any]:
        short = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(answer.finish or "")
        status = ("incomplete" if short or not answer.finish else "completed") if done else "in_progress"
        usage = None
        if done and answer.usage:
            output = answer.usage.output + answer.usage.reasoning
            usage = {
                "input_tokens": answer.usage.input,
                "input_tokens_details": {"cached_tokens": answer.usage.cache_read},
                "output_tokens": output,
                "output_tokens_details": {"reasoning_tokens": answer.usage.reasoning},
                "total_tokens": answer.usage.input + output,
            }
        return {
            "id": f"resp_{uid}",
            "object": "response",
            "created_at": int(time()),
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": short} if done and short else None,
            "instructions": None,
            "max_output_tokens": ask.max_tokens,
            "model": ask.model,
            "output": self._items(ask, answer, uid, status) if done else [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": usage,
            "metadata": {},
        }

    def unary(self, ask: Ask, answer: Answer, uid: str) -> bytes:
        return encode(self._response(ask, answer, uid, done=True))

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        number = count()

        def event(kind: str, body: dict[str, Any]) -> bytes:
            return sse(encode({"type": kind, **body, "sequence_number": next(number)}), kind)

        begun = {"response": self._response(ask, answer, uid, done=False)}
        opening = event("response.created", begun) + event("response.in_progress", begun)
        pending, events = b"", []
        items = self._items(ask, answer, uid, "completed" if answer.finish else "incomplete")
        for index, (part, item) in enumerate(zip(answer.parts, items, strict=True)):
            stream = _STREAMS[part.kind] if part.kind != "thinking" else _thinking_stream(ask)
            place: dict[str, Any] = {"item_id": item["id"], "output_index": index, **stream.place}
            empty = {**item, **stream.empty}
            added = event("response.output_item.added", {"output_index": index, "item": empty})
            if stream.part and part.pieces:
                added += event(f"response.{stream.part}.added", {**place, "part": stream.make("")})
            if index:
                pending += added
            else:
                opening += added
            rest = b"," + encode({**place, **stream.more})[1:-1]
            head = b'event: %b.delta\ndata: {"type":"%b.delta"%b,"delta":' % (stream.kind, stream.kind, rest)
            for token in part.quoted:
                delta = b'%b%b,"sequence_number":%d}\n\n' % (head, token, next(number))
                events.append(pending + delta)
                pending = b""
            if part.pieces or part.kind == "call":
                name = "arguments" if part.kind == "call" else "text"
                done = {**place, **stream.more, name: part.text}
                pending += event(f"{stream.kind.decode()}.done", done)
                if stream.part:
                    pending += event(
                        f"response.{stream.part}.done", {**place, "part": stream.make(part.text)}
                    )
            pending += event("response.output_item.done", {"output_index": index, "item": item})
        finish = b""
        if answer.finish:
            last = self._response(ask, answer, uid, done=True)
            finish = pending + event(f"response.{last['status']}", {"response": last})
        broken = (
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"\n\n'
        )
        return Script(opening, events, finish, b"", broken)

    def error(self, problem: Problem, uid: str) -> Reply:
        if problem.preset == "context_length" and not problem.message:
            text = (
                "Your input exceeds the context window of this model. Please adjust your input and try again."
            )
            problem = Problem(problem.preset, problem.model, text)
        return super().error(problem, uid)

    def error_event(self, problem: Problem, uid: str) -> bytes:
        fields = openai_errors.details(problem)[1]
        body = {
            "type": "error",
            "code": fields["code"],
            "message": fields["message"],
            "param": fields["param"],
        }
        return sse(encode({**body, "sequence_number": 0}), "error")
