"""The service over gRPC: in this process over a store in memory or on Valkey, and as real processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from pointsman.ratelimit.v1 import ratelimit_pb2 as pb
from pointsman.ratelimit.v1 import ratelimit_pb2_grpc

from libs.clock import SystemClock
from libs.errors import InvalidArgument, PointsmanError, ResourceExhausted, Unavailable
from libs.lifecycle import background
from libs.rpc.channel import connect as channel_to
from libs.rpc.status import from_rpc_error
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from tests.support.address import fresh_address
from tests.support.engines import RedisServer, valkey
from tests.support.limiter import Replica
from tests.support.limits import OracleStore, limit
from tests.support.process import spawn

Stub: TypeAlias = "ratelimit_pb2_grpc.RateLimiterAsyncStub"
ROOT = Path(__file__).resolve().parents[2]
RPM = limit("requests", "minute", 60)
DAY = limit("micro_usd", "day", 500)
CATALOG = """\
version: 1
domain: {domain}
providers:
  acme:
    kind: openai_compatible
    base_url: http://127.0.0.1:1/v1
    limits:
    - {{unit: requests, period: day, limit: 700}}
models:
  acme/large:
    context_window: 8000
    max_output_tokens: 1000
    price: {{input: 1, output: 1}}
content_types:
  general: {{max_output_tokens: 500}}
"""


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    async with Replica(OracleStore(lambda: 1_800_000_000_000), [RPM, DAY]).serve() as made:
        yield made


def reserve(name: str = "r1", **changes: object) -> pb.ReserveRequest:
    fields = {
        "reservation_id": name,
        "holder_id": "h",
        "scopes": ["tenant:acme"],
        "amounts": pb.Amounts(requests=1),
    }
    return pb.ReserveRequest(**{**fields, **changes})  # type: ignore[arg-type]


async def failure(call: object) -> PointsmanError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return from_rpc_error(caught.value)


async def test_reserve_settle_and_list(stub: Stub) -> None:
    """The way of a caller without leases."""
    made = await stub.Reserve(reserve(amounts=pb.Amounts(requests=1, micro_usd=100)))
    assert made.expires.seconds == 1_800_000_120
    await stub.Settle(
        pb.SettleRequest(reservation_id="r1", holder_id="h", used=pb.Amounts(requests=1, micro_usd=30))
    )
    found = await stub.ListQuotas(pb.ListQuotasRequest(scopes=["tenant:acme"]))
    assert [(q.used, q.remaining, q.requests_in_window, q.burst_capacity) for q in found.quotas] == [
        (1, 59, 1, 60),
        (30, 470, 0, 0),
    ]


async def test_a_denial_carries_every_violation_and_the_wait(stub: Stub) -> None:
    """RESOURCE_EXHAUSTED with QuotaFailure and RetryInfo."""
    error = await failure(stub.Reserve(reserve(amounts=pb.Amounts(requests=61, micro_usd=501))))
    assert isinstance(error, ResourceExhausted)
    assert [v.subject for v in error.violations] == [str(RPM.key), str(DAY.key)]
    assert error.retry_after is None
    await stub.Reserve(reserve(amounts=pb.Amounts(requests=60)))
    error = await failure(stub.Reserve(reserve("r2", amounts=pb.Amounts(requests=2))))
    assert error.retry_after == 2.0


@pytest.mark.parametrize(
    "request_",
    [
        reserve(""),
        reserve("x" * 129),
        reserve(holder_id=""),
        reserve(scopes=[]),
        reserve(scopes=["planet:mars"]),
        reserve(scopes=[f"tenant:{i}" for i in range(17)]),
        reserve(amounts=pb.Amounts()),
        reserve(amounts=pb.Amounts(requests=-1)),
        reserve(amounts=pb.Amounts(requests=2**63 - 1)),
        reserve(ttl=Duration(seconds=0)),
        reserve(ttl=Duration(seconds=-5)),
        reserve(ttl=Duration(seconds=3601)),
    ],
)
async def test_bad_reservations_are_invalid_and_take_nothing(stub: Stub, request_: pb.ReserveRequest) -> None:
    """INVALID_ARGUMENT that names a field."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Reserve(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (first, _) = (await stub.ListQuotas(pb.ListQuotasRequest())).quotas
    assert first.used == 0


