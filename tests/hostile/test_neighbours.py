"""One tenant's words and faults change nothing for another, on the same provider and model."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from pointsman.router.v1 import router_pb2 as pb

from tests.hostile.conftest import SEED
from tests.hostile.ground import CALM, Ground, attack

#: Names that a tool may well have, and words that providers use of accounts.
NAMES = (
    "get_overdue_invoices",
    "check_account_suspended",
    "list_flagged_reviews",
    "context_window_resize",
    "rotate_invalid_api_key",
    "insufficient_quota_report",
    "billing_hard_limit_reached",
    "model_not_found_page",
)
WORDS = re.findall(
    r"\w+",
    """invoice overdue quota exceeded account suspended deactivated billing credit balance insufficient api_key
    invalid expired unauthorized permission denied payment required context_length maximum tokens too_long flagged
    policy content safety model retired deprecated not_found rate_limit overloaded region organization disabled
    plan upgrade""",
)
ECHOES = (
    "Invalid schema for function '{0}': In context=('properties', 'ids'), array schema missing items.",
    "Invalid 'tools[0].function.name': '{0}' is used twice.",
    'Tool "{0}" has an invalid schema: "{0}" must be an object',
    "Conversation roles must alternate; got: '{0}'",
    "tools.0.custom.name: `{0}` should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'",
)


@pytest.fixture(autouse=True)
async def fresh(ground: Ground) -> None:
    """Each test has a neighbour and a shared provider of its own."""
    await ground.move()


def error(message: str, code: str | None = "invalid_function_parameters") -> dict[str, Any]:
    said = {"message": message, "type": "invalid_request_error", "param": "tools[0].function", "code": code}
    return {"error": said}


async def echo(ground: Ground, name: str, status: int, template: str) -> None:
    """The attacker's calls, each refused by the shared provider with words that repeat the tool's name."""
    body = error(template.format(name), None if status == 422 else "invalid_function_parameters")
    fault = {"kind": "status", "status": status, "body": body, "when": {"contains": name}}
    await ground.stack.simulator.set(ground.shared, **CALM, faults=[fault])
    tools = [pb.Tool(name=name)]
    # At once, so that no success of the neighbour stands between them.
    await asyncio.gather(
        *(
            ground.ask(
                [f"{ground.shared}/m"], messages=[said(f"Question {n}")], tools=tools, stream=n % 2 == 1
            )
            for n in range(6)
        )
    )


def said(text: str) -> pb.Message:
    return pb.Message(role=pb.ROLE_USER, text=text)


async def assert_not_taken(ground: Ground) -> None:
    """The neighbour is still served by the provider of its first choice, at the first try."""
    for number in range(3):
        result = await ground.neighbour.generate(f"Describe a chair, {number}.", timeout=20)
        assert [attempt.provider for attempt in result.attempts] == [ground.shared]


@pytest.mark.parametrize("name", NAMES)
async def test_the_name_of_a_tool_takes_no_provider(ground: Ground, name: str) -> None:
    """A refusal that repeats the caller's words says nothing of the provider's account, model or load."""
    async with attack(ground, f"refusals that repeat {name}"):
        for template in ECHOES:
            await echo(ground, name, 400, template)
        await assert_not_taken(ground)
    await ground.calm()


async def test_no_words_of_a_caller_take_a_provider(ground: Ground) -> None:
    """Whatever names and refusals are made of."""

    @seed(SEED)
    @settings(settings.get_profile("hostile"))
    @given(
        attacks=st.lists(
            st.tuples(
                st.lists(st.sampled_from(WORDS), min_size=2, max_size=5)
                .map("_".join)
                .map(lambda name: name[:64]),
                st.sampled_from([400, 400, 404, 422]),
                st.sampled_from(ECHOES),
            ),
            min_size=5,
            max_size=5,
        )
    )
    def collect(attacks: list[tuple[str, int, str]]) -> None:
        found.extend(attacks)

    found: list[tuple[str, int, str]] = []
    collect()
    async with attack(ground, "refusals made of providers' words"):
        for name, status, template in found[:30]:
            await echo(ground, name, status, template)
        await assert_not_taken(ground)
    await ground.calm()


async def test_one_tenants_faults_leave_the_retries_of_another(ground: Ground) -> None:
    """Forty prompts that are too long for every model do not use up what lets the neighbour's fallback work."""
    refused = {"kind": "status", "preset": "context_length", "when": {"contains": "OVERSIZED"}}
    evils = [ground.evil("openai") for _ in range(3)]
    for name in (ground.shared, *evils):
        await ground.stack.simulator.set(name, **CALM, faults=[refused])
    async with attack(ground, "forty oversized prompts"):
        models = [f"{ground.shared}/m", *(f"{name}/m" for name in evils)]
        for _ in range(40):
            await ground.ask(models, messages=[said("OVERSIZED")], max_attempts=4)
        for number in range(10):
            result = await ground.neighbour.generate(
                f"OVERSIZED for the first model alone, {number}", timeout=20
            )
            assert result.selection.provider == "backup"
    for name in (ground.shared, *evils):
        await ground.stack.simulator.set(name, tokens=20)
