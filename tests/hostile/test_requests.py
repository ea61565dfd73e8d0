"""Requests of a tenant with a key: too many, too large, too deep, and what nobody thought of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from pointsman.router.v1 import router_pb2 as pb

from libs.errors import InvalidArgument, PointsmanError, ResourceExhausted
from tests.hostile.conftest import SEED
from tests.hostile.ground import GENERATE, MIB, STREAM, Ground, attack

USER = pb.Message(role=pb.ROLE_USER, text="Describe a mug.")
METHODS = ("Generate", "StreamGenerate", "SelectProvider", "EstimateCost")


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def tools(*schemas: str) -> list[pb.Tool]:
    return [pb.Tool(name=f"tool_{n}", parameters_json=schema) for n, schema in enumerate(schemas)]


def calls(*arguments: str) -> list[pb.Message]:
    """A conversation in which the model has called a tool with each."""
    made = [pb.ToolCall(id=f"c{n}", name="f", arguments_json=text) for n, text in enumerate(arguments)]
    return [USER, pb.Message(role=pb.ROLE_ASSISTANT, tool_calls=made), USER]


ATTACKS: dict[str, dict[str, Any]] = {
    "100,000 tools": {"tools": [pb.Tool(name=f"t{n}") for n in range(100_000)]},
    "100,000 tools of one name": {"tools": [pb.Tool(name="t")] * 100_000},
    "500,000 messages": {"messages": [USER] * 500_000},
    "1,000,000 empty messages": {"messages": [pb.Message()] * 1_000_000},
    "1,000,000 tool calls": {
        "messages": [pb.Message(role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall()] * 1_000_000)]
    },
    "1,000,000 stop sequences": {"stop_sequences": ["x"] * 1_000_000},
    "1,000,000 models": {"models": ["m"] * 1_000_000},
    "200,000 labels": {"labels": {str(n): "" for n in range(200_000)}},
    "a deep schema": {"tools": tools(nested(200_000))},
    "a schema just not too deep for Python": {"tools": tools(nested(900))},
    "128 schemas of 200,000 empty lists": {"tools": tools(*['{"a":[' + "[]," * 20_000 + "1]}"] * 128)},
    "a schema of 2,500,000 empty lists": {"tools": tools('{"a":[' + "[]," * 2_500_000 + "1]}")},
    "an integer of 5,000 digits": {"tools": tools('{"maximum":' + "9" * 5000 + "}")},
    "an integer of 7,000,000 digits": {"tools": tools('{"maximum":' + "9" * 7_000_000 + "}")},
    "deep arguments": {"messages": calls(nested(900), nested(200_000))},
    "arguments of 2,500,000 empty lists": {"messages": calls('{"a":[' + "[]," * 2_500_000 + "1]}")},
    "lone surrogates in JSON": {"messages": calls('{"a":"\\ud800"}'), "tools": tools('{"a":"\\udfff"}')},
    "a tool's name of 8 MiB": {"tools": [pb.Tool(name="x" * 8 * MIB)]},
    "a model's name of 8 MiB": {"models": ["x" * 8 * MIB]},
    "30 MiB of text": {"messages": [pb.Message(role=pb.ROLE_USER, text="x" * 30 * MIB)]},
    "1,000 wrong messages": {"messages": [pb.Message(text="\n" * 100)] * 1000},
}


def refusal_is_the_callers(error: PointsmanError | None) -> bool:
    """The caller's fault is told as that, with no word of what the router is made of."""
    return isinstance(error, InvalidArgument | ResourceExhausted)


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_request_beyond_the_bounds_is_refused_at_once(ground: Ground, name: str) -> None:
    """Whatever is too much is named, costs next to nothing and leaves nothing behind; ten times as well as once."""
    fields: dict[str, Any] = {"messages": [USER], "models": ["gemini-0/m"]} | ATTACKS[name]
    request = pb.GenerateRequest(generation=pb.Generation(**fields)).SerializeToString()
    async with attack(ground, name):
        for method in METHODS:
            error = (await ground.send(request, path=f"/pointsman.router.v1.Router/{method}")).error
            if name != "lone surrogates in JSON":
                assert refusal_is_the_callers(error), (method, error)
        for _ in range(4):
            await ground.send(request)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=30,
)
#: JSON as people and models write it, and not quite.
json_texts = st.one_of(
    json_values.map(json.dumps),
    json_values.map(lambda value: json.dumps({"type": "object", "properties": {"a": value}})),
    st.integers(1, 2000).map(nested),
    st.integers(1, 400).map(lambda digits: '{"a":' + "9" * digits + "}"),
    st.text(alphabet='{}[]",:\\ud8e9 0.eE-', max_size=60),
    st.sampled_from(
        ['{"a":NaN}', '{"a":1e999}', '{"a":"\\ud83d"}', '{"a":"\\u0000"}', "\ufeff{}", "null", "[]", ""]
    ),
)
texts = st.text(max_size=60) | st.sampled_from(["\0", "\u202e", "e\u0301" * 50, "𝔘" * 200, " ", "\n\n"])
messages = st.lists(
    st.builds(
        pb.Message,
        role=st.integers(0, 9),
        text=texts,
        tool_call_id=texts,
        tool_calls=st.lists(
            st.builds(pb.ToolCall, id=texts, name=texts, arguments_json=json_texts), max_size=3
        ),
    ),
    max_size=5,
)
generations = st.fixed_dictionaries(
    {"messages": messages.map(lambda found: [*found, USER])},
    optional={
        "tools": st.lists(
            st.builds(
                pb.Tool, name=st.text("abc_", min_size=1, max_size=5) | texts, parameters_json=json_texts
            ),
            max_size=4,
        ),
        "tool_choice": texts | st.sampled_from(["auto", "none", "required"]),
        "response_format": st.builds(
            pb.ResponseFormat, kind=st.integers(0, 4), schema_json=json_texts, schema_name=texts
        ),
        "request_id": texts,
        "campaign": texts,
        "content_type": texts,
        "stop_sequences": st.lists(texts, max_size=10),
        "labels": st.dictionaries(texts, texts, max_size=18),
        "temperature": st.floats(),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "max_output_tokens": st.integers(-(2**31), 2**31 - 1),
        "strategy": st.integers(0, 9),
        "priority": st.integers(0, 9),
    },
)


@pytest.mark.parametrize("kind", ["openai", "openai_responses", "anthropic", "gemini"])
@seed(SEED)
@settings(settings.get_profile("hostile"))
@given(data=st.lists(generations, min_size=10, max_size=10))
async def test_no_request_is_an_error_of_ours(ground: Ground, kind: str, data: list[dict[str, Any]]) -> None:
    """Any request is answered or refused by a status of the contract, never by INTERNAL, on every wire."""
    for fields in data:
        generation = pb.Generation(models=[f"{kind}-0/m"], **fields)
        for path in (GENERATE, STREAM):
            request = pb.GenerateRequest(generation=generation).SerializeToString()
            error = (await ground.send(request, path=path)).error
            assert type(error) is not PointsmanError, (error, generation)
