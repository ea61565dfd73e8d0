"""A request from its caller to `pointsman request`: what was decided is found again, whatever became of it."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from libs.client import Client, CostClient, RequestAccount
from libs.errors import NotFound, PointsmanError
from tests.e2e.conftest import MODELS, Shared
from tests.support.load import one
from tests.support.process import spawn

ROOT = Path(__file__).parents[2]


def operator_of(shared: Shared) -> CostClient:
    """A client of the stack's analytics."""
    return CostClient(shared.stack.addresses["analytics"], shared.stack.addresses["service_token"])


async def account_of(operator: CostClient, request_id: str) -> RequestAccount:
    """The account of a request once the router has sent its record."""
    async with asyncio.timeout(20):
        while True:
            try:
                (account,) = await operator.get_request(request_id)
            except NotFound:
                pass
            else:
                if account.record is not None:
                    return account
            await asyncio.sleep(0.1)


async def first_choice(client: Client) -> str:
    """The provider that a call would go to now."""
    return (await client.select("Describe a lamp.", timeout=20)).selection.provider


async def shown(shared: Shared, *arguments: str) -> str:
    """The output of `pointsman request` on a terminal of 80 columns."""
    process = await spawn(
        sys.executable,
        "-c",
        "from cli.app import main; raise SystemExit(main())",
        "request",
        *arguments,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}",
            "COLUMNS": "80",
            "POINTSMAN_ANALYTICS": shared.stack.addresses["analytics"],
            "POINTSMAN_SERVICE_TOKEN": shared.stack.addresses["service_token"],
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_failover_is_found_with_its_decision_attempts_and_prices(
    shared: Shared, streamed: bool
) -> None:
    """The record says what the caller's own answer says; the command line shows it in 80 columns."""
    name = f"asked-{streamed}"
    fault = {"kind": "status", "preset": "overloaded", "when": {"first": 1}}
    async with shared.client() as client:
        first = await first_choice(client)
        await shared.stack.simulator.set(first, faults=[fault])
        result = await one(client, "Describe a lamp.", name, streamed=streamed)
    async with operator_of(shared) as operator:
        account = await account_of(operator, result.request_id)
        same = await operator.get_request(attempt_id=result.attempts[0].attempt_id)
    assert same == (account,)
    record = account.record
    assert record is not None
    assert (record.outcome, record.failed_over, record.attempts) == ("success", True, len(result.attempts))
    assert (record.provider, record.model) == (result.selection.provider, result.selection.model)
    assert record.cost_micro_usd == result.cost_micro_usd == sum(a.cost_micro_usd for a in account.attempts)
    assert record.streamed is streamed
    assert [a.attempt_id for a in account.attempts] == [a.attempt_id for a in result.attempts]
    assert {c.model for c in record.candidates} == set(MODELS)
    assert record.candidates[0].model.partition("/")[0] == first
    assert all(a.price_version.startswith("genai-prices ") for a in account.attempts if a.cost_micro_usd)
    out = await shown(shared, result.request_id)
    assert max(map(len, out.splitlines())) <= 80
    for told in (first, record.provider, "after a failover", "overloaded"):
        assert told in " ".join(out.split())
    assert "genai-prices" in out


async def test_a_request_that_nobody_answers_is_found_with_the_error_of_its_caller(shared: Shared) -> None:
    """The reason is the one that the caller got."""
    fault = {"kind": "status", "preset": "invalid_request"}
    async with shared.client() as client:
        for model in MODELS:
            await shared.stack.simulator.set(model.partition("/")[0], faults=[fault])
        with pytest.raises(PointsmanError) as caught:
            await one(client, "Describe a lamp.", "unanswered", streamed=False)
    async with operator_of(shared) as operator:
        account = await account_of(operator, "unanswered")
        with pytest.raises(NotFound):
            await operator.get_request("never asked")
    assert account.record is not None
    assert (account.record.outcome, account.record.error_reason) == ("failure", caught.value.reason)
    assert account.record.provider == ""
