"""A responses request: OpenAI's JSON to messages and options.

Reference: https://platform.openai.com/docs/api-reference/responses/create. Text goes in and out, functions may be
called; fields that need OpenAI's own state or tools (`previous_response_id`, `conversation`, `prompt`, web search, …)
are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from libs.conversation import Message, ResponseFormat, Role, Tool, ToolCall
from services.router.api.accept import MOST
from services.router.api.openai.chat_request import (
    NAMES,
    ROLES,
    make_draft,
    output_limit,
    read_effort,
    read_labels,
    read_names,
    response_format,
)
from services.router.api.openai.decode import (
    NOTHING,
    Part,
    check_count,
    decode,
    is_set,
    json_text,
    text_of,
)
from services.router.api.openai.errors import invalid_parameter, unsupported
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.routing import read_routing
from services.router.request.generation import Prompt


class _Item(msgspec.Struct):
    type: str = "message"
    role: str | None = None
    content: str | list[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[Part] | None = None

    def __post_init__(self) -> None:
        # An object without any field takes three bytes, and ends here.
        if self.role is None and self.type == "message":
            raise ValueError("a message needs a role")


class _Tool(msgspec.Struct):
    type: str
    name: str = ""
    description: str | None = None
    parameters: msgspec.Raw = NOTHING


class _ToolChoice(msgspec.Struct):
    type: str
    name: str = ""


class _FormatBody(msgspec.Struct):
    type: str
    name: str = ""
    schema: msgspec.Raw = NOTHING


class _Text(msgspec.Struct):
    format: _FormatBody | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class ResponsesBody(msgspec.Struct):
    """A responses request: the fields that mean something here."""

    input: str | list[_Item]
    model: str | None = None
    models: msgspec.Raw = NOTHING
    fallbacks: msgspec.Raw = NOTHING
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
    metadata: msgspec.Raw = NOTHING
    truncation: str | None = None
    background: msgspec.Raw = NOTHING
    top_logprobs: int | None = None
    include: msgspec.Raw = NOTHING
    previous_response_id: msgspec.Raw = NOTHING
    conversation: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    context_management: msgspec.Raw = NOTHING


class Echo(msgspec.Struct):
    """The part of a request that its response repeats, as it was written."""

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
#: Calls of one turn are items of their own, and so are a model's thoughts: there may be more items than messages.
MAX_ITEMS = 4 * MOST["messages"]
#: Parts that are text.
_TEXT = ("input_text", "output_text", "text")
#: Values of `include` that ask for nothing which a text answer has.
_HARMLESS = frozenset({"reasoning.encrypted_content"})


def read_responses(body: bytes, headers: Mapping[str, str], request_id: str) -> tuple[ParsedRequest, Echo]:
    """Returns the request, and the part that the answer repeats. `headers` by lower-case name. Raises ApiError."""
    request = decode(_decoder, body)
    _refuse(request)
    route = read_routing(
        request.model,
        read_names("models", request.models),
        read_names("fallbacks", request.fallbacks),
        headers,
    )
    check_count("tools", request.tools, MOST["tools"])
    messages = _messages(request.input)
    if request.instructions:
        messages.insert(0, Message(Role.SYSTEM, request.instructions))
    shape = None if request.text is None or request.text.format is None else _format(request.text.format)
    prompt = Prompt(
        messages=tuple(messages),
        max_output_tokens=output_limit(request.max_output_tokens),
        temperature=request.temperature,
        top_p=request.top_p,
        response_format=shape,
        tools=tuple(_tool(index, tool) for index, tool in enumerate(request.tools or ())),
        tool_choice="" if request.tool_choice is None else _tool_choice(request.tool_choice),
        reasoning_effort=read_effort(
            "reasoning.effort", request.reasoning.effort if request.reasoning else None
        ),
    )
    draft = make_draft(prompt, route, request_id, read_labels(request.user, request.metadata))
    name = "x-pointsman-content-type"
    names = {**_NAMES, "content_type": name if name in headers else "model"}
    return ParsedRequest(draft, bool(request.stream), route.timeout, route.on_restart, names), _read_echo(
        body
    )


def _read_echo(body: bytes) -> Echo:
    """Returns the part that the answer repeats, which must be as good JSON as all else in it. Copied: the body need
    not be kept. Raises ApiError."""
    echo = decode(_echo, body)
    for name in echo.__struct_fields__:
        raw: msgspec.Raw = getattr(echo, name)
        if raw:
            json_text(name, raw)
            setattr(echo, name, raw.copy())
    return echo


def _refuse(request: ResponsesBody) -> None:
    for param in ("previous_response_id", "conversation", "prompt", "context_management", "background"):
        if is_set(getattr(request, param)):
            raise unsupported(param)
    if request.top_logprobs:
        raise unsupported("top_logprobs")
    if request.truncation not in (None, "disabled"):
        raise unsupported("truncation", "'truncation' must be 'disabled': nothing is left out silently.")
    for value in read_names("include", request.include):
        if value not in _HARMLESS:
            raise unsupported("include", f"'{value}' cannot be included.")


def _messages(items: str | list[_Item]) -> list[Message]:
    if isinstance(items, str):
        return [Message(Role.USER, items)]
    check_count("input", items, MAX_ITEMS)
    messages: list[Message] = []
    calls: list[ToolCall] = []
    for index, item in enumerate(items):
        at = f"input[{index}]"
        # Calls of one turn are items of their own here, and one message of the assistant there.
        if item.type == "function_call":
            calls.append(ToolCall(item.call_id or "", item.name or "", item.arguments or ""))
            check_count(at, calls, MOST["messages.tool_calls"])
            continue
        # Another model's thoughts mean nothing to this one.
        if item.type == "reasoning":
            continue
        _end_turn(messages, calls)
        match item.type:
            case "message":
                role = ROLES.get(item.role or "")
                if role is None or role is Role.TOOL:
                    raise invalid_parameter(
                        f"{at}.role",
                        f"'{at}.role' must be system, developer, user or assistant.",
                        "invalid_value",
                    )
                messages.append(Message(role, text_of(f"{at}.content", item.content, _TEXT)))
            case "function_call_output":
                text = text_of(f"{at}.output", item.output, _TEXT)
                messages.append(Message(Role.TOOL, text, tool_call_id=item.call_id or ""))
            case _:
                raise unsupported(
                    at, f"Only messages and function calls are supported; '{at}' is '{item.type[:64]}'."
                )
    _end_turn(messages, calls)
    return messages


def _end_turn(messages: list[Message], calls: list[ToolCall]) -> None:
    """Puts the calls so far into the assistant's message before them, or one of their own."""
    if calls:
        before = messages.pop() if messages and messages[-1].role is Role.ASSISTANT else None
        text, earlier = (before.text, before.tool_calls) if before else ("", ())
        messages.append(Message(Role.ASSISTANT, text, (*earlier, *calls)))
        calls.clear()


def _tool(index: int, tool: _Tool) -> Tool:
    if tool.type != "function":
        raise unsupported(
            f"tools[{index}]", f"Only functions are supported; 'tools[{index}]' is of type '{tool.type}'."
        )
    return Tool(tool.name, tool.description or "", json_text(f"tools[{index}].parameters", tool.parameters))


def _tool_choice(choice: str | _ToolChoice) -> str:
    if isinstance(choice, str):
        return choice
    if choice.type != "function":
        raise unsupported("tool_choice", "'tool_choice' must be auto, none, required or name one function.")
    return choice.name


def _format(shape: _FormatBody) -> ResponseFormat | None:
    match shape.type:
        case "text":
            return None
        case "json_object":
            return ResponseFormat()
        case "json_schema":
            return response_format("text.format.schema", shape.schema, shape.name)
        case _:
            raise invalid_parameter(
                "text.format.type",
                "'text.format.type' must be text, json_object or json_schema.",
                "invalid_value",
            )