@pytest.mark.parametrize(
    "limit_",
    [
        pb.Limit(),
        pb.Limit(scope="tenant:a", unit="UNIT_REQUESTS", period="PERIOD_MINUTE", limit=-1),
        pb.Limit(scope="tenant:a", unit="UNIT_REQUESTS", period="PERIOD_MINUTE", limit=2**63 - 1),
        pb.Limit(scope="tenant:a", unit=99, period="PERIOD_MINUTE", limit=1),  # type: ignore[arg-type]
        pb.Limit(scope="tenant:a", unit="UNIT_CONCURRENCY", period="PERIOD_MINUTE", limit=1),
        pb.Limit(scope="tenant:a", unit="UNIT_REQUESTS", limit=1),
        pb.Limit(scope="a", unit="UNIT_REQUESTS", period="PERIOD_MINUTE", limit=1),
        pb.Limit(
            scope="tenant:a", unit="UNIT_REQUESTS", period="PERIOD_DAY", limit=1, time_zone="Mars/Olympus"
        ),
    ],
)
async def test_bad_limits_are_invalid(stub: Stub, limit_: pb.Limit) -> None:
    """INVALID_ARGUMENT, and no limit is set."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SetLimit(pb.SetLimitRequest(limit=limit_, actor="me"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len((await stub.ListQuotas(pb.ListQuotasRequest())).quotas) == 2


async def test_settling_the_unknown_the_foreign_and_the_settled(stub: Stub) -> None:
    """Each has its own code."""
    await stub.Reserve(reserve())
    codes = []
    for request in (
        pb.SettleRequest(reservation_id="never", holder_id="h"),
        pb.SettleRequest(reservation_id="r1", holder_id="thief"),
        pb.SettleRequest(reservation_id="r1", holder_id="h"),
        pb.SettleRequest(reservation_id="r1", holder_id="h", used=pb.Amounts(requests=2)),
    ):
        try:
            await stub.Settle(request)
            codes.append("OK")
        except grpc.aio.AioRpcError as error:
            codes.append(error.code().name)
    assert codes == ["NOT_FOUND", "PERMISSION_DENIED", "OK", "FAILED_PRECONDITION"]


async def test_quotas_come_in_pages(stub: Stub) -> None:
    """In order, each once; a token that is not ours is refused."""
    first = await stub.ListQuotas(pb.ListQuotasRequest(page_size=1))
    second = await stub.ListQuotas(pb.ListQuotasRequest(page_size=1, page_token=first.next_page_token))
    assert [q.limit.unit for q in (*first.quotas, *second.quotas)] == [pb.UNIT_REQUESTS, pb.UNIT_MICRO_USD]
    assert second.next_page_token == ""
    for request in (pb.ListQuotasRequest(page_size=-1), pb.ListQuotasRequest(page_token="nonsense")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListQuotas(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_run_time_limit_overrides_until_it_is_removed(stub: Stub) -> None:
    """Versioned; a version that does not match aborts; removed, the catalog's holds again."""
    wanted = pb.Limit(
        scope="tenant:acme", unit=pb.UNIT_REQUESTS, period=pb.PERIOD_MINUTE, limit=5, version=99
    )
    made = await stub.SetLimit(pb.SetLimitRequest(limit=wanted, actor="me", expected_version=0))
    assert (made.quota.limit.limit, made.quota.limit.version, made.quota.remaining) == (5, 1, 5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SetLimit(pb.SetLimitRequest(limit=wanted, actor="me", expected_version=0))
    assert caught.value.code() is grpc.StatusCode.ABORTED
    gone = await stub.SetLimit(pb.SetLimitRequest(limit=wanted, actor="me", remove=True))
    assert (gone.quota.limit.limit, gone.quota.limit.version) == (60, 2)
    other = pb.Limit(scope="tenant:other", unit=pb.UNIT_REQUESTS, period=pb.PERIOD_MINUTE, limit=5)
    none = await stub.SetLimit(pb.SetLimitRequest(limit=other, actor="me", remove=True))
    assert not none.HasField("quota")


async def test_a_limit_is_paced_on_the_wire(stub: Stub) -> None:
    """Set at run time, listed, and named in a refusal; what has no refill cannot be paced."""
    wanted = pb.Limit(
        scope="tenant:acme", unit=pb.UNIT_REQUESTS, period=pb.PERIOD_MINUTE, limit=60, burst=1, pace=True
    )
    made = await stub.SetLimit(pb.SetLimitRequest(limit=wanted, actor="me"))
    assert made.quota.limit.pace
    listed = (await stub.ListQuotas(pb.ListQuotasRequest(scopes=["tenant:acme"]))).quotas
    assert [quota.limit.pace for quota in listed] == [True, False]
    stream = await opened(stub)
    for sequence in (1, 2):
        await stream.write(acquire(1, sequence))
    answers = [await stream.read() for _ in range(2)]
    assert isinstance(answers[1], pb.LeaseResponse)
    assert [(v.unit, v.paced) for v in answers[1].denied.violations] == [(pb.UNIT_REQUESTS, True)]
    stream.cancel()
    wanted.period = pb.PERIOD_DAY
    wanted.ClearField("burst")
    assert isinstance(
        await failure(stub.SetLimit(pb.SetLimitRequest(limit=wanted, actor="me"))), InvalidArgument
    )


async def test_a_forecast_for_a_known_limit_and_not_for_another(stub: Stub) -> None:
    """NOT_FOUND for the other."""
    found = await stub.ForecastExhaustion(
        pb.ForecastExhaustionRequest(scope="tenant:acme", unit=pb.UNIT_MICRO_USD, period=pb.PERIOD_DAY)
    )
    assert (found.probability, found.HasField("time_to_exhaustion_p50")) == (0.0, False)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ForecastExhaustion(
            pb.ForecastExhaustionRequest(scope="tenant:acme", unit=pb.UNIT_REQUESTS, period=pb.PERIOD_DAY)
        )
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_lease_stream_must_begin_with_open(stub: Stub) -> None:
    """FAILED_PRECONDITION; a stream that ends at once is fine."""
    stream = stub.Lease()
    await stream.write(pb.LeaseRequest(acquire=pb.LeaseAcquire(sequence=1, scopes=["tenant:acme"])))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    empty = stub.Lease()
    await empty.done_writing()
    assert await empty.read() is grpc.aio.EOF


async def opened(
    stub: Stub, holder: str = "router-1"
) -> grpc.aio.StreamStreamCall[pb.LeaseRequest, pb.LeaseResponse]:
    stream = stub.Lease()
    await stream.write(pb.LeaseRequest(open=pb.LeaseOpen(holder_id=holder)))
    answer = await stream.read()
    assert isinstance(answer, pb.LeaseResponse)
    assert answer.opened.epoch
    return stream


def acquire(requests: int, sequence: int = 1, scope: str = "tenant:acme") -> pb.LeaseRequest:
    need = pb.Amounts(requests=requests)
    return pb.LeaseRequest(acquire=pb.LeaseAcquire(sequence=sequence, scopes=[scope], need=need, want=need))


async def test_a_limit_set_at_one_replica_binds_the_others_within_a_second(
    valkey_server: RedisServer,
) -> None:
    """Its slices are revoked there, and the next admission meets the new limit at once."""
    domain = uuid.uuid4().hex
    clients = [connect(valkey_server.url) for _ in range(2)]
    stores = [RedisLimitStore(Functions(c), domain, SystemClock(), trust=True) for c in clients]
    here, there = (Replica(s, [RPM]) for s in stores)
    async with AsyncExitStack() as stack:
        for replica in (here, there):
            await stack.enter_async_context(background("heartbeat", replica.heartbeat.run))
        mine, theirs = [await stack.enter_async_context(r.serve()) for r in (here, there)]
        stream = await opened(theirs)
        await stream.write(acquire(1))
        granted = await stream.read()
        assert isinstance(granted, pb.LeaseResponse)
        wanted = pb.Limit(scope="tenant:acme", unit=pb.UNIT_REQUESTS, period=pb.PERIOD_MINUTE, limit=3)
        await mine.SetLimit(pb.SetLimitRequest(limit=wanted, actor="me", reason="test"))
        async with asyncio.timeout(1):
            revoked = await stream.read()
        assert isinstance(revoked, pb.LeaseResponse)
        assert revoked.revoked.slice_ids == [granted.granted.slices[0].slice_id]
        assert revoked.revoked.cause == pb.REVOKE_CAUSE_LIMIT_CHANGED
        error = await failure(theirs.Reserve(reserve(amounts=pb.Amounts(requests=4))))
        assert isinstance(error, ResourceExhausted)
        audit = str(await clients[0].xrange(stores[0]._keys.audit))
        assert "b'actor': b'me', b'reason': b'test'" in audit
        stream.cancel()
    for client in clients:
        await client.aclose()


async def test_a_broken_stream_leaves_its_slices_to_the_holders_next_one(stub: Stub) -> None:
    """Reported and closed on another stream of the same holder."""
    first = await opened(stub)
    await first.write(acquire(10))
    granted = await first.read()
    assert isinstance(granted, pb.LeaseResponse)
    first.cancel()
    second = await opened(stub)
    report = pb.SliceReport(slice_id=granted.granted.slices[0].slice_id, used=4, closed=True)
    await second.write(pb.LeaseRequest(report=pb.LeaseReport(sequence=1, slices=[report])))
    answer = await second.read()
    assert isinstance(answer, pb.LeaseResponse)
    assert answer.HasField("reported")
    assert (await stub.ListQuotas(pb.ListQuotasRequest())).quotas[0].used == 4


async def test_without_the_store_every_method_is_unavailable_with_a_retry_hint() -> None:
    """Streams too; and all work again afterwards."""
    store = OracleStore(lambda: 1_800_000_000_000)
    async with Replica(store, [RPM]).serve() as stub:
        stream = await opened(stub)
        store.down = True
        wanted = pb.Limit(scope="tenant:a", unit=pb.UNIT_REQUESTS, period=pb.PERIOD_MINUTE, limit=3)
        for call in (
            stub.Reserve(reserve()),
            stub.Settle(pb.SettleRequest(reservation_id="r1", holder_id="h")),
            stub.Cancel(pb.CancelRequest(reservation_id="r1", holder_id="h")),
            stub.ListQuotas(pb.ListQuotasRequest()),
            stub.SetLimit(pb.SetLimitRequest(limit=wanted, actor="me")),
        ):
            error = await failure(call)
            assert isinstance(error, Unavailable)
            assert error.retry_after == 1.0
        await stream.write(acquire(1))
        assert isinstance(await failure(stream.read()), Unavailable)
        store.down = False
        await stub.Reserve(reserve())
        (await opened(stub)).cancel()


@asynccontextmanager
async def service(
    tmp_path: Path, server: RedisServer, name: str, domain: str, **more: str
) -> AsyncIterator[str]:
    """A limiter process; gives its address. Ended by SIGTERM, and must end well."""
    catalog = tmp_path / f"{name}.yaml"
    catalog.write_text(CATALOG.format(domain=domain))
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("POINTSMAN_", "OTEL_"))}
    environ |= {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}",
        "POINTSMAN_CONFIG": str(catalog),
        "POINTSMAN_RATELIMIT_REDIS_URL": server.url,
        "POINTSMAN_RATELIMIT_LISTEN": fresh_address(),
        "POINTSMAN_RATELIMIT_STORE_TRUSTED": "true",
        **more,
    }
    log = tmp_path / f"{name}.log"
    with log.open("wb") as out:
        child = await spawn(
            sys.executable, "-m", "services.ratelimit", env=environ, stderr=out, stdout=out, cwd=ROOT
        )
    try:
        async with asyncio.timeout(60):
            while not (found := re.search(r'"port": (\d+)', log.read_text())):
                assert child.returncode is None, log.read_text()
                await asyncio.sleep(0.02)
        yield f"127.0.0.1:{found[1]}"
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 20) == 0, log.read_text()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_nothing_is_over_admitted_by_4_routers_and_2_limiters_racing(
    tmp_path: Path,
    valkey_server: RedisServer,
) -> None:
    """Six processes, one quota of 700 a day, demand far above it, some slices never returned: at most 700 run."""
    domain = f"race-{uuid.uuid4().hex[:8]}"
    async with (
        service(tmp_path, valkey_server, "one", domain) as one,
        service(tmp_path, valkey_server, "two", domain) as two,
    ):
        racers = [
            await spawn(
                *(sys.executable, "-m", "tests.support.racer", target, f"router-{i}", "provider:acme", "2"),
                env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}"},
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )
            for i, target in enumerate((one, two, one, two))
        ]
        spent = [int((await racer.communicate())[0]) for racer in racers]
        assert all(racer.returncode == 0 for racer in racers)
        assert 300 < sum(spent) <= 700, spent
        async with channel_to(one) as channel:
            found = await ratelimit_pb2_grpc.RateLimiterStub(channel).ListQuotas(pb.ListQuotasRequest())
        assert sum(spent) <= found.quotas[0].used <= 700


