"""Random conversations on every wire: what is sent is valid, twice is once, and the way back leads back."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from libs.catalog.model import Provider
from libs.conversation import Message, Part, Reasoning, ResponseFormat, Role, Text, Tool, ToolCall
from services.router.providers.thoughts import keep_own_thoughts
from services.router.providers.wires.validity import rules
from services.router.providers.wires.validity.make_valid import make_valid
from services.router.providers.wires.validity.rules import Rules
from services.router.request.generation import Prompt
from tests.unit.router.providers.wires.test_strict import TARGETS, refusal

#: Sampling and effort that single models refuse: whether to do without is not for us to decide.
NOT_OURS = ("temperature of a reasoning model", "field of no reasoning model", "penalty")
ANYBODY = Provider("anybody", "openai_compatible", "http://anybody.test/v1")
EVERY_RULES: tuple[Rules, ...] = tuple(value for value in vars(rules).values() if isinstance(value, Rules))

TEXTS = st.sampled_from(["", " ", "\n\t", "Hello", "Bern ", " Grüße 🙂", '{"json": 1}', "a" * 300])
IDS = st.sampled_from(
    ["", "call_0", "call_1", "a.b:0", "weather_0 1", "x" * 65, "é", "abcdef123", "toolu_01"]
)
NAMES = st.sampled_from(["weather", "get.weather", "get_weather", "3d", "a:b", "news-list", "n" * 64])
ARGUMENTS = st.sampled_from(["", "{}", '{"city":"Bern"}', "[1]", "null", '{"city": "Be', "  "])
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "integer", "array", "object", ["string", "null"]]),
            "description": st.just("Something"),
            "minLength": st.just(1),
            "maximum": st.just(9),
            "minItems": st.sampled_from([0, 1, 3]),
            "maxItems": st.just(3),
            "enum": st.just(["a", "b"]),
        },
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            },
            optional={
                "required": st.just(["a"]),
                "additionalProperties": st.sampled_from([True, False, {"type": "string"}]),
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("array"), "items": inner}, optional={"uniqueItems": st.just(True)}
        ),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
    ),
    max_leaves=5,
)
ROUTES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("abc"), SCHEMAS, max_size=3)},
    optional={"required": st.just([])},
)
TOOLS = st.builds(
    Tool,
    NAMES,
    st.sampled_from(["", "Tells the weather.", "Tells it. " * 150]),
    st.one_of(
        st.just(""), SCHEMAS.filter(lambda schema: schema.get("type", "object") == "object").map(json.dumps)
    ),
)


@st.composite
def rounds(draw: st.DrawFn) -> list[Message]:
    """Calls at once, with their results in any order, and perhaps others who speak between or after them."""
    calls = draw(st.lists(st.builds(ToolCall, IDS, NAMES, ARGUMENTS), min_size=1, max_size=3))
    results = [Message(Role.TOOL, draw(TEXTS), tool_call_id=call.id) for call in calls]
    between = draw(st.lists(st.builds(Message, st.sampled_from([Role.SYSTEM, Role.USER]), TEXTS), max_size=1))
    parts: tuple[Part, ...] = draw(
        st.sampled_from(
            [
                (),
                (
                    Reasoning("hm", "c2ln", kind="elsewhere", tool_call_id=calls[0].id),
                    Text("Let me look."),
                    Text(" "),
                ),
            ]
        )
    )
    text = "" if parts else draw(TEXTS)
    return [
        Message(Role.ASSISTANT, text, tuple(calls), parts=parts),
        *between,
        *draw(st.permutations(results)),
    ]


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    """A request that some vendor takes."""
    spoken = st.builds(Message, st.sampled_from([Role.SYSTEM, Role.USER, Role.ASSISTANT]), TEXTS).map(
        lambda m: [m]
    )
    turns = draw(st.lists(st.one_of(spoken, rounds()), max_size=6))
    tools = tuple(draw(st.lists(TOOLS, max_size=3, unique_by=lambda tool: tool.name)))
    choices = ["", "auto", "none", *(["required", tools[0].name] if tools else [])]
    return Prompt(
        (Message(Role.USER, "How is it?"), *(message for turn in turns for message in turn)),
        draw(st.sampled_from([1, 500, 500_000])),
        temperature=draw(st.sampled_from([None, 0.0, 0.7, 2.0])),
        top_p=draw(st.sampled_from([None, 0.001, 1.0])),
        stop_sequences=tuple(
            draw(st.lists(st.sampled_from(["a", "b", "\n", "cd", " ", "e", "f"]), unique=True))
        ),
        response_format=draw(
            st.one_of(
                st.none(),
                st.just(ResponseFormat()),
                st.builds(ResponseFormat, ROUTES.map(json.dumps), st.sampled_from(["answer", "an answer"])),
            )
        ),
        tools=tools,
        tool_choice=draw(st.sampled_from(choices)),
        presence_penalty=draw(st.sampled_from([None, -1.0, 2.0])),
    )


@settings(max_examples=50, deadline=None)
@given(prompts())
def test_whatever_a_vendor_takes_every_vendor_takes(prompt: Prompt) -> None:
    """No wire's request breaks a rule of the simulator's strict mode, which shares no code with the wires."""
    prompt = keep_own_thoughts(prompt, ANYBODY, "anybody")
    broken = {name: rule for name, target in TARGETS.items() if (rule := refusal(target, prompt))}
    assert {name: rule for name, rule in broken.items() if rule not in NOT_OURS} == {}


@settings(max_examples=80, deadline=None)
@given(prompts(), st.sampled_from(EVERY_RULES))
def test_what_is_valid_stays_as_it_is(prompt: Prompt, vendor: Rules) -> None:
    """Doing it twice is doing it once, so that a conversation that grows keeps its beginning, which vendors cache."""
    once = make_valid(prompt, vendor, 4000).prompt
    twice = make_valid(replace(once, prefill=""), vendor, 4000)
    assert replace(twice.prompt, prefill=once.prefill) == once
    assert twice.inverse.names == {}
    assert twice.inverse.stops == ()


@settings(max_examples=80, deadline=None)
@given(prompts(), st.sampled_from(EVERY_RULES))
def test_the_way_back_leads_back(prompt: Prompt, vendor: Rules) -> None:
    """Each call sent has an id of its own that stands for the caller's, each result follows its call, and names that
    were changed are told apart and known."""
    sent, inverse, _ = make_valid(prompt, vendor, 4000)
    calls = [call for message in sent.messages for call in message.tool_calls]
    given_calls = [call for message in prompt.messages for call in message.tool_calls]
    assert len({call.id for call in calls}) == len(calls)
    assert [inverse.ids[call.id] for call in calls] == [call.id for call in given_calls]
    for message in sent.messages:
        thoughts = [part for part in message.parts if isinstance(part, Reasoning) and part.tool_call_id]
        assert {thought.tool_call_id for thought in thoughts} <= {call.id for call in message.tool_calls}
    assert [inverse.names.get(call.name, call.name) for call in calls] == [call.name for call in given_calls]
    assert all(vendor.ids.fullmatch(call.id) and vendor.names.fullmatch(call.name) for call in calls)
    results = [message for message in sent.messages if message.role is Role.TOOL]
    assert [message.tool_call_id for message in results] == [call.id for call in calls]
    if prompt.tools:
        names = [inverse.names.get(tool.name, tool.name) for tool in sent.tools]
        assert names == [tool.name for tool in prompt.tools]
    assert {*sent.stop_sequences, *inverse.stops} == set(prompt.stop_sequences)


@settings(max_examples=80, deadline=None)
@given(prompts(), prompts(), st.sampled_from(EVERY_RULES))
def test_a_conversation_that_grows_keeps_its_ids(prompt: Prompt, later: Prompt, vendor: Rules) -> None:
    """The ids of earlier calls do not depend on what comes after them."""
    grown = replace(prompt, messages=prompt.messages + later.messages)
    ids = [call.id for m in make_valid(prompt, vendor).prompt.messages for call in m.tool_calls]
    longer = [call.id for m in make_valid(grown, vendor).prompt.messages for call in m.tool_calls]
    assert longer[: len(ids)] == ids
