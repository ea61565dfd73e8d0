"""Bursts on the running stack: spread where the limit is paced, and held back where the provider takes only so many
calls at once. No policy here says that anybody may wait, but one."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from libs.client import Client, Degradation, Result
from libs.errors import ResourceExhausted
from tests.support.stack import RunningStack, running_stack

#: Tenants, by what limits them; their keys are their names.
TENANTS = ("paced", "strict", "patient", "hasty")
#: Calls at once that the catalog lets the provider have.
AT_ONCE = 3
BURST = 10
LIMIT = {"unit": "requests", "period": "second", "limit": 5, "burst": 1}


def catalog() -> str:
    url = "${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}"
    model = {
        "context_window": 100_000,
        "max_output_tokens": 4096,
        "capabilities": ["streaming", "system"],
        "price": {"input": 1, "output": 2},
    }
    tenants: dict[str, dict[str, Any]] = {
        name: {
            "key_sha256": [hashlib.sha256(name.encode()).hexdigest()],
            "policies": {"default": "queueing" if name == "patient" else "default"},
        }
        for name in TENANTS
    }
    tenants["paced"]["limits"] = [LIMIT | {"pace": True}]
    tenants["strict"]["limits"] = [LIMIT]
    tiers = [["only/m"]]
    return json.dumps(
        {
            "version": 1,
            "domain": "shaping",
            "providers": {
                "only": {
                    "kind": "openai_compatible",
                    "base_url": f"{url}/only/v1",
                    "api_key_env": "",
                    "limits": [{"unit": "concurrency", "limit": AT_ONCE}],
                }
            },
            "models": {"only/m": model},
            "policies": {
                "default": {"tiers": tiers, "degradation": ["refuse"]},
                "queueing": {"tiers": tiers, "degradation": ["queue", "refuse"]},
            },
            "content_types": {"general": {"max_output_tokens": 100}},
            "tenants": tenants,
        }
    )


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    async with running_stack(tmp_path_factory.mktemp("shaping"), catalog()) as running:
        yield running


async def burst(client: Client) -> tuple[list[Result], list[ResourceExhausted]]:
    """Ten requests at once: those answered, and those refused for a limit."""
    outcomes: Sequence[Result | BaseException] = await asyncio.gather(
        *(client.generate(f"Describe kettle {i}.", timeout=30) for i in range(BURST)), return_exceptions=True
    )
    for outcome in outcomes:
        if not isinstance(outcome, Result | ResourceExhausted):
            raise outcome
    return (
        [outcome for outcome in outcomes if isinstance(outcome, Result)],
        [outcome for outcome in outcomes if isinstance(outcome, ResourceExhausted)],
    )


async def test_a_burst_over_a_paced_limit_is_answered_at_the_rate_of_the_limit(stack: RunningStack) -> None:
    """All of it, and no faster than five a second allow: attempt for attempt in the ledger."""
    await stack.simulator.set("only")
    async with stack.client("paced") as client:
        answered, refused = await burst(client)
    assert refused == []
    assert sum(result.degradation is Degradation.QUEUED for result in answered) >= BURST - 2
    ids = {result.request_id for result in answered}
    rows = await stack.settled_ledger("", lambda rows: len({r["request_id"] for r in rows} & ids) == BURST)
    began = sorted(row["started"].timestamp() for row in rows if row["request_id"] in ids)
    # One at once, one each fifth of a second; the two clocks and a busy machine may shift an end by a little.
    assert began[-1] - began[0] >= (BURST - 1) / 5 - 0.3


async def test_the_same_burst_over_a_limit_that_is_not_paced_is_refused(stack: RunningStack) -> None:
    """Most of it at once, with when to come back."""
    await stack.simulator.set("only")
    async with stack.client("strict") as client:
        answered, refused = await burst(client)
    assert answered
    assert len(refused) >= BURST / 2
    assert all(error.retry_after is not None for error in refused)
    assert {v.subject for error in refused for v in error.violations} == {"tenant:strict requests second"}


async def test_a_provider_gets_no_more_calls_at_once_than_its_limit(stack: RunningStack) -> None:
    """The rest waits where the policy says so and is answered too; where it does not, it is refused, by name."""
    await stack.simulator.set("only", unary_ms=300)
    async with stack.client("patient") as client:
        answered, refused = await burst(client)
    assert (len(answered), refused) == (BURST, [])
    assert (await stack.simulator.counters("only"))["concurrent_max"] == AT_ONCE
    await stack.simulator.set("only", unary_ms=2000)
    async with stack.client("hasty") as client:
        answered, refused = await burst(client)
    assert (len(answered), len(refused)) == (AT_ONCE, BURST - AT_ONCE)
    assert {v.subject for error in refused for v in error.violations} == {"provider:only concurrency"}
    assert all(error.retry_after is not None for error in refused)
