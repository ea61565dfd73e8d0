"""Refusals before anything is spent, and the defaults that are filled in."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from libs.conversation import (
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    ResponseFormat,
    Role,
    Text,
    Tool,
    ToolCall,
)
from libs.errors import MAX_VIOLATIONS, InvalidArgument
from libs.selection import Strategy
from libs.types import Priority
from services.router.api.accept import MAX_PROMPT_BYTES, Draft, accept
from services.router.request.generation import Prompt
from tests.support.pictures import png
from tests.support.routing import TENANT, catalog, model

CATALOG = catalog([model("a/m")])


def new_id() -> str:
    return "new"


HELLO = (Message(Role.USER, "hello"),)


def drafted(messages: tuple[Message, ...], **fields: Any) -> Draft:
    """A draft of these fields, the prompt's or its own."""
    prompt = {name: fields.pop(name) for name in Prompt.__struct_fields__ if name in fields}
    return Draft(Prompt(messages, prompt.pop("max_output_tokens", 0), **prompt), **fields)


def fields(draft: Draft) -> list[str]:
    """The fields named in the refusal; empty where it is accepted."""
    try:
        accept(CATALOG, TENANT, draft, 0.0, None, new_id)
    except InvalidArgument as error:
        return [v.field.removeprefix("generation.") for v in error.violations]
    return []


def called(*arguments: str) -> Message:
    """A turn that calls a tool with each."""
    return Message(Role.ASSISTANT, "", tuple(ToolCall(str(i), "f", text) for i, text in enumerate(arguments)))


