"""Makes a prompt valid for one wire. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from msgspec.structs import replace

from libs.conversation import Message, Role, Tool, ToolCall
from services.router.providers.wires.fields import Undecodable, decode, encode
from services.router.providers.wires.request_parts import arguments
from services.router.providers.wires.schemas import parameters_schema
from services.router.providers.wires.validity.answer_form import shape_answer
from services.router.providers.wires.validity.call_ids import CallIds
from services.router.providers.wires.validity.inverse import UNCHANGED, Inverse
from services.router.providers.wires.validity.names import name_tools, rename_keys
from services.router.providers.wires.validity.rules import Begun, Rules
from services.router.providers.wires.validity.turns import (
    BEGIN,
    are_plain,
    drop_blanks,
    merge_neighbours,
    order_turns,
    pair_results,
    place_system,
    split_begun,
)
from services.router.request.generation import Prompt

#: All but messages that has to be looked at; most prompts have none of it.
_options = attrgetter(
    "tools",
    "stop_sequences",
    "response_format",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "reasoning_effort",
    "reasoning_summary",
)
_NO_OPTIONS = ((), (), None, None, None, None, None, None, None, None)
#: Of a tool's parameters: one name → another, by the tool's name as it is sent.
Keys = dict[str, dict[str, str]]
_CHOICES = ("", "auto", "none", "required")
_USED_BEFORE = "A tool that was used before."
#: The end of a description that is too long for its place.
_MORE = " … (goes on in the description of the parameters)"


class Valid(NamedTuple):
    """A prompt that the vendor takes, and the way back for its answer. `has_options` False: it has nothing but
    messages."""

    prompt: Prompt
    inverse: Inverse
    has_options: bool = True


def make_valid(
    prompt: Prompt, rules: Rules, most_output: int | None = None, *, prefill: bool = True
) -> Valid:
    """Makes a prompt valid by a vendor's rules. What is valid already stays as it is, so that doing it twice is doing
    it once. `most_output`: tokens that the model writes at most; None: not known. `prefill`: the model goes on from a
    begun answer. Raises ProviderFailure(INVALID_REQUEST) for a schema that is not JSON."""
    if most_output is not None and prompt.max_output_tokens > most_output:
        prompt = replace(prompt, max_output_tokens=most_output)
    if prompt.max_output_tokens < rules.least_output:
        prompt = replace(prompt, max_output_tokens=rules.least_output)
    plain = are_plain(prompt.messages)
    if plain and _options(prompt) == _NO_OPTIONS:
        return Valid(prompt, UNCHANGED, has_options=False)
    prompt = _bound_sampling(prompt, rules)
    prompt, stops = _divide_stops(prompt, rules)
    names: dict[str, str] = {}
    keys: Keys = {}
    if prompt.tools or not plain:
        prompt, names, keys = _make_tools_valid(prompt, rules)
    prompt = shape_answer(prompt, rules)
    ids: dict[str, str] = {}
    if not plain:
        messages, begun, ids = _make_turns_valid(prompt.messages, rules, prefill=prefill)
        if begun or tuple(messages) != prompt.messages:
            prompt = replace(prompt, messages=tuple(messages), prefill=begun + prompt.prefill)
    if not (names or stops or ids or keys):
        return Valid(prompt, UNCHANGED)
    back = {tool: {sent: key for key, sent in of_tool.items()} for tool, of_tool in keys.items()}
    return Valid(prompt, Inverse(ids, {sent: name for name, sent in names.items()}, stops, back))


def _make_turns_valid(
    given: Sequence[Message], rules: Rules, *, prefill: bool
) -> tuple[list[Message], str, dict[str, str]]:
    """Returns the messages, the begun answer that ends them, and id sent → the caller's."""
    messages = drop_blanks(given) or [BEGIN]
    if not rules.system_anywhere:
        messages = place_system(messages)
    ids: dict[str, str] = {}
    called = [call.id for message in messages for call in message.tool_calls]
    if called or any(message.role is Role.TOOL for message in messages):
        taken = CallIds(rules.ids, rules.make_id, called)
        messages = pair_results(messages, taken)
        ids = taken.sent
    if rules.alternates:
        messages = merge_neighbours(messages)
    begun = ""
    if rules.begun is Begun.PREFILL and prefill:
        messages, begun = split_begun(messages)
    return order_turns(messages, rules, prefill=prefill), begun, ids


def _bound_sampling(prompt: Prompt, rules: Rules) -> Prompt:
    temperature, top_p = prompt.temperature, prompt.top_p
    presence, frequency = prompt.presence_penalty, prompt.frequency_penalty
    seed = prompt.seed
    if temperature is not None:
        temperature = min(temperature, rules.temperature)
    if top_p is not None:
        top_p = min(max(top_p, rules.top_p[0]), rules.top_p[1])
    least, most = rules.penalties
    if presence is not None:
        presence = min(max(presence, least), most)
    if frequency is not None:
        frequency = min(max(frequency, least), most)
    # 0 is the default everywhere, and some refuse it where it is written.
    presence, frequency = presence or None, frequency or None
    if seed is not None and not rules.seed[0] <= seed <= rules.seed[1]:
        # Another one, and always the same.
        seed %= rules.seed[1] + 1
    if rules.one_sampling and temperature is not None:
        top_p = None
    if rules.fixed_sampling:
        temperature, top_p = (None if temperature == 1 else temperature), (None if top_p == 1 else top_p)
    before = (
        prompt.temperature,
        prompt.top_p,
        prompt.presence_penalty,
        prompt.frequency_penalty,
        prompt.seed,
    )
    if (temperature, top_p, presence, frequency, seed) == before:
        return prompt
    return replace(
        prompt,
        temperature=temperature,
        top_p=top_p,
        presence_penalty=presence,
        frequency_penalty=frequency,
        seed=seed,
    )


