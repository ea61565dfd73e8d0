"""What is refused before anything is spent, and which defaults are filled in."""

from __future__ import annotations

import math

import pytest

from libs.errors import InvalidArgument
from libs.types import Priority
from services.router.accept import MAX_PROMPT_BYTES, Draft, accept
from services.router.domain.generation import Message, ResponseFormat, Role, Strategy, Tool, ToolCall
from tests.support.routing import TENANT, catalog, model

CATALOG = catalog([model("a/m")])
HELLO = ((Role.USER, Message(Role.USER, "hello")),)


def fields(draft: Draft) -> list[str]:
    """The fields named in the refusal; empty where it is accepted."""
    try:
        accept(CATALOG, TENANT, draft, 0.0, None)
    except InvalidArgument as error:
        return [v.field.removeprefix("generation.") for v in error.violations]
    return []


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (Draft(()), "messages"),
        (Draft(HELLO, campaign="summer\nsale"), "campaign"),
        (Draft(((Role.USER, Message(Role.USER, " \n")),)), "messages[0].text"),
        (Draft(((None, Message(Role.USER, "x")),)), "messages[0].role"),
        (Draft(((Role.SYSTEM, Message(Role.SYSTEM, "x")),)), "messages"),
        (Draft(((Role.TOOL, Message(Role.TOOL, "x")),)), "messages[0].tool_call_id"),
        (
            Draft(((Role.USER, Message(Role.USER, "x", (ToolCall("1", "f", "{}"),))),)),
            "messages[0].tool_calls",
        ),
        (Draft(((Role.USER, Message(Role.USER, "x" * (MAX_PROMPT_BYTES + 1))),)), "messages"),
        (Draft(HELLO, content_type="poetry"), "content_type"),
        (Draft(HELLO, max_output_tokens=0), "max_output_tokens"),
        (Draft(HELLO, max_output_tokens=-5), "max_output_tokens"),
        (Draft(HELLO, max_output_tokens=2_000_000), "max_output_tokens"),
        (Draft(HELLO, temperature=2.1), "temperature"),
        (Draft(HELLO, temperature=math.nan), "temperature"),
        (Draft(HELLO, temperature=-math.inf), "temperature"),
        (Draft(HELLO, top_p=0.0), "top_p"),
        (Draft(HELLO, presence_penalty=3), "presence_penalty"),
        (Draft(HELLO, max_attempts=0), "max_attempts"),
        (Draft(HELLO, max_cost_micro_usd=0), "max_cost"),
        (Draft(HELLO, max_cost_micro_usd=-1), "max_cost"),
        (Draft(HELLO, request_id="x" * 129), "request_id"),
        (Draft(HELLO, campaign="a\0b"), "campaign"),
        (Draft(HELLO, stop_sequences=("",)), "stop_sequences"),
        (Draft(HELLO, stop_sequences=("x",) * 9), "stop_sequences"),
        (Draft(HELLO, models=("m",) * 21), "models"),
        (Draft(HELLO, labels={"k" * 200: "v"}), "labels"),
        (Draft(HELLO, labels={"": "v"}), "labels"),
        (Draft(HELLO, tools=(Tool(""),)), "tools[0].name"),
        (Draft(HELLO, tools=(Tool("f", "", "not json"),)), "tools[0].parameters_json"),
        (Draft(HELLO, tool_choice="g"), "tool_choice"),
        (Draft(HELLO, response_format=ResponseFormat("[1]")), "response_format.schema_json"),
    ],
)
def test_a_wrong_field_is_named(draft: Draft, field: str) -> None:
    """Each wrong field is refused by its own name, and alone."""
    assert fields(draft) == [field]


def test_all_wrong_fields_are_named_at_once() -> None:
    """A request with several faults is told all of them."""
    assert set(fields(Draft((), temperature=9, content_type="x"))) == {
        "messages",
        "temperature",
        "content_type",
    }


def test_defaults_come_from_the_catalog() -> None:
    """What is unset is filled from content type, policy and tenant; what is set stays, zero included."""
    generation = accept(CATALOG, TENANT, Draft(HELLO), 10.0, None)
    assert generation.content_type == "general"
    assert generation.prompt.max_output_tokens == 100
    assert generation.prompt.temperature is None
    assert generation.deadline == 10.0 + TENANT.default_deadline
    assert (generation.strategy, generation.priority) == (Strategy.BALANCED, Priority.STANDARD)
    assert len(generation.request_id) == 32
    zero = accept(CATALOG, TENANT, Draft(HELLO, temperature=0.0, seed=0), 10.0, 5.0)
    assert (zero.prompt.temperature, zero.prompt.seed, zero.deadline) == (0.0, 0, 15.0)
