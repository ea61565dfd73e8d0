"""A chat completions request: OpenAI's JSON to messages and options.

Reference: https://platform.openai.com/docs/api-reference/chat/create. What would change the answer and cannot be
passed on is refused; hints (`store`, `service_tier`, `verbosity`, `parallel_tool_calls`, a message's `name`, …) and
unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from libs.client.request import (
    Message,
    Options,
    ReasoningEffort,
    ResponseFormat,
    Role,
    Tool,
    ToolCall,
)
from services.gateway.domain.decode import NOTHING, Part, decode, json_text, text_of
from services.gateway.domain.errors import unsupported, wrong
from services.gateway.domain.exchange import Ask
from services.gateway.domain.routing import routing

ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
#: Models differ in how many steps they know; Pointsman has these.
EFFORTS = {
    "none": ReasoningEffort.NONE,
    "minimal": ReasoningEffort.LOW,
    "low": ReasoningEffort.LOW,
    "medium": ReasoningEffort.MEDIUM,
    "high": ReasoningEffort.HIGH,
    "xhigh": ReasoningEffort.HIGH,
    "max": ReasoningEffort.HIGH,
}
#: The router's names of fields in the client's terms.
NAMES = {
    "messages.text": "messages[].content",
    "models": "model",
    "stop_sequences": "stop",
    "response_format.schema_json": "response_format.json_schema.schema",
    "tools.name": "tools[].function.name",
    "tools.parameters_json": "tools[].function.parameters",
    "labels": "metadata",
    "request_id": "x-request-id",
    "campaign": "x-pointsman-campaign",
    "max_cost": "x-pointsman-max-cost-usd",
    "max_attempts": "x-pointsman-max-attempts",
}


class _Called(msgspec.Struct):
    name: str
    arguments: str = ""


class _ToolCall(msgspec.Struct):
    id: str = ""
    type: str = "function"
    function: _Called | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[Part] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: Any = None


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = NOTHING


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Function | None = None


class _Named(msgspec.Struct):
    name: str


class _ToolChoice(msgspec.Struct):
    type: str
    function: _Named | None = None


class _Schema(msgspec.Struct):
    name: str = ""
    schema: msgspec.Raw = NOTHING


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class ChatBody(msgspec.Struct):
    """The fields that mean something here."""

    messages: list[_Message]
    model: str | None = None
    models: list[str] | None = None
    fallbacks: list[str] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    response_format: _Format | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _ToolChoice | None = None
    reasoning_effort: str | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    modalities: list[str] | None = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None


_decoder = msgspec.json.Decoder(ChatBody)


def read_chat(body: bytes, headers: Mapping[str, str]) -> tuple[Ask, bool]:
    """What the router is asked, and whether a stream shall end with its usage. `headers` by lower-case name.
    Raises ApiError."""
    request = decode(_decoder, body)
    _refuse(request)
    way = routing(request.model, request.models, request.fallbacks, headers)
    options = way.options
    names = dict(NAMES)
    names["content_type"] = (
        "model" if "x-pointsman-content-type" not in headers else "x-pointsman-content-type"
    )
    names["max_output_tokens"] = "max_completion_tokens"
    limit = request.max_completion_tokens
    if limit is None and request.max_tokens is not None:
        limit, names["max_output_tokens"] = request.max_tokens, "max_tokens"
    sampling = {
        "max_output_tokens": limit,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "reasoning_effort": effort("reasoning_effort", request.reasoning_effort),
    }
    options.update({name: value for name, value in sampling.items() if value is not None})  # type: ignore[typeddict-item]
    if request.stop:
        options["stop_sequences"] = [request.stop] if isinstance(request.stop, str) else request.stop
    if request.response_format is not None:
        _read_format(options, request.response_format)
    if request.tools:
        options["tools"] = [_tool(index, tool) for index, tool in enumerate(request.tools)]
    if request.tool_choice is not None:
        options["tool_choice"] = _tool_choice(request.tool_choice)
    if kept := labels(request.user, request.metadata):
        options["labels"] = kept
    ask = Ask(
        tuple(_message(index, message) for index, message in enumerate(request.messages)),
        options,
        bool(request.stream),
        way.timeout,
        way.on_restart,
        names,
    )
    usage = request.stream_options is not None and bool(request.stream_options.include_usage)
    return ask, usage


def effort(param: str, value: str | None) -> ReasoningEffort | None:
    """How hard to think. Raises ApiError."""
    if value is None:
        return None
    if value not in EFFORTS:
        raise wrong(param, f"'{param}' must be one of {', '.join(EFFORTS)}.", "invalid_value")
    return EFFORTS[value]


def labels(user: str | None, metadata: Mapping[str, str] | None) -> dict[str, str]:
    """What is kept with the usage record."""
    return {**(metadata or {}), **({"user": user} if user else {})}


def _refuse(request: ChatBody) -> None:
    if request.n not in (None, 1):
        raise unsupported("n", "'n' must be 1: one answer is generated for a request.")
    if request.logprobs or request.top_logprobs:
        raise unsupported("logprobs" if request.logprobs else "top_logprobs")
    if request.modalities not in (None, ["text"]):
        raise unsupported("modalities", "Only the modality 'text' is supported.")
    for param in ("logit_bias", "audio", "functions", "function_call", "web_search_options"):
        if getattr(request, param):
            raise unsupported(param)


def _message(index: int, message: _Message) -> Message:
    at = f"messages[{index}]"
    role = ROLES.get(message.role)
    if role is None:
        raise wrong(f"{at}.role", f"'{at}.role' must be one of {', '.join(ROLES)}.", "invalid_value")
    if message.function_call:
        raise unsupported(f"{at}.function_call")
    return Message(
        role,
        text_of(f"{at}.content", message.content, ("text",)),
        tuple(_tool_call(f"{at}.tool_calls[{n}]", call) for n, call in enumerate(message.tool_calls or ())),
        message.tool_call_id or "",
    )


def _tool_call(at: str, call: _ToolCall) -> ToolCall:
    if call.function is None or call.type != "function":
        raise unsupported(at, f"Only calls of functions are supported; '{at}' is of type '{call.type}'.")
    return ToolCall(call.id, call.function.name, call.function.arguments)


def _tool(index: int, tool: _Tool) -> Tool:
    if tool.function is None or tool.type != "function":
        raise unsupported(
            f"tools[{index}]", f"Only functions are supported; 'tools[{index}]' is of type '{tool.type}'."
        )
    function = tool.function
    return Tool(function.name, function.description or "", json_text(function.parameters))


def _tool_choice(choice: str | _ToolChoice) -> str:
    if isinstance(choice, str):
        return choice
    if choice.type != "function" or choice.function is None:
        raise unsupported("tool_choice", "'tool_choice' must be auto, none, required or name one function.")
    return choice.function.name


def _read_format(options: Options, shape: _Format) -> None:
    match shape.type:
        case "text":
            return
        case "json_object":
            options["response_format"] = ResponseFormat()
        case "json_schema":
            schema = json_text(shape.json_schema.schema) if shape.json_schema else ""
            if not schema or shape.json_schema is None:
                raise wrong(
                    "response_format.json_schema.schema",
                    "Missing required parameter: 'response_format.json_schema.schema'.",
                    "missing_required_parameter",
                )
            options["response_format"] = ResponseFormat(schema, shape.json_schema.name)
        case _:
            raise wrong(
                "response_format.type",
                "'response_format.type' must be text, json_object or json_schema.",
                "invalid_value",
            )
