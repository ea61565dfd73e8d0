"""A chat completions request: OpenAI's JSON to messages and options.

Reference: https://platform.openai.com/docs/api-reference/chat/create. A field that would change the answer and cannot
be passed on is refused; hints (`store`, `service_tier`, `verbosity`, a message's `name`, …) are ignored, and named in
a header; fields that nobody knows are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import structs

from libs.conversation import Message, ResponseFormat, Role, Tool, ToolCall
from services.router.api.accept import MOST
from services.router.api.openai.chat_body import (
    CallBody,
    ChatBody,
    ChoiceBody,
    FormatBody,
    LenientChatBody,
    MessageBody,
    ToolBody,
)
from services.router.api.openai.decode import (
    check_count,
    decode_naming_unknown,
    decode_small,
    is_set,
    json_text,
)
from services.router.api.openai.errors import unsupported
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.parts import read_message
from services.router.api.openai.request_fields import (
    IGNORED,
    ROLES,
    SchemaBody,
    demanded_tool,
    ignored_fields,
    make_request,
    output_limit,
    read_effort,
    read_format,
    read_names,
    read_role,
    read_route,
    unsupported_tool,
)
from services.router.api.openai.thoughts import read_thoughts, with_thoughts
from services.router.request.generation import Prompt

_IGNORED = (*IGNORED, "prediction", "verbosity", "top_k", "min_p", "repetition_penalty")
_ROLES = {**ROLES, "tool": Role.TOOL}
#: The router's names of fields in the client's terms.
_NAMES = {
    "messages.text": "messages[].content",
    "messages.parts": "messages[].content",
    "stop_sequences": "stop",
    "response_format.schema_json": "response_format.json_schema.schema",
    "tools.name": "tools[].function.name",
    "tools.parameters_json": "tools[].function.parameters",
}
_strict: msgspec.json.Decoder[ChatBody] = msgspec.json.Decoder(ChatBody)
_lenient: msgspec.json.Decoder[ChatBody] = msgspec.json.Decoder(LenientChatBody)
_stops = msgspec.json.Decoder(str | list[str] | None)


def read_chat(body: bytes, headers: Mapping[str, str], request_id: str) -> tuple[ParsedRequest, bool]:
    """Returns the request, and True if a stream shall end with its usage. `headers` by lower-case name. Raises
    ApiError."""
    request, unknown = decode_naming_unknown(_strict, _lenient, body)
    _refuse(request)
    route = read_route(request, headers)
    limit, limit_name = request.max_completion_tokens, "max_completion_tokens"
    if limit is None and request.max_tokens is not None:
        limit, limit_name = request.max_tokens, "max_tokens"
    check_count("messages", request.messages, MOST["messages"])
    check_count("tools", request.tools, MOST["tools"])
    prompt = Prompt(
        messages=tuple(_message(index, message) for index, message in enumerate(request.messages)),
        max_output_tokens=output_limit(limit),
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop_sequences=_stop(request.stop),
        response_format=_response_format(request.response_format),
        tools=tuple(_tool(index, tool) for index, tool in enumerate(request.tools or ())),
        tool_choice=_tool_choice(request.tool_choice),
        parallel_tool_calls=False if request.parallel_tool_calls is False else None,
        reasoning_effort=read_effort("reasoning_effort", request.reasoning_effort),
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
    )
    names = {**_NAMES, "max_output_tokens": limit_name}
    usage = request.stream_options is not None and bool(request.stream_options.include_usage)
    ignored = ignored_fields(request, _IGNORED)
    if any(message.name for message in request.messages):
        ignored.append("messages.name")
    if any(tool.function is not None and tool.function.strict for tool in request.tools or ()):
        ignored.append("tools.function.strict")
    ignored += unknown
    return make_request(request, prompt, route, headers, request_id, names, ignored), usage


def _refuse(request: ChatBody) -> None:
    if request.n not in (None, 1):
        raise unsupported("n", "'n' must be 1: one answer is generated for a request.")
    if request.logprobs or request.top_logprobs:
        raise unsupported("logprobs" if request.logprobs else "top_logprobs")
    if read_names("modalities", request.modalities) not in ([], ["text"]):
        raise unsupported("modalities", "Only the modality 'text' is supported.")
    for param in ("logit_bias", "audio", "functions", "function_call", "web_search_options"):
        if is_set(getattr(request, param)):
            raise unsupported(param)


def _stop(raw: msgspec.Raw) -> tuple[str, ...]:
    found = decode_small("stop", raw, _stops)
    return (found,) if found and isinstance(found, str) else tuple(found or ())


def _message(index: int, message: MessageBody) -> Message:
    at = f"messages[{index}]"
    role = read_role(at, message.role, _ROLES)
    if is_set(message.function_call):
        raise unsupported(f"{at}.function_call")
    check_count(f"{at}.tool_calls", message.tool_calls, MOST["messages.tool_calls"])
    calls = tuple(
        _tool_call(f"{at}.tool_calls[{n}]", call) for n, call in enumerate(message.tool_calls or ())
    )
    said = read_message(f"{at}.content", role, message.content)
    plain = message.reasoning_content or message.reasoning
    if plain or message.reasoning_details or message.refusal:
        thoughts = read_thoughts(f"{at}.reasoning_details", message.reasoning_details, plain)
        said = with_thoughts(said, thoughts, message.refusal)
    return structs.replace(said, tool_calls=calls, tool_call_id=message.tool_call_id or "")


def _tool_call(at: str, call: CallBody) -> ToolCall:
    if call.function is None or call.type != "function":
        raise unsupported(at, f"Only calls of functions are supported; '{at}' is of type '{call.type}'.")
    return ToolCall(call.id, call.function.name, call.function.arguments)


def _tool(index: int, tool: ToolBody) -> Tool:
    function = tool.function
    if function is None or tool.type != "function":
        raise unsupported_tool(index, tool.type)
    parameters = json_text(f"tools[{index}].function.parameters", function.parameters)
    return Tool(function.name, function.description or "", parameters)


def _tool_choice(choice: str | ChoiceBody | None) -> str:
    if choice is None or isinstance(choice, str):
        return choice or ""
    return demanded_tool(choice.type, choice.function.name if choice.function else None)


def _response_format(shape: FormatBody | None) -> ResponseFormat | None:
    if shape is None:
        return None
    at = "response_format"
    return read_format(at, shape.type, f"{at}.json_schema.schema", shape.json_schema or SchemaBody())
