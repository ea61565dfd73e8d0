"""A responses request: OpenAI's JSON to messages and options.

Reference: https://platform.openai.com/docs/api-reference/responses/create. Text, images and PDF files go in,
text comes out, functions may be called; fields that need OpenAI's own state or tools (`previous_response_id`,
`conversation`, `prompt`, web search, …) are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import structs

from libs.conversation import Message, ResponseFormat, Role, Tool, ToolCall
from services.router.api.accept import MOST
from services.router.api.openai.decode import check_count, decode, is_set, json_text
from services.router.api.openai.errors import unsupported
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.parts import read_message
from services.router.api.openai.request_fields import (
    demanded_tool,
    make_request,
    output_limit,
    read_effort,
    read_format,
    read_names,
    read_role,
    read_route,
    unsupported_tool,
)
from services.router.api.openai.responses_body import (
    Echo,
    ItemBody,
    ResponsesBody,
    ResponsesChoiceBody,
    ResponsesToolBody,
    TextBody,
)
from services.router.request.generation import Prompt

_decoder = msgspec.json.Decoder(ResponsesBody)
_echo = msgspec.json.Decoder(Echo)
#: The router's names of fields in the client's terms.
_NAMES = {
    "messages": "input",
    "messages.text": "input",
    "messages.parts": "input",
    "messages.tool_call_id": "input",
    "reasoning_effort": "reasoning.effort",
    "response_format.schema_json": "text.format.schema",
    "tools.name": "tools[].name",
    "tools.parameters_json": "tools[].parameters",
}
#: Calls of one turn are items of their own, and so are a model's thoughts: there may be more items than messages.
MAX_ITEMS = 4 * MOST["messages"]
#: Values of `include` that ask for nothing which a text answer has.
_HARMLESS = frozenset({"reasoning.encrypted_content"})


def read_responses(body: bytes, headers: Mapping[str, str], request_id: str) -> tuple[ParsedRequest, Echo]:
    """Returns the request, and the part that the answer repeats. `headers` by lower-case name. Raises ApiError."""
    request = decode(_decoder, body)
    _refuse(request)
    route = read_route(request, headers)
    check_count("tools", request.tools, MOST["tools"])
    messages = _messages(request.input)
    if request.instructions:
        messages.insert(0, Message(Role.SYSTEM, request.instructions))
    prompt = Prompt(
        messages=tuple(messages),
        max_output_tokens=output_limit(request.max_output_tokens),
        temperature=request.temperature,
        top_p=request.top_p,
        response_format=_response_format(request.text),
        tools=tuple(_tool(index, tool) for index, tool in enumerate(request.tools or ())),
        tool_choice=_tool_choice(request.tool_choice),
        reasoning_effort=read_effort(
            "reasoning.effort", request.reasoning.effort if request.reasoning else None
        ),
    )
    parsed = make_request(request, prompt, route, headers, request_id, _NAMES)
    return parsed, _read_echo(body)


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


def _messages(items: str | list[ItemBody]) -> list[Message]:
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
                role = read_role(at, item.role)
                messages.append(read_message(f"{at}.content", role, item.content))
            case "function_call_output":
                answer = read_message(f"{at}.output", Role.TOOL, item.output)
                messages.append(structs.replace(answer, tool_call_id=item.call_id or ""))
            case _:
                raise unsupported(
                    at, f"Only messages and function calls are supported; '{at}' is '{item.type[:64]}'."
                )
    _end_turn(messages, calls)
    return messages


def _end_turn(messages: list[Message], calls: list[ToolCall]) -> None:
    """Puts the calls so far into the assistant's message before them, or one of their own."""
    if calls:
        own = bool(messages) and messages[-1].role is Role.ASSISTANT
        before = messages.pop() if own else Message(Role.ASSISTANT)
        messages.append(structs.replace(before, tool_calls=(*before.tool_calls, *calls)))
        calls.clear()


def _tool(index: int, tool: ResponsesToolBody) -> Tool:
    if tool.type != "function":
        raise unsupported_tool(index, tool.type)
    return Tool(tool.name, tool.description or "", json_text(f"tools[{index}].parameters", tool.parameters))


def _tool_choice(choice: str | ResponsesChoiceBody | None) -> str:
    if choice is None or isinstance(choice, str):
        return choice or ""
    return demanded_tool(choice.type, choice.name)


def _response_format(text: TextBody | None) -> ResponseFormat | None:
    if text is None or text.format is None:
        return None
    return read_format("text.format", text.format.type, "text.format.schema", text.format)
