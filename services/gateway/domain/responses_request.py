"""A responses request: OpenAI's JSON to messages and options.

Reference: https://platform.openai.com/docs/api-reference/responses/create. Text goes in and out, functions may be
called; what needs OpenAI's own state or tools (`previous_response_id`, `conversation`, `prompt`, web search, …) is
refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from libs.client.request import Message, Options, ResponseFormat, Role, Tool, ToolCall
from services.gateway.domain.chat_request import NAMES, ROLES, effort, labels
from services.gateway.domain.decode import NOTHING, Part, decode, json_text, text_of
from services.gateway.domain.errors import unsupported, wrong
from services.gateway.domain.exchange import Ask
from services.gateway.domain.routing import routing


class _Item(msgspec.Struct):
    type: str = "message"
    role: str | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None


class _Tool(msgspec.Struct):
    type: str
    name: str = ""
    description: str | None = None
    parameters: msgspec.Raw = NOTHING


class _ToolChoice(msgspec.Struct):
    type: str
    name: str = ""


class _Format(msgspec.Struct):
    type: str
    name: str = ""
    schema: msgspec.Raw = NOTHING


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class ResponsesBody(msgspec.Struct):
    """The fields that mean something here."""

    input: str | list[_Item]
    model: str | None = None
    models: list[str] | None = None
    fallbacks: list[str] | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    text: _Text | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: _Reasoning | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    truncation: str | None = None
    background: bool | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    context_management: Any = None


class Echo(msgspec.Struct):
    """What a response repeats of its request, as it was written."""

    instructions: msgspec.Raw = NOTHING
    max_output_tokens: msgspec.Raw = NOTHING
    metadata: msgspec.Raw = NOTHING
    parallel_tool_calls: msgspec.Raw = NOTHING
    reasoning: msgspec.Raw = NOTHING
    temperature: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING
    tool_choice: msgspec.Raw = NOTHING
    tools: msgspec.Raw = NOTHING
    top_p: msgspec.Raw = NOTHING
    user: msgspec.Raw = NOTHING


_decoder = msgspec.json.Decoder(ResponsesBody)
_echo = msgspec.json.Decoder(Echo)
_NAMES = NAMES | {
    "messages": "input",
    "messages.text": "input",
    "messages.tool_call_id": "input",
    "max_output_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format.schema_json": "text.format.schema",
    "tools.name": "tools[].name",
    "tools.parameters_json": "tools[].parameters",
}
#: Parts that are text.
_TEXT = ("input_text", "output_text", "text")
#: Values of `include` that ask for nothing which a text answer has.
_HARMLESS = frozenset({"reasoning.encrypted_content"})


def read_responses(body: bytes, headers: Mapping[str, str]) -> tuple[Ask, Echo]:
    """What the router is asked, and what the answer repeats. `headers` by lower-case name. Raises ApiError."""
    request = decode(_decoder, body)
    _refuse(request)
    way = routing(request.model, request.models, request.fallbacks, headers)
    options = way.options
    name = "x-pointsman-content-type"
    sampling = {
        "system": request.instructions or None,
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "reasoning_effort": effort(
            "reasoning.effort", request.reasoning.effort if request.reasoning else None
        ),
    }
    options.update({key: value for key, value in sampling.items() if value is not None})  # type: ignore[typeddict-item]
    if request.text is not None and request.text.format is not None:
        _read_format(options, request.text.format)
    if request.tools:
        options["tools"] = [_tool(index, tool) for index, tool in enumerate(request.tools)]
    if request.tool_choice is not None:
        options["tool_choice"] = _tool_choice(request.tool_choice)
    if kept := labels(request.user, request.metadata):
        options["labels"] = kept
    ask = Ask(
        _messages(request.input),
        options,
        bool(request.stream),
        way.timeout,
        way.on_restart,
        {**_NAMES, "content_type": name if name in headers else "model"},
    )
    return ask, decode(_echo, body)


def _refuse(request: ResponsesBody) -> None:
    for param in ("previous_response_id", "conversation", "prompt", "context_management", "background"):
        if getattr(request, param):
            raise unsupported(param)
    if request.top_logprobs:
        raise unsupported("top_logprobs")
    if request.truncation not in (None, "disabled"):
        raise unsupported("truncation", "'truncation' must be 'disabled': nothing is left out silently.")
    for value in request.include or ():
        if value not in _HARMLESS:
            raise unsupported("include", f"'{value}' cannot be included.")


def _messages(given: str | list[_Item]) -> tuple[Message, ...]:
    if isinstance(given, str):
        return (Message(Role.USER, given),)
    messages: list[Message] = []
    for index, item in enumerate(given):
        at = f"input[{index}]"
        match item.type:
            case "message":
                role = ROLES.get(item.role or "")
                if role is None or role is Role.TOOL:
                    raise wrong(
                        f"{at}.role",
                        f"'{at}.role' must be system, developer, user or assistant.",
                        "invalid_value",
                    )
                messages.append(Message(role, text_of(f"{at}.content", item.content, _TEXT)))
            case "function_call":
                call = ToolCall(item.call_id or "", item.name or "", item.arguments or "")
                # Calls of one turn are items of their own here, and one message of the assistant there.
                before = messages.pop() if messages and messages[-1].role is Role.ASSISTANT else None
                said, calls = (before.text, before.tool_calls) if before else ("", ())
                messages.append(Message(Role.ASSISTANT, said, (*calls, call)))
            case "function_call_output":
                text = text_of(f"{at}.output", item.output, _TEXT)
                messages.append(Message(Role.TOOL, text, tool_call_id=item.call_id or ""))
            case "reasoning":
                # Another model's thoughts mean nothing to this one.
                continue
            case _:
                raise unsupported(
                    at, f"Only messages and function calls are supported; '{at}' is '{item.type}'."
                )
    return tuple(messages)


def _tool(index: int, tool: _Tool) -> Tool:
    if tool.type != "function":
        raise unsupported(
            f"tools[{index}]", f"Only functions are supported; 'tools[{index}]' is of type '{tool.type}'."
        )
    return Tool(tool.name, tool.description or "", json_text(tool.parameters))


def _tool_choice(choice: str | _ToolChoice) -> str:
    if isinstance(choice, str):
        return choice
    if choice.type != "function":
        raise unsupported("tool_choice", "'tool_choice' must be auto, none, required or name one function.")
    return choice.name


def _read_format(options: Options, shape: _Format) -> None:
    match shape.type:
        case "text":
            return
        case "json_object":
            options["response_format"] = ResponseFormat()
        case "json_schema" if json_text(shape.schema):
            options["response_format"] = ResponseFormat(json_text(shape.schema), shape.name)
        case "json_schema":
            raise wrong(
                "text.format.schema",
                "Missing required parameter: 'text.format.schema'.",
                "missing_required_parameter",
            )
        case _:
            raise wrong(
                "text.format.type",
                "'text.format.type' must be text, json_object or json_schema.",
                "invalid_value",
            )
