"""OpenAI chat completions; Mistral, Groq, DeepSeek, xAI, vLLM and the like speak it too.

Source: platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from time import time
from typing import Any, ClassVar

from dev.simulator.wires import openai_errors
from dev.simulator.wires.answer import Answer, Part, Script, Usage, call_id, lay_out
from dev.simulator.wires.base import (
    Ask,
    BadRequest,
    Problem,
    Quota,
    Reply,
    Tool,
    bearer,
    choose_calls,
    encode,
    mapping,
    media_of,
    positive,
    read_turns,
    sse,
    strings,
    text_of,
)

_FINISH = {"stop_sequence": "stop"}


def usage_of(usage: Usage) -> dict[str, Any]:
    """The `usage` object: input includes cached, output includes reasoning."""
    output = usage.output + usage.reasoning
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": output,
        "total_tokens": usage.input + output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def read_messages(messages: Any) -> list[tuple[str, str]]:
    """(role, text) turns, the system's first, raising BadRequest."""
    if not isinstance(messages, list) or not messages:
        raise BadRequest("Invalid 'messages': empty array. Expected an array with minimum length 1.")
    turns = []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(f"Missing required parameter: 'messages[{index}].role'.")
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            raise BadRequest(
                f"Invalid type for 'messages[{index}].content': expected one of a string or array of objects."
            )
        turns.append((message["role"], text_of(content)))
    return turns


def read_tools(tools: Any) -> list[Tool]:
    """The functions of a chat `tools` list."""
    functions = [mapping(mapping(tool).get("function")) for tool in tools or ()]
    return [
        Tool(
            str(function.get("name")),
            mapping(function.get("parameters")),
            str(function.get("description", "")),
        )
        for function in functions
    ]


def forced_tool(choice: Any) -> str | None:
    """The name in `tool_choice`; empty for "required" ("any" at Mistral); None where no call is forced."""
    if choice in ("required", "any"):
        return ""
    return mapping(mapping(choice).get("function")).get("name")


def read_format(wanted: Any) -> Mapping[str, Any] | None:
    """The schema in `response_format`; empty for any object; None for text."""
    wanted = mapping(wanted)
    if wanted.get("type") == "json_schema":
        return mapping(mapping(wanted.get("json_schema")).get("schema"))
    return {} if wanted.get("type") == "json_object" else None


def _call(ask: Ask, answer: Answer, uid: str, number: int) -> dict[str, Any]:
    """Returns the fields of a call that come first."""
    identifier = call_id(answer, uid, number, "call_")
    if ask.vendor == "mistral" and answer.odd.ids == "own":
        # Nine letters and digits, as Mistral's are.
        identifier = hashlib.blake2b(f"{uid}{number}".encode(), digest_size=8).hexdigest()[:9]
    call = {"id": identifier, "type": "function"}
    return {name: value for name, value in call.items() if value is not None}


