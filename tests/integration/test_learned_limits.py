"""Limits learned by routers, shared over real lease streams and Valkey, and held by every replica of the limiter."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random

import grpc
import pytest
from pointsman.ratelimit.v1 import ratelimit_pb2 as pb
from pointsman.ratelimit.v1 import ratelimit_pb2_grpc

from libs.client import QuotaClient
from libs.clock import SystemClock
from libs.lifecycle import background
from libs.limits import LimitKey, Period, Unit, scope_of
from libs.rpc.channel import connect as channel_to
from libs.telemetry import Metrics
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from services.ratelimit.learning.redis_learned import RedisLearned
from services.router.admission import lease_stream
from services.router.admission.amounts import AdmissionDenied
from services.router.admission.lease_stream import LeaseStream
from services.router.admission.leased_admission import LeasedAdmission
from services.router.admission.leases import Pool
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.limit_evidence import ObservedLimit
from tests.support.engines import RedisServer
from tests.support.leasing import NO_LIMITS, RunningLimiter, claim, limiter_on

TARGET = "openai/gpt-4o"
SCOPE = f"model:{TARGET}"
RPM = LimitKey(scope_of(SCOPE), Unit.REQUESTS, Period.MINUTE)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits until it holds; ten seconds are a failure."""
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.02)


@dataclass(slots=True)
class Bed:
    """Two replicas of the limiter on one store, and a router at each."""

    limiters: list[RunningLimiter]
    learners: list[LimitLearner]
    routers: list[LeasedAdmission]

    def states(self, router: int, limit: int) -> None:
        """A provider's answers to one router state a limit, often enough to be believed."""
        now = SystemClock().now()
        stated = ObservedLimit(Unit.REQUESTS, limit, limit - 1, 0.1, Period.MINUTE)
        for _ in range(5):
            self.learners[router].observed(now, TARGET, [stated])

    async def hold(self, amount: int) -> None:
        """Waits until every replica holds to that limit."""

        async def all_do() -> bool:
            for limiter in self.limiters:
                await limiter.replica.learning.refresh()
            found = [limiter.replica.effective.get(RPM) for limiter in self.limiters]
            return all(limit is not None and limit.limit == amount for limit in found)

        await until(all_do)


@pytest.fixture
async def bed(
    valkey_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Bed]:
    monkeypatch.setattr(lease_stream, "REPORT_INTERVAL", 0.05)
    domain = uuid.uuid4().hex
    async with AsyncExitStack() as stack:
        found = Bed([], [], [])
        for n in (1, 2):
            redis = connect(valkey_server.url)
            stack.push_async_callback(redis.aclose)
            functions = Functions(redis)
            store = RedisLimitStore(functions, domain, SystemClock(), trust=True)
            limiter = await stack.enter_async_context(
                limiter_on(store, (), learned=RedisLearned(functions, domain))
            )
            learner = LimitLearner()
            router = await stack.enter_async_context(router_at(limiter.address, f"router-{n}", learner))
            found.limiters.append(limiter)
            found.learners.append(learner)
            found.routers.append(router)
        yield found


@asynccontextmanager
async def router_at(address: str, holder: str, learner: LimitLearner) -> AsyncIterator[LeasedAdmission]:
    async with channel_to(address) as channel:
        clock, metrics = SystemClock(), Metrics()
        leases = LeaseStream(channel, "", holder, Pool(), clock, Random(1), metrics, learner)
        admission = LeasedAdmission(leases, lambda: NO_LIMITS, clock, metrics, 0.25)
        async with background("leases", leases.run, grace=1.0):
            await leases.known.wait()
            yield admission
            leases.finish()


async def test_what_one_router_hears_holds_for_all_and_follows_the_provider(bed: Bed) -> None:
    """A limit stated to one router holds in both replicas at 95 %, and again after it was lowered and raised,
    whoever hears of it."""
    for router, stated in ((0, 1000), (1, 100), (0, 5000)):
        bed.states(router, stated)
        await bed.hold(int(stated * 0.95))


async def test_both_routers_together_stay_below_what_the_provider_allows(bed: Bed) -> None:
    """Two routers that race for a learned limit get no more of it than there is, and are told which one it was."""
    bed.states(0, 40)
    await bed.hold(38)
    admitted, denied = 0, []
    for n in range(100):
        asked = claim(SCOPE, requests=1)
        try:
            permit = bed.routers[n % 2].try_admit(asked.scopes, asked.amounts)
            permit = permit or await bed.routers[n % 2].admit(asked, 1.0)
            admitted += 1
        except AdmissionDenied as error:
            denied.append(error.violations[0].subject)
    # A bucket of 38 a minute lets one more through every 1.6 seconds.
    assert 38 <= admitted <= 45
    assert set(denied) == {f"{SCOPE} requests minute"}


async def test_operators_see_the_evidence(bed: Bed) -> None:
    """ListQuotas shows the limit that holds, and what it was learned from."""
    bed.states(0, 1000)
    await bed.hold(950)
    async with QuotaClient(bed.limiters[1].address, timeout=10) as operator:
        (quota,) = await operator.list_quotas([SCOPE])
    assert (quota.limit, quota.shadow) == (950, False)
    assert quota.learned is not None
    assert (quota.learned.limit, quota.learned.source, quota.learned.observations) == (1000, "headers", 5)
    assert quota.learned.confidence > 0.9
    assert abs(quota.learned.seen - SystemClock().now()) < 60


async def test_a_limit_that_is_gone_from_the_headers_of_a_new_router_still_holds(bed: Bed) -> None:
    """A router that ends takes its knowledge into the store, where the others find it."""
    bed.states(0, 1000)
    await bed.hold(950)
    bed.routers[0].leases.finish()
    await bed.hold(950)


async def test_a_senseless_word_ends_the_stream_with_a_typed_error(bed: Bed) -> None:
    """INVALID_ARGUMENT names the field; nothing is kept of it."""
    async with channel_to(bed.limiters[0].address) as channel:
        call = ratelimit_pb2_grpc.RateLimiterStub(channel).Lease()
        await call.write(pb.LeaseRequest(open=pb.LeaseOpen(holder_id="rogue")))
        await call.read()
        wrong = pb.ObservedLimit(
            scope="tenant:acme",
            unit=pb.UNIT_REQUESTS,
            period=pb.PERIOD_MINUTE,
            limit=1,
            confidence=1.0,
            source=pb.LEARNED_SOURCE_HEADERS,
            observations=9,
        )
        await call.write(pb.LeaseRequest(observed=pb.LeaseObserved(limits=[wrong])))
        with pytest.raises(grpc.aio.AioRpcError, match=r"observed\.limits\.scope") as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert bed.limiters[0].replica.learning.all() == {}
