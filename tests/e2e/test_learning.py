"""The running stack learns by itself: limits that a provider states, and a model that is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from libs.client import Client, QuotaClient, QuotaState, SetAsideClient
from libs.errors import PointsmanError
from tests.e2e.catalogs import CRASHES
from tests.support.stack import RunningStack, running_stack

TARGET = "openai/gpt-4.1-mini"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    async with running_stack(tmp_path_factory.mktemp("learning"), CRASHES) as running:
        yield running


async def call(client: Client, number: int) -> str:
    """The provider that answered, or the reason why none did."""
    try:
        result = await client.generate(f"item {number}", models=[TARGET], max_output_tokens=5, timeout=10)
    except PointsmanError as error:
        return error.reason
    return result.selection.provider


async def learned(operator: QuotaClient, client: Client, amount: int, pause: float) -> QuotaState:
    """Calls until the router takes from a limit of that many requests a minute, of which it may learn five seconds
    late, and holds no more of an earlier one; half a minute is a failure."""
    async with asyncio.timeout(30):
        number = 0
        while True:
            number += 1
            await call(client, number)
            await asyncio.sleep(pause)
            for quota in await operator.list_quotas([f"model:{TARGET}"]):
                held = (quota.unit, quota.limit, quota.shadow) == ("requests", amount, False)
                if held and 0 < quota.used + quota.outstanding <= amount:
                    return quota


async def test_a_model_that_is_gone_is_set_aside_until_an_operator_puts_it_back(stack: RunningStack) -> None:
    """Three calls find out; the others do not ask again, and operators see why and let it back in."""
    token = stack.addresses["service_token"]
    gone = [{"kind": "status", "preset": "model_not_found"}]
    await stack.simulator.set("openai", faults=gone)
    async with stack.client() as client, SetAsideClient(stack.addresses["router"], token) as operator:
        for n in range(20):
            result = await client.generate(f"item {n}", max_output_tokens=5, timeout=10)
            assert result.selection.provider == "gemini"
        assert (await stack.simulator.counters("openai"))["requests"] == 3
        (entry,) = await operator.list_set_aside()
        assert (entry.name, entry.kind) == (f"model:{TARGET}", "model")
        await stack.simulator.set("openai")
        await operator.clear_set_aside(entry.name)
        served = [
            (await client.generate(f"item {n}", max_output_tokens=5, timeout=10)).selection.provider
            for n in range(30)
        ]
    assert "openai" in served


async def test_a_stated_limit_is_kept_and_followed_when_it_falls(stack: RunningStack) -> None:
    """Headers alone teach limit and period; a flood above the limit is then stopped here, not at the provider; and a
    lower limit is kept within seconds of being stated."""
    token = stack.addresses["service_token"]
    async with stack.client() as client, QuotaClient(stack.addresses["ratelimit"], token) as operator:
        await stack.simulator.set("openai", limits={"rpm": 600})
        quota = await learned(operator, client, 570, 0.02)
        assert quota.learned is not None
        assert (quota.period, quota.learned.limit, quota.learned.source) == ("minute", 600, "headers")
        await stack.simulator.set("openai", limits={"rpm": 200})
        await learned(operator, client, 190, 0.2)
        before = await stack.simulator.counters("openai")
        began = time.monotonic()
        ended = await asyncio.gather(*(call(client, n) for n in range(400)))
        elapsed = time.monotonic() - began
        after = await stack.simulator.counters("openai")
    # A full bucket, and what came back while the flood ran.
    assert ended.count("openai") <= 200 + elapsed * 200 / 60
    assert after["limited"] - before["limited"] <= 0.05 * 400