async def test_the_process_outlives_the_store_and_comes_back_by_itself(tmp_path: Path) -> None:
    """Valkey killed under it: UNAVAILABLE with RetryInfo; started again: admits, with the counters it had."""
    async with (
        valkey() as server,
        service(tmp_path, server, "one", "alone") as address,
        channel_to(address) as channel,
    ):
        stub = ratelimit_pb2_grpc.RateLimiterStub(channel)
        await stub.Reserve(reserve(scopes=["provider:acme"], amounts=pb.Amounts(requests=100)))
        await server.kill()
        error = await failure(stub.Reserve(reserve("r2", scopes=["provider:acme"])))
        assert isinstance(error, Unavailable)
        assert error.retry_after is not None
        await server.start()
        made = await stub.Reserve(reserve("r3", scopes=["provider:acme"]))
        assert made.quotas[0].used == 101


async def test_it_starts_without_a_store_and_serves_when_there_is_one(tmp_path: Path) -> None:
    """Nothing connects at start that could keep it from serving."""
    async with valkey() as server:
        await server.stop()
        async with service(tmp_path, server, "early", "early") as address, channel_to(address) as channel:
            stub = ratelimit_pb2_grpc.RateLimiterStub(channel)
            assert isinstance(await failure(stub.Reserve(reserve(scopes=["provider:acme"]))), Unavailable)
            await server.start()
            await stub.Reserve(reserve(scopes=["provider:acme"]))
