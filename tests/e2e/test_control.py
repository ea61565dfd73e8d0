"""Operators' words under load, from the command's rpc to providers: whole stack, real processes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from libs.client import Client, ControlClient, HealthClient, HistoryClient
from libs.errors import Unavailable
from tests.e2e.catalogs import CAREFUL_KEY
from tests.e2e.conftest import Shared

WHO = ("ann", "because")


@asynccontextmanager
async def control(shared: Shared) -> AsyncIterator[ControlClient]:
    addresses = shared.stack.addresses
    async with ControlClient(addresses["health"], addresses["service_token"]) as client:
        yield client


async def providers(client: Client, calls: int, **more: Any) -> Counter[str]:
    """The providers that answer so many calls, eight at once; every one is answered."""
    slots = asyncio.Semaphore(8)

    async def call() -> str:
        async with slots:
            return (await client.generate("Describe a mug.", timeout=20, **more)).selection.provider

    return Counter(await asyncio.gather(*[call() for _ in range(calls)]))


async def until_all(client: Client, provider: str, **more: Any) -> None:
    """Returns once this provider alone answers."""
    async with asyncio.timeout(20):
        while await providers(client, 8, **more) != {provider: 8}:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
async def test_a_rehabilitated_provider_gets_its_share_under_load(shared: Shared, share: float) -> None:
    """Within ten points, at each step, of 300 calls; the others go to the next, and none is lost."""
    async with shared.client() as client, control(shared) as operator:
        await operator.set_mode("openai", "", "blocked", *WHO)
        await until_all(client, "anthropic")
        await operator.set_mode("openai", "", "rehabilitating", *WHO, share=share, by_hand=True)
        async with asyncio.timeout(20):
            while "openai" not in await providers(client, 16):
                await asyncio.sleep(0.05)
        answered = await providers(client, 300)
        assert answered["openai"] / 300 == pytest.approx(share, abs=0.1)
        assert answered["openai"] + answered["anthropic"] == 300


async def test_a_rehabilitation_by_rule_ends_with_all_of_the_traffic(shared: Shared) -> None:
    """Each step on the evidence of its calls."""
    addresses = shared.stack.addresses
    async with (
        shared.client() as client,
        control(shared) as operator,
        HealthClient(addresses["health"], addresses["service_token"]) as health,
        HistoryClient(addresses["analytics"], addresses["service_token"]) as history,
    ):
        await operator.set_mode("openai", "", "blocked", *WHO)
        await until_all(client, "anthropic")
        _, begun = await operator.set_mode("openai", "", "rehabilitating", *WHO, share=0.5)
        async with asyncio.timeout(30):
            while (await health.list_providers("openai"))[0].mode != "automatic":
                await providers(client, 30)
        await until_all(client, "openai")
        async with asyncio.timeout(20):
            while len(steps := await history.list_changes(name="openai", since=begun.at)) < 3:
                await asyncio.sleep(0.1)
        assert [change.author for change in steps] == ["rule:rehabilitation", "rule:rehabilitation", "ann"]
        assert [change.after for change in steps[:2]] == ["{}", '{"mode":"rehabilitating","share":1.0}']
        assert all("which proves that it works" in change.reason for change in steps[:2])


async def test_calls_of_one_tenant_leave_for_a_named_provider_for_a_time(shared: Shared) -> None:
    """Another tenant's stay; no call is lost; it ends by itself."""
    async with (
        shared.client() as client,
        shared.stack.client(CAREFUL_KEY) as careful,
        control(shared) as operator,
    ):
        await until_all(client, "openai")
        await operator.fail_over("openai", "", *WHO, seconds=4, to=("gemini", ""), tenants=["demo"])
        await until_all(client, "gemini")
        assert await providers(careful, 8, models=["openai/gpt-4.1-mini"]) == {"openai": 8}
        await until_all(client, "openai")


async def test_calls_of_one_content_type_leave_for_the_next_until_undone(shared: Shared) -> None:
    """Others' stay; health frozen in between keeps no call."""
    async with shared.client() as client, control(shared) as operator:
        _, change = await operator.fail_over(
            *("openai", "", *WHO), seconds=600, content_types=["product_description"]
        )
        await until_all(client, "anthropic", content_type="product_description")
        with shared.stack.frozen("health"):
            assert await providers(client, 16, content_type="product_description") == {"anthropic": 16}
            assert await providers(client, 16) == {"openai": 16}
        await operator.undo(change.change_id, *WHO)
        await until_all(client, "openai", content_type="product_description")


async def test_everything_drained_is_an_outage_that_says_so(shared: Shared) -> None:
    """Nobody is called against an operator's word; taken back, all is as before."""
    async with shared.client() as client, control(shared) as operator:
        changes = [
            (await operator.set_mode(provider, "", "drain", *WHO))[1]
            for provider in ("openai", "anthropic", "gemini")
        ]
        async with asyncio.timeout(20):
            while True:
                try:
                    await client.generate("Describe a mug.", timeout=5)
                except Unavailable:
                    break
        for change in changes:
            await operator.undo(change.change_id, *WHO)
        await until_all(client, "openai")
