"""A chat completions request: OpenAI's JSON to messages and options.

Reference: https://platform.openai.com/docs/api-reference/chat/create. A field that would change the answer and cannot
be passed on is refused; hints (`store`, `service_tier`, `verbosity`, `parallel_tool_calls`, a message's `name`, …)
and unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from libs.conversation import Message, ReasoningEffort, ResponseFormat, Role, Tool, ToolCall
from services.router.api.accept import MOST, Draft
from services.router.api.openai.chat_body import (
    CallBody,
    ChatBody,
    ChoiceBody,
    FormatBody,
    MessageBody,
    SchemaBody,
    ToolBody,
)
from services.router.api.openai.decode import (
    check_count,
    decode,
    decode_small,
    is_set,
    json_text,
    text_of,
)
from services.router.api.openai.errors import invalid_parameter, unsupported
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.routing import Routing, read_routing
from services.router.request.generation import Prompt

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


_decoder = msgspec.json.Decoder(ChatBody)
_names = msgspec.json.Decoder(list[str] | None)
_stops = msgspec.json.Decoder(str | list[str] | None)
_labels = msgspec.json.Decoder(dict[str, str] | None)


def read_chat(body: bytes, headers: Mapping[str, str], request_id: str) -> tuple[ParsedRequest, bool]:
    """Returns the request, and True if a stream shall end with its usage. `headers` by lower-case name. Raises
    ApiError."""
    request = decode(_decoder, body)
    _refuse(request)
    route = read_routing(
        request.model,
        read_names("models", request.models),
        read_names("fallbacks", request.fallbacks),
        headers,
    )
    names = dict(NAMES)
    names["content_type"] = (
        "model" if "x-pointsman-content-type" not in headers else "x-pointsman-content-type"
    )
    names["max_output_tokens"] = "max_completion_tokens"
    limit = request.max_completion_tokens
    if limit is None and request.max_tokens is not None:
        limit, names["max_output_tokens"] = request.max_tokens, "max_tokens"
    check_count("messages", request.messages, MOST["messages"])
    check_count("tools", request.tools, MOST["tools"])
    shape = None if request.response_format is None else _response_format(request.response_format)
    prompt = Prompt(
        messages=tuple(_message(index, message) for index, message in enumerate(request.messages)),
        max_output_tokens=output_limit(limit),
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop_sequences=_stop(request.stop),
        response_format=shape,
        tools=tuple(_tool(index, tool) for index, tool in enumerate(request.tools or ())),
        tool_choice="" if request.tool_choice is None else _tool_choice(request.tool_choice),
        reasoning_effort=read_effort("reasoning_effort", request.reasoning_effort),
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
    )
    draft = make_draft(prompt, route, request_id, read_labels(request.user, request.metadata))
    usage = request.stream_options is not None and bool(request.stream_options.include_usage)
    return ParsedRequest(draft, bool(request.stream), route.timeout, route.on_restart, names), usage


def make_draft(prompt: Prompt, route: Routing, request_id: str, kept: Mapping[str, str]) -> Draft:
    """Returns the draft of a prompt and its routing. `kept`: labels for the usage record."""
    return Draft(
        prompt,
        request_id=request_id,
        content_type=route.content_type,
        needs_schema=prompt.response_format is not None and bool(prompt.response_format.schema_json),
        models=route.models,
        strategy=route.strategy,
        priority=route.priority,
        campaign=route.campaign,
        max_cost_micro_usd=route.max_cost_micro_usd,
        max_attempts=route.max_attempts,
        hedge=route.hedge,
        labels=kept,
    )


def output_limit(limit: int | None) -> int:
    """Returns the output limit as a draft has it, where 0 stands for none: an explicit 0 is out of range."""
    return 0 if limit is None else limit or -1


def read_names(param: str, raw: msgspec.Raw) -> list[str]:
    """Returns a field's list of models' names. Raises ApiError."""
    return decode_small(param, raw, _names) or []


def read_effort(param: str, value: str | None) -> ReasoningEffort | None:
    """Returns the reasoning effort; None where it is not set. Raises ApiError."""
    if value is None:
        return None
    if value not in EFFORTS:
        raise invalid_parameter(param, f"'{param}' must be one of {', '.join(EFFORTS)}.", "invalid_value")
    return EFFORTS[value]


def read_labels(user: str | None, metadata: msgspec.Raw) -> dict[str, str]:
    """Returns the labels to keep with the usage record. Raises ApiError."""
    kept = decode_small("metadata", metadata, _labels) or {}
    return {**kept, "user": user} if user else kept


def _refuse(request: ChatBody) -> None:
    if request.n not in (None, 1):
        raise unsupported("n", "'n' must be 1: one answer is generated for a request.")
    if request.logprobs or request.top_logprobs:
        raise unsupported("logprobs" if request.logprobs else "top_logprobs")
    if decode_small("modalities", request.modalities, _names) not in (None, ["text"]):
        raise unsupported("modalities", "Only the modality 'text' is supported.")
    for param in ("logit_bias", "audio", "functions", "function_call", "web_search_options"):
        if is_set(getattr(request, param)):
            raise unsupported(param)


def _stop(raw: msgspec.Raw) -> tuple[str, ...]:
    found = decode_small("stop", raw, _stops)
    return (found,) if found and isinstance(found, str) else tuple(found or ())


def _message(index: int, message: MessageBody) -> Message:
    at = f"messages[{index}]"
    role = ROLES.get(message.role)
    if role is None:
        raise invalid_parameter(
            f"{at}.role", f"'{at}.role' must be one of {', '.join(ROLES)}.", "invalid_value"
        )
    if is_set(message.function_call):
        raise unsupported(f"{at}.function_call")
    check_count(f"{at}.tool_calls", message.tool_calls, MOST["messages.tool_calls"])
    return Message(
        role,
        text_of(f"{at}.content", message.content, ("text",)),
        tuple(_tool_call(f"{at}.tool_calls[{n}]", call) for n, call in enumerate(message.tool_calls or ())),
        message.tool_call_id or "",
    )


def _tool_call(at: str, call: CallBody) -> ToolCall:
    if call.function is None or call.type != "function":
        raise unsupported(at, f"Only calls of functions are supported; '{at}' is of type '{call.type}'.")
    return ToolCall(call.id, call.function.name, call.function.arguments)


def _tool(index: int, tool: ToolBody) -> Tool:
    if tool.function is None or tool.type != "function":
        raise unsupported(
            f"tools[{index}]", f"Only functions are supported; 'tools[{index}]' is of type '{tool.type}'."
        )
    function = tool.function
    parameters = json_text(f"tools[{index}].function.parameters", function.parameters)
    return Tool(function.name, function.description or "", parameters)


def _tool_choice(choice: str | ChoiceBody) -> str:
    if isinstance(choice, str):
        return choice
    if choice.type != "function" or choice.function is None:
        raise unsupported("tool_choice", "'tool_choice' must be auto, none, required or name one function.")
    return choice.function.name


def response_format(param: str, schema: msgspec.Raw, name: str) -> ResponseFormat:
    """Returns the format of an answer that fits a schema. Raises ApiError where there is none. `param` names it."""
    text = json_text(param, schema)
    if not text:
        raise invalid_parameter(
            param, f"Missing required parameter: '{param}'.", "missing_required_parameter"
        )
    return ResponseFormat(text, name or "answer")


def _response_format(shape: FormatBody) -> ResponseFormat | None:
    match shape.type:
        case "text":
            return None
        case "json_object":
            return ResponseFormat()
        case "json_schema":
            given_schema = shape.json_schema or SchemaBody()
            return response_format(
                "response_format.json_schema.schema", given_schema.schema, given_schema.name
            )
        case _:
            raise invalid_parameter(
                "response_format.type",
                "'response_format.type' must be text, json_object or json_schema.",
                "invalid_value",
            )
