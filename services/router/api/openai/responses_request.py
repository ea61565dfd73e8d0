"""A responses request: OpenAI's JSON to messages and options.

Reference: https://platform.openai.com/docs/api-reference/responses/create. Text, images and PDF files go in,
text comes out, functions may be called; fields that need OpenAI's own state or tools (`previous_response_id`,
`conversation`, `prompt`, web search, …) are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import structs

from libs.conversation import Message, Reasoning, ReasoningSummary, ResponseFormat, Role, Tool, ToolCall
from services.router.api.accept import MOST
from services.router.api.openai.decode import check_count, decode, decode_naming_unknown, is_set, json_text
from services.router.api.openai.errors import invalid_parameter, unsupported
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.parts import read_message
from services.router.api.openai.request_fields import (
    IGNORED,
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
from services.router.api.openai.responses_body import (
    Echo,
    ItemBody,
    LenientResponsesBody,
    ReasoningBody,
    ResponsesBody,
    ResponsesChoiceBody,
    ResponsesToolBody,
    TextBody,
)
from services.router.api.openai.thoughts import unseal, with_thoughts
from services.router.request.generation import Prompt

_strict: msgspec.json.Decoder[ResponsesBody] = msgspec.json.Decoder(ResponsesBody)
_lenient: msgspec.json.Decoder[ResponsesBody] = msgspec.json.Decoder(LenientResponsesBody)
_echo = msgspec.json.Decoder(Echo)
#: The router's names of fields in the client's terms.
_NAMES = {
    "messages": "input",
    "messages.text": "input",
    "messages.parts": "input",
    "messages.tool_call_id": "input",
    "reasoning_effort": "reasoning.effort",
    "reasoning_summary": "reasoning.summary",
    "response_format.schema_json": "text.format.schema",
    "tools.name": "tools[].name",
    "tools.parameters_json": "tools[].parameters",
}
_SUMMARIES = {**{summary.value: summary for summary in ReasoningSummary}, "none": None}
#: Calls of one turn are items of their own, and so are a model's thoughts: there may be more items than messages.
MAX_ITEMS = 4 * MOST["messages"]
#: The value of `include` that asks for thoughts which can be sent back.
_ENCRYPTED = "reasoning.encrypted_content"
_IGNORED = (*IGNORED, "access_programs", "background_options", "image", "max_tool_calls")


def read_responses(
    body: bytes, headers: Mapping[str, str], request_id: str
) -> tuple[ParsedRequest, Echo, bool]:
    """Returns the request, the part that the answer repeats, and True if thoughts shall come with all that must be
    sent back. `headers` by lower-case name. Raises ApiError."""
    request, unknown = decode_naming_unknown(_strict, _lenient, body)
    _refuse(request)
    route = read_route(request, headers)
    check_count("tools", request.tools, MOST["tools"])
    ignored = [*_ignored(request), *unknown]
    messages = _messages(request.input, ignored)
    if request.instructions:
        messages.insert(0, Message(Role.SYSTEM, request.instructions))
    reasoning = request.reasoning or ReasoningBody()
    prompt = Prompt(
        messages=tuple(messages),
        max_output_tokens=output_limit(request.max_output_tokens),
        temperature=request.temperature,
        top_p=request.top_p,
        response_format=_response_format(request.text),
        tools=tuple(_tool(index, tool) for index, tool in enumerate(request.tools or ())),
        tool_choice=_tool_choice(request.tool_choice),
        parallel_tool_calls=False if request.parallel_tool_calls is False else None,
        reasoning_effort=read_effort("reasoning.effort", reasoning.effort),
        reasoning_summary=_summary(reasoning.summary or reasoning.generate_summary),
    )
    parsed = make_request(request, prompt, route, headers, request_id, _NAMES, ignored)
    return parsed, _read_echo(body), _ENCRYPTED in read_names("include", request.include)


def _summary(name: str | None) -> ReasoningSummary | None:
    if name is None:
        return None
    if name not in _SUMMARIES:
        at = "reasoning.summary"
        raise invalid_parameter(at, f"'{at}' must be one of {', '.join(_SUMMARIES)}.", "invalid_value")
    return _SUMMARIES[name]


def _ignored(request: ResponsesBody) -> list[str]:
    ignored = ignored_fields(request, _IGNORED)
    text = request.text
    if text is not None and text.verbosity:
        ignored.append("text.verbosity")
    if any(tool.strict for tool in request.tools or ()):
        ignored.append("tools.strict")
    return ignored


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
        if value != _ENCRYPTED:
            raise unsupported("include", f"'{value}' cannot be included.")


def _messages(items: str | list[ItemBody], ignored: list[str]) -> list[Message]:
    """Returns the messages of the input. Adds to `ignored` where thoughts of others are among it."""
    if isinstance(items, str):
        return [Message(Role.USER, items)]
    check_count("input", items, MAX_ITEMS)
    messages: list[Message] = []
    calls: list[ToolCall] = []
    #: Thoughts that nothing has followed yet, and those of the calls.
    thoughts: list[Reasoning] = []
    of_calls: list[Reasoning] = []
    for index, item in enumerate(items):
        at = f"input[{index}]"
        # Calls of one turn are items of their own here, and one message of the assistant there.
        if item.type == "function_call":
            calls.append(ToolCall(item.call_id or "", item.name or "", item.arguments or ""))
            check_count(at, calls, MOST["messages.tool_calls"])
            of_calls += [structs.replace(thought, tool_call_id=calls[-1].id) for thought in thoughts]
            thoughts.clear()
            continue
        if item.type == "reasoning":
            thought = _thought(item)
            if thought is None and "input.reasoning" not in ignored:
                ignored.append("input.reasoning")
            thoughts += [] if thought is None else [thought]
            continue
        _end_turn(messages, calls, of_calls)
        match item.type:
            case "message":
                role = read_role(at, item.role)
                said = read_message(f"{at}.content", role, item.content)
                messages.append(with_thoughts(said, thoughts) if role is Role.ASSISTANT else said)
            case "function_call_output":
                answer = read_message(f"{at}.output", Role.TOOL, item.output)
                messages.append(structs.replace(answer, tool_call_id=item.call_id or ""))
            case _:
                raise unsupported(
                    at, f"Only messages and function calls are supported; '{at}' is '{item.type[:64]}'."
                )
        # They stood before this one: it was theirs, or they belong to nothing.
        thoughts.clear()
    _end_turn(messages, calls, of_calls)
    return messages


def _thought(item: ItemBody) -> Reasoning | None:
    """Returns an item's thoughts; None for those that another router or vendor has encrypted."""
    shown = item.content if isinstance(item.content, list) else []
    texts = [part.text or "" for part in shown] or [piece.text for piece in item.summary or ()]
    return unseal(item.encrypted_content or "", "\n\n".join(texts))


def _end_turn(messages: list[Message], calls: list[ToolCall], thoughts: list[Reasoning]) -> None:
    """Puts the calls so far, and their thoughts, into the assistant's message before them, or one of their own."""
    if calls:
        own = bool(messages) and messages[-1].role is Role.ASSISTANT
        before = messages.pop() if own else Message(Role.ASSISTANT)
        before = with_thoughts(before, thoughts)
        messages.append(structs.replace(before, tool_calls=(*before.tool_calls, *calls)))
        calls.clear()
        thoughts.clear()


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
