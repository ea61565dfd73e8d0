"""OpenAI chat completions; Mistral, Groq, DeepSeek, xAI, vLLM and the like speak it too.

Source: platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import Any, ClassVar

from dev.simulator.wires import openai_errors
from dev.simulator.wires.base import (
    Answer,
    Ask,
    BadRequest,
    Problem,
    Quota,
    Reply,
    Script,
    Tool,
    Usage,
    bearer,
    choose_tool,
    encode,
    mapping,
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
    return [Tool(str(function.get("name")), mapping(function.get("parameters"))) for function in functions]


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
        limit = body.get("max_completion_tokens", body.get("max_tokens"))
        return Ask(
            model,
            prompt,
            characters,
            stream=body.get("stream") is True,
            prefill=prefill,
            max_tokens=positive(limit, "max_tokens"),
            tool=choose_tool(read_tools(body.get("tools")), forced_tool(body.get("tool_choice"))),
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
        if answer.tool:
            function = {"name": answer.tool, "arguments": answer.text}
            message["content"] = None
            message["tool_calls"] = [{"id": f"call_{uid}", "type": "function", "function": function}]
        finish = _FINISH.get(answer.finish or "", answer.finish)
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
        if answer.tool:
            call = {"index": 0, "id": f"call_{uid}", "type": "function"}
            call["function"] = {"name": answer.tool, "arguments": ""}
            first = encode({"role": "assistant", "content": None, "tool_calls": [call], "refusal": None})
            open_, close = b'{"tool_calls":[{"index":0,"function":{"arguments":', b"}}]}"
        else:
            first = b'{"role":"assistant","content":"","refusal":null}'
            open_, close = b'{"content":', b"}"
        prefix, suffix = before + open_, close + after
        finish = b""
        if answer.finish:
            reason = encode(_FINISH.get(answer.finish, answer.finish))
            finish = before + b'{},"logprobs":null,"finish_reason":' + reason + b"}]"
            if ask.usage_with_finish and answer.usage:
                finish += b',"usage":' + encode(usage_of(answer.usage)) + b"}\n\n"
            else:
                finish += tail
        if ask.include_usage and answer.usage and not ask.usage_with_finish:
            finish += head + b',"choices":[],"usage":' + encode(usage_of(answer.usage)) + b"}\n\n"
        return Script(
            self.preamble() + before + first + after,
            [prefix + token + suffix for token in answer.quoted],
            finish,
            b"data: [DONE]\n\n",
            prefix + b'"\n\n',
        )

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
