"""Budgets after the store has lost its data: what the ledger knows is counted again, on a real Valkey and a real
PostgreSQL."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from libs.clock import SystemClock
from libs.errors import Unavailable
from libs.limits import Amounts
from libs.rpc.channel import connect as channel_to
from services.ratelimit.adapters.analytics_client import AnalyticsHistory
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from services.ratelimit.domain.limits import Limit
from services.router.admission.amounts import AdmissionDenied
from services.router.admission.leased_admission import LeasedAdmission
from tests.support.analytics import Analytics, an_event, analytics, send
from tests.support.engines import PostgresServer, RedisServer, valkey
from tests.support.leasing import RunningLimiter, admission_at, claim, limiter_on
from tests.support.limits import limit
from tests.support.postgres import fresh_database

#: Slices live this long, so the learning period is a little longer, seconds.
TTL = 1.0
BUDGET = 1_000_000
COST = 900
RESERVED = 4_000


@asynccontextmanager
async def lossy_limiter(
    server: RedisServer, ledger: str, *limits: Limit
) -> AsyncIterator[tuple[RunningLimiter, RedisLimitStore]]:
    """A limiter that trusts the store with nothing, and asks the ledger at that address."""
    redis = connect(server.url)
    store = RedisLimitStore(
        Functions(redis), secrets.token_hex(4), SystemClock(), trust=False, learn=TTL + 0.5
    )
    async with (
        channel_to(ledger) as channel,
        limiter_on(store, limits, ttl=TTL, history=AnalyticsHistory(channel, "")) as limiter,
    ):
        try:
            yield limiter, store
        finally:
            await limiter.replica.rebuild.close()
    await redis.aclose()


async def lose_everything(server: RedisServer) -> None:
    """FLUSHALL, written to the disk, and a restart."""
    redis: Any = connect(server.url)
    await redis.flushall()
    await redis.aclose()
    await server.restart()


class Spender:
    """A router that calls for real money: what a call costs is in the ledger a moment after its end."""

    def __init__(self, admission: LeasedAdmission, ledger: Analytics) -> None:
        self._admission = admission
        self._ledger = ledger
        self.spent = 0
        self.running = 0

    async def call(self, end: asyncio.Event | None = None) -> bool:
        """One, which lasts until `end`. Returns True if it was admitted."""
        ask = claim("tenant:acme", micro_usd=RESERVED)
        permit = self._admission.try_admit(ask.scopes, ask.amounts)
        if permit is None:
            try:
                permit = await self._admission.admit(ask, 1.0)
            except AdmissionDenied:
                return False
        began = time.time()
        self.running += 1
        if end is not None:
            await end.wait()
        self.running -= 1
        self.spent += COST
        permit.settle(Amounts(1, 0, 0, COST))
        await send(self._ledger.stub, [an_event(secrets.token_hex(8), began, COST)])
        return True

    async def until(self, total: int, patience: float) -> None:
        """Calls until so much is spent, or nothing was admitted for `patience` seconds."""
        last = time.monotonic()
        while self.spent < total and time.monotonic() - last < patience:
            admitted = await asyncio.gather(*(self.call() for _ in range(16)))
            if any(admitted):
                last = time.monotonic()
            else:
                await asyncio.sleep(0.1)


async def test_a_budget_survives_the_loss_of_all_counters(postgres_server: PostgresServer) -> None:
    """Half of a daily budget is spent, Valkey loses everything, calls go on: the window begins again with what the
    ledger has, and the ledger never ends above the budget. Calls that ran over the loss count too."""
    budget = limit("micro_usd", "day", BUDGET)
    async with (
        fresh_database(postgres_server) as dsn,
        analytics(dsn) as ledger,
        valkey() as server,
        lossy_limiter(server, f"127.0.0.1:{ledger.server.port}", budget) as (limiter, store),
        admission_at(limiter.address) as admission,
    ):
        spender = Spender(admission, ledger)
        await spender.until(BUDGET // 2, 20.0)
        before = spender.spent
        assert before >= BUDGET // 2
        end = asyncio.Event()
        running = [asyncio.create_task(spender.call(end)) for _ in range(8)]
        async with asyncio.timeout(20):
            while spender.running < len(running):
                await asyncio.sleep(0.01)
        epoch = store.epoch
        await lose_everything(server)
        await spender.until(BUDGET * 9 // 10, 20.0)
        end.set()
        assert all(await asyncio.gather(*running))
        await spender.until(BUDGET * 96 // 100, 20.0)
        # Whatever a router still holds comes back within a slice's life.
        await spender.until(BUDGET, 1.5 * TTL)
        assert store.epoch != epoch
        assert before < spender.spent <= BUDGET
        assert spender.spent > BUDGET * 0.95
        seeded = limiter.replica.metrics.registry.get_sample_value(
            "pointsman_ratelimit_windows_seeded_total", {"source": "ledger"}
        )
        assert seeded == 2  # at the first start, and after the loss


@pytest.mark.parametrize(("unit", "opens"), [("micro_usd", False), ("requests", True)])
async def test_without_the_ledger_money_stays_closed_and_requests_begin_at_zero(
    postgres_server: PostgresServer,
    unit: str,
    opens: bool,
) -> None:
    """Denied with when to come back, and other tenants of the same stream unhindered."""
    mine, other = limit(unit, "day", BUDGET), limit("requests", "minute", 600, "tenant:other")
    async with valkey() as server, fresh_database(postgres_server) as dsn:
        async with analytics(dsn) as ledger:
            port = ledger.server.port
        async with (
            lossy_limiter(server, f"127.0.0.1:{port}", mine, other) as (limiter, _),
            admission_at(limiter.address) as admission,
        ):
            deadline = time.monotonic() + 20
            denied = None
            while time.monotonic() < deadline:
                try:
                    permit = await admission.admit(claim("tenant:acme", micro_usd=10), 1.0)
                except AdmissionDenied as error:
                    denied = error
                    failures = limiter.replica.metrics.registry.get_sample_value(
                        "pointsman_ratelimit_ledger_failures_total"
                    )
                    if failures and not opens:
                        break
                    await asyncio.sleep(0.1)
                else:
                    permit.cancel()
                    assert opens
                    break
            assert denied is not None
            assert denied.retry_after is not None
            # No budget that is used up: nobody knows yet.
            assert [(v.subject, v.unknown) for v in denied.violations] == [(f"tenant:acme {unit} day", True)]
            (await admission.admit(claim("tenant:other"), 1.0)).cancel()
            (state,) = await limiter.replica.enforcer.read([mine])
            assert state.remaining == (0 if not opens else state.remaining)
            if not opens:
                with pytest.raises(Unavailable) as caught:
                    await limiter.replica.reservations.reserve(
                        "r1", "h", ["tenant:acme"], Amounts(micro_usd=10), None
                    )
                assert caught.value.reason == "LIMIT_USE_UNKNOWN"
                assert caught.value.retry_after is not None