def nested(depth: int) -> str:
    """So many objects and lists inside each other."""
    return (
        '{"a":' * (depth - depth // 2)
        + "[" * (depth // 2)
        + "1"
        + "]" * (depth // 2)
        + "}" * (depth - depth // 2)
    )


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (drafted(()), "messages"),
        (drafted(HELLO, campaign="summer\nsale"), "campaign"),
        (drafted((Message(Role.USER, " \n"),)), "messages[0].text"),
        (drafted((Message(Role.USER, "x"),), roleless=(0,)), "messages[0].role"),
        (drafted(HELLO, stop_sequences=("x" * 1025,)), "stop_sequences"),
        (drafted((Message(Role.TOOL, "x"),)), "messages[0].tool_call_id"),
        (
            drafted((Message(Role.USER, "x", (ToolCall("1", "f", "{}"),)),)),
            "messages[0].tool_calls",
        ),
        (drafted((Message(Role.USER, "x" * (MAX_PROMPT_BYTES + 1)),)), "messages"),
        (drafted(HELLO, content_type="poetry"), "content_type"),
        (drafted(HELLO, max_output_tokens=-1), "max_output_tokens"),
        (drafted(HELLO, max_output_tokens=-5), "max_output_tokens"),
        (drafted(HELLO, max_output_tokens=2_000_000), "max_output_tokens"),
        (drafted(HELLO, temperature=2.1), "temperature"),
        (drafted(HELLO, temperature=math.nan), "temperature"),
        (drafted(HELLO, temperature=-math.inf), "temperature"),
        (drafted(HELLO, top_p=0.0), "top_p"),
        (drafted(HELLO, presence_penalty=3), "presence_penalty"),
        (drafted(HELLO, max_attempts=0), "max_attempts"),
        (drafted(HELLO, max_cost_micro_usd=0), "max_cost"),
        (drafted(HELLO, max_cost_micro_usd=-1), "max_cost"),
        (drafted(HELLO, request_id="x" * 129), "request_id"),
        (drafted(HELLO, campaign="a\0b"), "campaign"),
        (drafted(HELLO, stop_sequences=("",)), "stop_sequences"),
        (drafted(HELLO, stop_sequences=("x",) * 9), "stop_sequences"),
        (drafted(HELLO, models=("m",) * 21), "models"),
        (drafted(HELLO, models=("m" * 258,)), "models[0]"),
        (drafted(HELLO * 1001), "messages"),
        (drafted((called(*["{}"] * 1001),)), "messages.tool_calls"),
        (drafted(HELLO, tools=(Tool("f"),) * 129), "tools"),
        (drafted(HELLO, labels={str(i): "" for i in range(17)}), "labels"),
        (drafted(HELLO, labels={"k" * 200: "v"}), "labels"),
        (drafted(HELLO, labels={"": "v"}), "labels"),
        (drafted(HELLO, labels={"k": "\0"}), "labels"),
        (drafted(HELLO, labels={"k": "\ud800"}), "labels"),
        (drafted(HELLO, request_id="\udfff"), "request_id"),
        (drafted((Message(Role.USER, "\ud83d"),)), "messages[0].text"),
        (drafted((called("\ud83d"),)), "messages[0].tool_calls[0].arguments_json"),
        (drafted(HELLO, tools=(Tool("f"), Tool("g"), Tool("f"))), "tools[2].name"),
        (
            drafted(HELLO, tools=(Tool("f", "", '{"maximum": ' + "9" * 5000 + "}"),)),
            "tools[0].parameters_json",
        ),
        (drafted(HELLO, tools=(Tool("f", "", nested(101)),)), "tools[0].parameters_json"),
        (drafted(HELLO, tools=(Tool("f", "", nested(100_000)),)), "tools[0].parameters_json"),
        (drafted((called(nested(101)),)), "messages[0].tool_calls[0].arguments_json"),
        (drafted((called(nested(100_000)),)), "messages[0].tool_calls[0].arguments_json"),
        (
            drafted((called('{"a": NaN, "b": ' + nested(101) + "}"),)),
            "messages[0].tool_calls[0].arguments_json",
        ),
        (drafted(HELLO, tools=(Tool(""),)), "tools[0].name"),
        (drafted(HELLO, tools=(Tool("f", "", "not json"),)), "tools[0].parameters_json"),
        (drafted(HELLO, tool_choice="g"), "tool_choice"),
        (drafted(HELLO, response_format=ResponseFormat("[1]")), "response_format.schema_json"),
    ],
)
def test_a_wrong_field_is_named(draft: Draft, field: str) -> None:
    """Each wrong field is refused by its own name, and alone."""
    assert fields(draft) == [field]


def test_all_wrong_fields_are_named_at_once() -> None:
    """A request with several faults is told all of them."""
    assert set(fields(drafted((), temperature=9, content_type="x"))) == {
        "messages",
        "temperature",
        "content_type",
    }


def test_defaults_come_from_the_catalog() -> None:
    """Unset options are filled from content type, policy and tenant; those that are set stay, zero included."""
    generation = accept(CATALOG, TENANT, drafted(HELLO), 10.0, None, new_id)
    assert generation.content_type == "general"
    assert generation.prompt.max_output_tokens == 100
    assert generation.prompt.temperature is None
    assert generation.deadline == 10.0 + TENANT.default_deadline
    assert (generation.strategy, generation.priority) == (Strategy.BALANCED, Priority.STANDARD)
    assert generation.request_id == "new"
    zero = accept(CATALOG, TENANT, drafted(HELLO, temperature=0.0, seed=0), 10.0, 5.0, new_id)
    assert (zero.prompt.temperature, zero.prompt.seed, zero.deadline) == (0.0, 0, 15.0)


MIB = "x" * 2**20


@pytest.mark.parametrize(
    "part",
    [
        {"messages": (called(json.dumps({"a": MIB})),)},
        {"messages": (Message(Role.TOOL, "", (), MIB),)},
        {"messages": (Message(Role.ASSISTANT, "", (ToolCall("1", MIB, ""),)),)},
        {"messages": (Message(Role.ASSISTANT, "", (ToolCall(MIB, "f", ""),)),)},
        {"messages": (Message(Role.USER, "é" * 2**19),)},
        {"tools": (Tool("f", MIB),)},
    ],
)
def test_every_text_of_a_prompt_counts_against_its_bytes(part: dict[str, Any]) -> None:
    """A MiB is room for nothing more, wherever it stands; what is too large is not decoded."""
    rest = {name: value for name, value in part.items() if name != "messages"}
    for room, found in ((2**20, ["messages"]), (2**20 + 100, [])):
        filler = Message(Role.USER, "x" * (MAX_PROMPT_BYTES - room))
        assert fields(drafted((*part.get("messages", ()), *HELLO, filler), **rest)) == found


def test_json_is_bounded_before_it_is_decoded() -> None:
    """Bytes and values of all schemas, and values of all arguments, are bounded together; up to there all pass."""
    half, full = json.dumps({"enum": [1] * 49_000}), json.dumps({"enum": [1] * 98_000})
    assert fields(drafted(HELLO, tools=(Tool("f", "", half), Tool("g", "", half)))) == []
    assert fields(drafted(HELLO, tools=(Tool("f", "", full), Tool("g", "", half)))) == ["tools"]
    assert fields(drafted(HELLO, tools=(Tool("f", "", half),), response_format=ResponseFormat(full))) == [
        "tools"
    ]
    large = json.dumps({"description": MIB})
    assert fields(drafted(HELLO, response_format=ResponseFormat(large))) == ["response_format.schema_json"]
    assert fields(drafted((called(*[full] * 2),))) == []
    assert fields(drafted((called(*[full] * 3),))) == ["messages.tool_calls"]


def test_what_is_unusual_and_right_passes() -> None:
    """Deep JSON up to the bound, text that only looks deep, arguments that are no JSON, and any Unicode."""
    calls = called(nested(100), json.dumps({"code": "[" * 5000}), '{"cut": [1, 2', "[" * 90, '"\\ud83d"', "")
    said = Message(Role.USER, "😀 \0 नमस्ते")
    assert fields(drafted((calls, said), tools=(Tool("f", "", nested(100)),))) == []


def test_only_so_many_violations_are_told() -> None:
    """A thousand wrong messages give twenty violations and how many more there are."""
    with pytest.raises(InvalidArgument) as caught:
        accept(CATALOG, TENANT, drafted((Message(Role.USER, ""),) * 1000), 0.0, None, new_id)
    assert len(caught.value.violations) == MAX_VIOLATIONS
    assert caught.value.message.endswith("; and 980 more")
    assert len(caught.value.message) < 2000


def said(*parts: Part, role: Role = Role.USER, text: str = "") -> Draft:
    """A request of one message with parts, and a question after it."""
    return drafted((Message(role, text, (), "1" if role is Role.TOOL else "", parts), *HELLO))


PNG = png()
IMAGE, THOUGHT = Image(PNG), Reasoning("hm", "c2ln", kind="anthropic")


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (said(Text("a"), text="b"), "messages[0].text"),
        (said(IMAGE, role=Role.SYSTEM), "messages[0].parts[0]"),
        (said(Text("a"), IMAGE, role=Role.ASSISTANT), "messages[0].parts[1]"),
        (said(THOUGHT, Text("a")), "messages[0].parts[0]"),
        (said(Text("a"), Refusal("no"), role=Role.SYSTEM), "messages[0].parts[1]"),
        (said(THOUGHT, role=Role.TOOL), "messages[0].parts[0]"),
        (said(Image()), "messages[0].parts[0]"),
        (said(Image(PNG, "https://a.example/b.png")), "messages[0].parts[0]"),
        (said(Image(url="ftp://a.example/b.png")), "messages[0].parts[0].url"),
        (said(Image(url="file:///etc/passwd")), "messages[0].parts[0].url"),
        (said(Image(url="https://a.example/" + "b" * 5000)), "messages[0].parts[0].url"),
        (said(Image(PNG + bytes(5 * 2**20))), "messages[0].parts[0]"),
        (said(File(b"%PDF-1.7", name="a\n")), "messages[0].parts[0].name"),
        (said(Text("\ud83d")), "messages[0].parts[0]"),
        (said(Reasoning("a", "\ud83d"), role=Role.ASSISTANT), "messages[0].parts[0].opaque"),
        (said(*[IMAGE] * 101), "messages.parts.data"),
        (said(*[Text("a")] * 2001), "messages.parts"),
    ],
)
def test_a_wrong_part_is_named(draft: Draft, field: str) -> None:
    """Each is refused by its own name, and alone; too many are refused before they are looked at."""
    assert fields(draft) == [field]


