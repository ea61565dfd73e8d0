"""A router's admission against a limiter on a socket, both in this process.

async with limiter_on(store, [limit("requests", "minute", 60)]) as limiter, admission_at(limiter.address) as router:
    permit = await router.admit(claim("tenant:acme"), 1.0)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random

from pointsman.ratelimit.v1 import ratelimit_pb2_grpc

from libs.catalog.catalog import Catalog
from libs.clock import SystemClock
from libs.lifecycle import background
from libs.limits import Amounts, scope_of
from libs.rpc.channel import connect
from libs.rpc.server import Registration
from libs.telemetry import Metrics
from libs.types import Priority
from services.ratelimit.domain.limits import Limit
from services.ratelimit.learning.learning import LearnedStore
from services.ratelimit.ports import LimitStore, SpendHistory
from services.ratelimit.servicer import SERVICE, RateLimiterServicer
from services.router.admission.admission import Claim
from services.router.admission.lease_stream import RETURN_TIMEOUT, LeaseStream
from services.router.admission.leased_admission import LeasedAdmission
from services.router.admission.leases import Pool
from services.router.providers.learned_limits import LimitLearner
from tests.support.address import fresh_address
from tests.support.limiter import Replica
from tests.support.routing import catalog, model
from tests.support.server import grpc_server

#: A catalog without limits: what the limiter has is the test's.
NO_LIMITS = catalog([model("a/m")])


@dataclass(slots=True)
class RunningLimiter:
    """A limiter, and where it listens."""

    replica: Replica
    address: str


@asynccontextmanager
async def limiter_on(
    store: LimitStore,
    limits: Iterable[Limit],
    *,
    ttl: float = 8.0,
    listen: str = "",
    history: SpendHistory | None = None,
    learned: LearnedStore | None = None,
) -> AsyncIterator[RunningLimiter]:
    """Serves the limits from the store; its heartbeat runs."""
    replica = Replica(store, limits, ttl=ttl, history=history, learned=learned)
    registration = Registration(
        ratelimit_pb2_grpc.add_RateLimiterServicer_to_server,
        RateLimiterServicer(replica.reservations, replica.quotas, replica.session),
        SERVICE,
        frozenset({"Lease"}),
    )
    server = grpc_server([registration], metrics=replica.metrics, clock=replica.clock)
    await server.start(listen or fresh_address(), None)
    server.begin_serving()
    try:
        async with background("heartbeat", replica.heartbeat.run):
            yield RunningLimiter(replica, f"127.0.0.1:{server.port}")
    finally:
        await server.drain(0.0)


@asynccontextmanager
async def admission_at(
    address: str, holder: str = "router-1", *, limits: Catalog = NO_LIMITS, share: float = 0.25
) -> AsyncIterator[LeasedAdmission]:
    """A router's admission, connected. `limits`: the catalog it falls back on."""
    async with connect(address) as channel:
        clock, metrics = SystemClock(), Metrics()
        leases = LeaseStream(channel, "", holder, Pool(), clock, Random(1), metrics, LimitLearner())
        admission = LeasedAdmission(leases, lambda: limits, clock, metrics, share)
        async with background("leases", leases.run, grace=RETURN_TIMEOUT):
            await leases.known.wait()
            yield admission
            leases.finish()


def claim(
    *scopes: str,
    requests: int = 1,
    tokens: int = 0,
    micro_usd: int = 0,
    tenant: str = "acme",
    priority: Priority = Priority.STANDARD,
    patience: float = 0.0,
) -> Claim:
    """Returns what an attempt of one request asks for; `tokens` are input tokens."""
    return Claim(
        tuple(map(scope_of, scopes)), Amounts(requests, tokens, 0, micro_usd), tenant, priority, patience
    )