class OpenAIChat:
    """POST …/chat/completions."""

    name: ClassVar[str] = "openai_chat"
    stream_content_type: ClassVar[str] = "text/event-stream; charset=utf-8"

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        turns = read_messages(body.get("messages"))
        model = model or body.get("model") or ""
        if not isinstance(model, str) or not model:
            raise BadRequest("you must provide a model parameter")
        prompt, characters, prefill = read_turns(turns)
        # As DeepSeek thinks, and shows it.
        thinks = mapping(body.get("thinking")).get("type") == "enabled" or "reasoner" in model
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        return Ask(
            model,
            prompt,
            characters,
            stream=body.get("stream") is True,
            prefill=prefill,
            max_tokens=positive(limit, "max_tokens"),
            calls=choose_calls(
                read_tools(body.get("tools")),
                forced_tool(body.get("tool_choice")),
                turns,
                free=body.get("tool_choice") != "none",
                many=body.get("parallel_tool_calls") is not False,
            ),
            thinks=thinks,
            shows_thoughts=thinks,
            media=media_of(body.get("messages")),
            json_schema=read_format(body.get("response_format")),
            stop=strings(body.get("stop")),
            seed=body.get("seed"),
            include_usage=mapping(body.get("stream_options")).get("include_usage") is True,
        )

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        return bearer(headers)

    def headers(self, uid: str, quota: Quota) -> list[tuple[str, str]]:
        return [
            ("x-request-id", f"req_{uid}"),
            ("openai-version", "2020-10-01"),
            ("openai-processing-ms", "7"),
            *openai_errors.quota_headers(quota),
        ]

    def unary(self, ask: Ask, answer: Answer, uid: str) -> bytes:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text,
            "refusal": None,
            "annotations": [],
        }
        if answer.calls:
            message["content"] = answer.text or None
            message["tool_calls"] = [
                {**_call(ask, answer, uid, number), "function": {"name": part.name, "arguments": part.text}}
                for number, part in enumerate(answer.calls)
            ]
        if answer.thought is not None:
            message["reasoning_content"] = answer.thought
        finish = answer.finished(_FINISH)
        body = {
            "id": f"chatcmpl-{uid}",
            "object": "chat.completion",
            "created": int(time()),
            "model": ask.model,
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": finish, **self.extra()}
            ],
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        }
        if answer.usage:
            body["usage"] = usage_of(answer.usage)
        return encode(body)

    def extra(self) -> dict[str, Any]:
        """Returns the fields that a derived API adds to every choice."""
        return {}

    def preamble(self) -> bytes:
        """Returns the chunk that a derived API sends before the first one."""
        return b""

    def script(self, ask: Ask, answer: Answer, uid: str) -> Script:
        common = {
            "id": f"chatcmpl-{uid}",
            "object": "chat.completion.chunk",
            "created": int(time()),
            "model": ask.model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        }
        extra = encode(self.extra())[1:-1]
        head = b"data: " + encode(common)[:-1]
        tail = b',"usage":null}\n\n' if ask.include_usage else b"}\n\n"
        # head + `,"choices":[{"index":0,"delta":` + delta + after
        before = head + b',"choices":[{"index":0,' + (extra + b"," if extra else b"") + b'"delta":'
        after = b',"logprobs":null,"finish_reason":null}]' + tail
        calls = answer.calls
        first_call = len(answer.parts) - len(calls)

        def begin(number: int, part: Part) -> bytes:
            if part.kind != "call":
                return b""
            call = {"index": number - first_call, **_call(ask, answer, uid, number - first_call)}
            call["function"] = {"name": part.name, "arguments": ""}
            # The first call of an answer comes with the role.
            first = {} if number else {"role": "assistant", "content": None, "refusal": None}
            return before + encode({**first, "tool_calls": [call]}) + after

        def token(number: int, part: Part) -> tuple[bytes, bytes]:
            if part.kind != "call":
                field = b"content" if part.kind == "text" else b"reasoning_content"
                return before + b'{"' + field + b'":', b"}" + after
            open_ = b'{"tool_calls":[{"index":%d,"function":{"arguments":' % (number - first_call)
            return before + open_, b"}}]}" + after

        start = b'{"role":"assistant","content":%b,"refusal":null}' % (b"null" if calls else b'""')
        begun = b"" if first_call == 0 else before + start + after
        opening, events, closing = lay_out(answer, begin, token, lambda number, part: b"")
        opening = begun + opening
        finish = b""
        if answer.finish:
            reason = encode(answer.finished(_FINISH))
            finish = closing + before + b'{},"logprobs":null,"finish_reason":' + reason + b"}]"
            if ask.usage_with_finish and answer.usage:
                finish += b',"usage":' + encode(usage_of(answer.usage)) + b"}\n\n"
            else:
                finish += tail
        if ask.include_usage and answer.usage and not ask.usage_with_finish:
            finish += head + b',"choices":[],"usage":' + encode(usage_of(answer.usage)) + b"}\n\n"
        broken = before + b'{"content":"\n\n'
        return Script(self.preamble() + opening, events, finish, b"data: [DONE]\n\n", broken)

    def error(self, problem: Problem, uid: str) -> Reply:
        return openai_errors.error(problem, uid)

    def error_event(self, problem: Problem, uid: str) -> bytes:
        return sse(encode({"error": openai_errors.details(problem)[1]}))

    def models(self, names: tuple[str, ...]) -> bytes:
        rows = [
            {"id": name, "object": "model", "created": 1_715_367_049, "owned_by": "simulated"}
            for name in names
        ]
        return encode({"object": "list", "data": rows})