def test_every_role_may_say_its_parts() -> None:
    """Users show images and files, assistants had thoughts and refused, tools show images; anybody says text."""
    messages = (
        Message(Role.SYSTEM, parts=(Text("Be brief."),)),
        Message(
            Role.USER, parts=(IMAGE, Image(url="http://a.example/b.png"), File(b"%PDF-1.7", name="a.pdf"))
        ),
        Message(Role.ASSISTANT, parts=(THOUGHT, Text("A mug."), Refusal("No."))),
        Message(Role.TOOL, tool_call_id="1", parts=(Text("seen"), IMAGE)),
        *HELLO,
    )
    assert fields(drafted(messages)) == []


@pytest.mark.parametrize(
    "part", [Text(MIB), File(b"%PDF-1.7" + bytes(2**20 - 8)), Image(PNG + bytes(2**20 - len(PNG)))]
)
def test_every_part_counts_against_the_bytes_of_a_prompt(part: Part) -> None:
    """Texts by their UTF-8, images and files by their bytes; a MiB is room for nothing more."""
    for room, found in ((2**20, ["messages"]), (2**20 + 100, [])):
        filler = Message(Role.USER, "x" * (MAX_PROMPT_BYTES - room))
        assert fields(drafted((Message(Role.USER, parts=(part,)), *HELLO, filler))) == found


@pytest.mark.parametrize(
    "messages",
    [
        (*HELLO, Message(Role.SYSTEM, "Answer in French.")),
        (Message(Role.SYSTEM, "Tell a joke."),),
        (Message(Role.USER, " \n"), *HELLO),
        (Message(Role.SYSTEM, ""), *HELLO),
        (*HELLO, Message(Role.ASSISTANT, "", (ToolCall("", "f", ""),)), Message(Role.TOOL, "x")),
    ],
)
def test_a_conversation_that_some_vendor_takes_is_accepted(messages: tuple[Message, ...]) -> None:
    """Its order, its blank turns and calls without ids are made valid for each provider, and no fault."""
    assert fields(drafted(messages)) == []


def test_a_conversation_that_says_nothing_is_refused() -> None:
    """Each message that might have said something is named."""
    nothing = (Message(Role.SYSTEM, " "), Message(Role.USER, parts=(Text("\n"),)))
    assert fields(drafted(nothing)) == ["messages[0].text", "messages[1].text"]


def test_a_result_without_the_id_of_its_call_is_refused() -> None:
    """Only where a call before it has none either is it known by its place."""
    called = Message(Role.ASSISTANT, "", (ToolCall("a", "f", ""),))
    assert fields(drafted((*HELLO, called, Message(Role.TOOL, "x")))) == ["messages[2].tool_call_id"]
