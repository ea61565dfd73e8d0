"""OpenAI responses. Source: platform.openai.com/docs/api-reference/responses and …/responses-streaming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from time import time
from typing import Any, ClassVar

from dev.simulator.wires import openai_errors
from dev.simulator.wires.base import (
    Answer,
    Ask,
    BadRequest,
    Problem,
    Reply,
    Script,
    Tool,
    choose_tool,
    encode,
    mapping,
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
    messages = [item for item in given if isinstance(item, dict) and "role" in item]
    return [*turns, *((str(item["role"]), text_of(item.get("content"))) for item in messages)]


def _read_tool(body: dict[str, Any]) -> Tool | None:
    choice = body.get("tool_choice")
    name = "" if choice == "required" else mapping(choice).get("name")
    functions = [mapping(tool) for tool in body.get("tools") or () if mapping(tool).get("type") == "function"]
    return choose_tool([Tool(str(f.get("name")), mapping(f.get("parameters"))) for f in functions], name)


def _read_format(body: dict[str, Any]) -> Mapping[str, Any] | None:
    wanted = mapping(mapping(body.get("text")).get("format"))
    if wanted.get("type") == "json_schema":
        return mapping(wanted.get("schema"))
    return {} if wanted.get("type") == "json_object" else None


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
        prompt, characters, prefill = read_turns(_read_input(body))
        return Ask(
            model,
            prompt,
            characters,
            stream=body.get("stream") is True,
            prefill=prefill,
            max_tokens=positive(body.get("max_output_tokens"), "max_output_tokens"),
            tool=_read_tool(body),
            json_schema=_read_format(body),
        )

    def _item(self, answer: Answer, uid: str, status: str, text: str) -> dict[str, Any]:
        if answer.tool:
            return {
                "id": f"fc_{uid}",
                "type": "function_call",
                "status": status,
                "arguments": text,
                "call_id": f"call_{uid}",
                "name": answer.tool,
            }
        content = [self._part(text)] if status != "in_progress" else []
        return {
            "id": f"msg_{uid}",
            "type": "message",
            "status": status,
            "content": content,
            "role": "assistant",
        }

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
            "output": [self._item(answer, uid, status, answer.text)] if done else [],
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

        place: dict[str, Any] = {"item_id": f"fc_{uid}" if answer.tool else f"msg_{uid}", "output_index": 0}
        begun = self._response(ask, answer, uid, done=False)
        item = self._item(answer, uid, "in_progress", "")
        opening = event("response.created", {"response": begun}) + event(
            "response.in_progress", {"response": begun}
        )
        opening += event("response.output_item.added", {"output_index": 0, "item": item})
        if answer.tool:
            kind = "response.function_call_arguments"
            done = {**place, "arguments": answer.text}
        else:
            kind = "response.output_text"
            place["content_index"] = 0
            done = {**place, "logprobs": [], "text": answer.text}
            opening += event("response.content_part.added", {**place, "part": self._part("")})
        rest = b"," + encode(place)[1:-1] + (b"" if answer.tool else b',"logprobs":[]')
        prefix = b'event: %b.delta\ndata: {"type":"%b.delta"%b,"delta":' % (
            kind.encode(),
            kind.encode(),
            rest,
        )
        deltas = [
            b'%b%b,"sequence_number":%d}\n\n' % (prefix, token, next(number)) for token in answer.quoted
        ]
        finish = b"".join(self._finish(ask, answer, uid, kind, done, event)) if answer.finish else b""
        return Script(opening, deltas, finish, b"", prefix + b'"\n\n')

    def _finish(
        self, ask: Ask, answer: Answer, uid: str, kind: str, done: dict[str, Any], event: Any
    ) -> Iterator[bytes]:
        last = self._response(ask, answer, uid, done=True)
        yield event(f"{kind}.done", done)
        if not answer.tool:
            part = {name: done[name] for name in ("item_id", "output_index", "content_index")}
            yield event("response.content_part.done", {**part, "part": self._part(answer.text)})
        yield event("response.output_item.done", {"output_index": 0, "item": last["output"][0]})
        yield event(f"response.{last['status']}", {"response": last})

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