def _divide_stops(prompt: Prompt, rules: Rules) -> tuple[Prompt, tuple[str, ...]]:
    """Returns the prompt with the stop sequences that the vendor takes, and the others."""
    given = prompt.stop_sequences
    taken = [stop for stop in given if rules.blank_stops or not stop.isspace()]
    if rules.stops is not None:
        taken = taken[: rules.stops]
    if len(taken) == len(given):
        return prompt, ()
    return replace(prompt, stop_sequences=tuple(taken)), tuple(stop for stop in given if stop not in taken)


def _make_tools_valid(prompt: Prompt, rules: Rules) -> tuple[Prompt, dict[str, str], Keys]:
    """Returns the prompt with tools and calls as the vendor takes them, the caller's name → the name to send of tools
    whose name does not fit, and the same of their parameters."""
    if rules.tools_for_calls and not prompt.tools:
        prompt = _declare_used(prompt)
    prompt, names = _name_tools(prompt, rules)
    prompt, keys = _name_keys(prompt, rules.keys) if rules.keys and prompt.tools else (prompt, {})
    if rules.object_arguments:
        prompt = _wrap_all_arguments(prompt)
    if rules.description is not None:
        prompt = _shorten_descriptions(prompt, rules.description)
    return prompt, names, keys


def _declare_used(prompt: Prompt) -> Prompt:
    """Returns the prompt with the tools that its calls used: on offer by the vendor's rule, not to be called."""
    used = dict.fromkeys(call.name for message in prompt.messages for call in message.tool_calls)
    if not used:
        return prompt
    return replace(prompt, tools=tuple(Tool(name, _USED_BEFORE) for name in used), tool_choice="none")


def _name_tools(prompt: Prompt, rules: Rules) -> tuple[Prompt, dict[str, str]]:
    """Returns the prompt with names of tools that fit, and the caller's name → the name to send of those that did
    not."""
    calls = [call.name for message in prompt.messages for call in message.tool_calls]
    names = name_tools([*(tool.name for tool in prompt.tools), *calls], rules.names)
    if not names:
        return prompt, names
    choice = prompt.tool_choice
    return (
        replace(
            prompt,
            tools=tuple(replace(tool, name=names.get(tool.name, tool.name)) for tool in prompt.tools),
            tool_choice=choice if choice in _CHOICES else names.get(choice, choice),
            messages=tuple(_rename(message, names) for message in prompt.messages),
        ),
        names,
    )


def _rename(message: Message, names: dict[str, str]) -> Message:
    if not message.tool_calls:
        return message
    calls = tuple(
        ToolCall(call.id, names.get(call.name, call.name), call.arguments_json) for call in message.tool_calls
    )
    return replace(message, tool_calls=calls)


def _name_keys(prompt: Prompt, pattern: re.Pattern[str]) -> tuple[Prompt, Keys]:
    """Returns the prompt with names of parameters that fit, and of each tool that had others: the caller's name →
    the name to send."""
    tools: list[Tool] = []
    keys: Keys = {}
    for tool in prompt.tools:
        shape = parameters_schema(tool)
        properties = shape.get("properties") if type(shape) is dict else None
        named = name_tools(properties, pattern) if type(properties) is dict else {}
        if type(properties) is not dict or not named:
            tools.append(tool)
            continue
        keys[tool.name] = named
        shape["properties"] = {named.get(name, name): inner for name, inner in properties.items()}
        if type(required := shape.get("required")) is list:
            shape["required"] = [named.get(name, name) if type(name) is str else name for name in required]
        tools.append(replace(tool, parameters_json=encode(shape).decode()))
    if not keys:
        return prompt, keys
    messages = tuple([_rename_arguments(message, keys) for message in prompt.messages])
    return replace(prompt, tools=tuple(tools), messages=messages), keys


def _rename_arguments(message: Message, keys: Keys) -> Message:
    if not any(call.name in keys for call in message.tool_calls):
        return message
    calls = [
        replace(call, arguments_json=rename_keys(call.arguments_json, keys[call.name]))
        if call.name in keys
        else call
        for call in message.tool_calls
    ]
    return replace(message, tool_calls=tuple(calls))


def _wrap_all_arguments(prompt: Prompt) -> Prompt:
    messages = tuple(
        _wrap_arguments(message) if message.tool_calls else message for message in prompt.messages
    )
    return replace(prompt, messages=messages)


def _wrap_arguments(message: Message) -> Message:
    """Returns the message with an object as the arguments of each of its calls."""
    calls = tuple(
        call
        if type(_value(call.arguments_json)) is dict
        else replace(call, arguments_json=encode(arguments(call)).decode())
        for call in message.tool_calls
    )
    return message if calls == message.tool_calls else replace(message, tool_calls=calls)


def _value(text: str) -> Any:
    try:
        return decode(text)
    except Undecodable:
        return None


def _shorten_descriptions(prompt: Prompt, most: int) -> Prompt:
    """Returns the prompt with the rest of long descriptions of tools in those of their parameters, which are not
    bounded."""
    if all(len(tool.description) <= most for tool in prompt.tools):
        return prompt
    return replace(prompt, tools=tuple(_shorten(tool, most) for tool in prompt.tools))


def _shorten(tool: Tool, most: int) -> Tool:
    if len(tool.description) <= most:
        return tool
    shape = dict(parameters_schema(tool))
    at = most - len(_MORE)
    rest = tool.description[at:]
    before = shape.get("description")
    shape["description"] = f"{rest}\n\n{before}" if isinstance(before, str) and before else rest
    return replace(tool, description=tool.description[:at] + _MORE, parameters_json=encode(shape).decode())
