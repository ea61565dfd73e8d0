"""A router's admission and a limiter, over the wire between them: a limiter that comes and goes, and requests that no
limit could ever hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from libs.catalog.catalog import Catalog
from libs.catalog.limits import LimitSpec
from libs.limits import Period, Unit
from services.ratelimit.domain.limits import Limit
from services.router.admission.amounts import AdmissionDenied
from services.router.admission.leased_admission import LeasedAdmission
from tests.support.address import fresh_address
from tests.support.leasing import NO_LIMITS, admission_at, claim, limiter_on
from tests.support.limits import OracleStore, limit
from tests.support.routing import TENANT

BUDGET = 1_000_000
#: What the router falls back on.
WITH_BUDGET: Catalog = replace(
    NO_LIMITS,
    tenants={"acme": replace(TENANT, limits=(LimitSpec(Unit.MICRO_USD, Period.DAY, BUDGET),))},
)


def store() -> OracleStore:
    return OracleStore(lambda: round(time.time() * 1000))


@asynccontextmanager
async def without_limiter(
    kept: OracleStore, limits: list[Limit], address: str
) -> AsyncIterator[LeasedAdmission]:
    """A router's admission whose limiter has just gone; nothing is held."""
    async with AsyncExitStack() as router:
        async with limiter_on(kept, limits, listen=address):
            admission = await router.enter_async_context(admission_at(address, limits=WITH_BUDGET))
        async with asyncio.timeout(10):
            while admission.leases.connection.is_set():
                await asyncio.sleep(0.01)
        yield admission


@pytest.mark.parametrize(
    ("unit", "period"), [("total_tokens", "minute"), ("total_tokens", "day"), ("input_tokens", "hour")]
)
async def test_regression_what_a_limit_can_never_hold_is_refused_for_good(unit: str, period: str) -> None:
    """Also by a router that holds a part of the limit, and so asks for less than the whole: it was told to come back,
    again and again. What fits into the whole limit is told when."""
    limits = [limit(unit, period, 100)]
    async with limiter_on(store(), limits) as limiter, admission_at(limiter.address) as admission:
        (await admission.admit(claim("tenant:acme", tokens=60), 5.0)).cancel()
        for _ in range(3):
            with pytest.raises(AdmissionDenied) as caught:
                await admission.admit(claim("tenant:acme", tokens=150), 5.0)
            (violation,) = caught.value.violations
            assert (caught.value.retry_after, violation.requested, violation.limit) == (None, 150, 100)
        running = await admission.admit(claim("tenant:acme", tokens=60), 5.0)
        with pytest.raises(AdmissionDenied) as caught:
            await admission.admit(claim("tenant:acme", tokens=90), 5.0)
        assert caught.value.retry_after is not None
        running.cancel()


async def test_requests_that_share_a_denial_fail_with_errors_of_their_own() -> None:
    """They ask once and wait for one answer; an error that they shared would hold the frames, and with them the
    prompts, of all of them."""
    limits = [limit("requests", "day", 0)]
    async with limiter_on(store(), limits) as limiter, admission_at(limiter.address) as admission:
        asked = [admission.admit(claim("tenant:acme"), 5.0) for _ in range(3)]
        errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(error) for error in errors] == [AdmissionDenied] * 3
    assert len({id(error) for error in errors}) == 3


async def test_a_limiter_that_restarts_is_waited_for() -> None:
    """A request that only the limiter can admit is admitted once it is back, within the caller's time."""
    address, limits = fresh_address(), [limit("micro_usd", "day", BUDGET)]
    kept = store()
    async with without_limiter(kept, limits, address) as admission:
        waiting = asyncio.create_task(admission.admit(claim("tenant:acme", micro_usd=10), 10.0))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        async with limiter_on(kept, limits, listen=address):
            (await waiting).cancel()


async def test_a_limiter_that_stays_away_leaves_unknown_what_it_alone_could_tell() -> None:
    """A budget is refused as unknown, with when to come back, as soon as the caller's time is over; rates of a scope
    without limits go on."""
    limits = [limit("micro_usd", "day", BUDGET)]
    async with without_limiter(store(), limits, fresh_address()) as admission:
        with pytest.raises(AdmissionDenied) as caught:
            await admission.admit(claim("tenant:acme", micro_usd=10), 0.3)
        assert caught.value.retry_after is not None
        assert [(v.subject, v.unknown) for v in caught.value.violations] == [
            ("tenant:acme micro_usd day", True)
        ]
        (await admission.admit(claim("tenant:other"), 0.3)).cancel()
