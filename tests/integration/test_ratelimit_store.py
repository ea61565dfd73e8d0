"""The limit store on a real Valkey: named regressions, races, restarts, lost data, wrong clocks, clusters."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from dev import engines
from dev.engines.child import free_port
from dev.engines.valkey import binary
from libs.clock import SystemClock
from libs.errors import NotFound, Unavailable
from libs.limits import Amounts, scope_of
from services.ratelimit.adapters.dimensions import doubles
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import SWEEP_BATCH, RedisLimitStore
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Denial
from services.ratelimit.ports import Admission, Granted, SeedNeeded
from tests.support.engines import RedisServer, valkey
from tests.support.limiter import KnownHistory, Replica
from tests.support.limits import limit
from tests.support.process import spawn

START = 1_800_000_000_000


class Clock:
    """The store's, in milliseconds; 0: its own."""

    def __init__(self, now: int = START) -> None:
        self.now = now


@pytest.fixture
async def redis(valkey_server: RedisServer) -> AsyncIterator[Redis]:
    client = connect(valkey_server.url)
    yield client
    await client.aclose()


def store(redis: Redis, clock: Clock, domain: str = "", **options: Any) -> RedisLimitStore:
    return RedisLimitStore(
        Functions(redis),
        domain or uuid.uuid4().hex,
        SystemClock(),
        **{"trust": True, "test_now": lambda: clock.now, **options},
    )


def ask(limits: Sequence[Limit], need: Sequence[int], **changes: Any) -> Admission:
    fields: dict[str, Any] = {
        "record_id": uuid.uuid4().hex,
        "holder": "router-1",
        "fingerprint": "print",
        "limits": tuple(limits),
        "need": tuple(need),
        "want": tuple(need),
        "ttl": 10.0,
        "divisor": 2,
        "version": 0,
    }
    return Admission(**{**fields, **changes})


async def admit(target: RedisLimitStore, limits: Sequence[Limit], need: Sequence[int], **changes: Any) -> Any:
    (answer,) = await target.admit([ask(limits, need, **changes)])
    return answer


async def dump(redis: Any, target: RedisLimitStore) -> dict[bytes, bytes]:
    keys = sorted(await redis.keys(target._keys.prefix + "*"))
    return {key: await redis.dump(key) for key in keys}


TPM = limit("total_tokens", "minute", 100)
RPM = limit("requests", "minute", 60)
SLOTS = limit("concurrency", "", 3)
DAY = limit("micro_usd", "day", 500)


# Named regressions: real bugs of other limiters.


async def test_regression_concurrent_calls_do_not_pass_a_token_limit_together(
    valkey_server: RedisServer,
) -> None:
    """LiteLLM let five calls of 132 and more through a limit of 100. Here five clients at once with 60 tokens each:
    one passes."""
    clients = [connect(valkey_server.url) for _ in range(5)]
    clock, domain = Clock(), uuid.uuid4().hex
    answers = await asyncio.gather(*(admit(store(c, clock, domain), [TPM], [60]) for c in clients))
    assert sum(isinstance(answer, Granted) for answer in answers) == 1
    for client in clients:
        await client.aclose()


async def test_regression_a_denied_reservation_leaks_nothing(redis: Redis) -> None:
    """Denied by its last dimension, a request leaves every key of the domain as it was, byte for byte, and makes
    none."""
    target = store(redis, Clock())
    await admit(target, [RPM, TPM, SLOTS, DAY], [1, 90, 1, 100])
    before = await dump(redis, target)
    fresh = limit("output_tokens", "hour", 100, "model:p/m")
    answer = await admit(target, [fresh, RPM, SLOTS, DAY, TPM], [5, 1, 1, 1, 11])
    assert isinstance(answer, Denial)
    assert await dump(redis, target) == before


async def test_limits_stored_by_an_earlier_version_can_be_read(redis: Redis) -> None:
    """Without a word on pace they are not paced; and one that is not paced is stored as before, for replicas that do
    not know the word."""
    bed = store(redis, Clock())
    await bed.set_override(RPM.key, limit("requests", "minute", 7), None, "me", "test")
    field = f"{RPM.key.scope}|{RPM.key.unit.number}|{RPM.key.period.number}"
    kept = (await redis.hgetall(bed._keys.limits))[field.encode()]
    assert b"pace" not in kept
    _, found = await bed.overrides()
    assert found[RPM.key].limit == limit("requests", "minute", 7, version=1)


async def test_regression_rejected_requests_do_not_consume_request_quota(redis: Redis) -> None:
    """A hundred rejected requests leave the request limit where it was (envoyproxy/ratelimit charges siblings)."""
    target = store(redis, Clock())
    await admit(target, [TPM], [100])
    for _ in range(100):
        assert isinstance(await admit(target, [RPM, TPM], [1, 1]), Denial)
    _, (reading,) = await target.read([RPM])
    assert reading.level == 60 * 6000


async def test_regression_concurrency_slots_do_not_leak_when_a_process_dies(redis: Redis) -> None:
    """Three slots, taken by a holder that is never heard of again: free after their life, without anybody's help."""
    clock = Clock()
    target = store(redis, clock)
    assert isinstance(await admit(target, [SLOTS], [3]), Granted)
    clock.now += 9_999
    assert isinstance(await admit(target, [SLOTS], [1]), Denial)
    clock.now += 1
    assert isinstance(await admit(target, [SLOTS], [3], holder="router-2"), Granted)


async def test_regression_n_replicas_do_not_multiply_a_counter_they_all_seed(
    valkey_server: RedisServer,
) -> None:
    """Eight replicas meet a store without a memory at once, and all read 300 of 500 from the ledger: 300 it is."""
    clients = [connect(valkey_server.url) for _ in range(8)]
    clock, domain = Clock(), uuid.uuid4().hex
    replicas = [
        Replica(store(c, clock, domain, trust=False, learn=0), [DAY], history=KnownHistory(300))
        for c in clients
    ]
    reserve = [
        r.reservations.reserve(f"r{i}", "holder", ["tenant:acme"], Amounts(micro_usd=100), None)
        for i, r in enumerate(replicas)
    ]
    answers = await asyncio.gather(*reserve, return_exceptions=True)
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 2
    (quota,) = await replicas[0].enforcer.read([DAY])
    assert (quota.used, quota.remaining) == (500, 0)
    assert len({r.store.epoch for r in replicas}) == 1
    for client in clients:
        await client.aclose()


async def test_regression_explicit_zero_usage_is_not_replaced_by_the_estimate(redis: Redis) -> None:
    """Settled as zero, zero is charged."""
    target = store(redis, Clock())
    await admit(target, [TPM, DAY], [80, 80], record_id="a")
    await target.settle("a", "router-1", Amounts(0, 0, 0, 0))
    _, (tokens, money) = await target.read([TPM, DAY])
    assert (tokens.level, money.level) == (100 * 6000, 0)


async def test_regression_memory_of_requests_does_not_grow(redis: Redis) -> None:
    """A thousand requests of a thousand tenants, half of them abandoned: a few hours on, what is left is what a limit
    domain needs anyway."""
    clock = Clock()
    target = store(redis, clock)
    for i in range(1000):
        mine = (limit("requests", "minute", 60, f"tenant:t{i}"), limit("micro_usd", "day", 5, f"tenant:t{i}"))
        await admit(target, mine, [1, 1], record_id=f"r{i}")
        if i % 2:
            await target.settle(f"r{i}", "router-1", Amounts(1, 0, 0, 1))
    clock.now += 48 * 3_600_000
    while (await target.beat(())).backlog:
        pass
    left = await redis.keys(target._keys.prefix + "*")
    # Records have a real time to live by then; a clock moved by hand does not reach it.
    records = [key for key in left if b":r:" in key]
    lives = [await redis.pttl(key) for key in records]
    assert all(0 < life <= 3_600_000 for life in lives)
    assert [key for key in left if key not in records] == [target._keys.meta.encode()]


async def test_an_admission_forgets_nothing_and_a_beat_only_so_much(redis: Redis) -> None:
    """However many limits are idle at once, an admission's work stays the same: beats forget them, a batch each."""
    clock = Clock()
    target = store(redis, clock)
    for i in range(SWEEP_BATCH + 1):
        await admit(target, [limit("requests", "minute", 60, f"tenant:t{i}")], [1], record_id=f"r{i}")
        await target.cancel(f"r{i}", "router-1")
    clock.now += 3_600_000

    async def counters() -> int:
        return len(await redis.keys(target._keys.prefix + "d:*"))

    await admit(target, [RPM], [1])
    assert await counters() == SWEEP_BATCH + 2
    assert (await target.beat(())).backlog
    assert await counters() == 2
    assert not (await target.beat(())).backlog
    assert await redis.keys(target._keys.prefix + "d:*") == [target._keys.dimension(RPM.key).encode()]


async def test_idle_limits_listed_by_an_earlier_revision_are_forgotten(redis: Redis) -> None:
    """Up to revision 3 of the library they were in the set of records that are due."""
    clock = Clock()
    target = store(redis, clock)
    await admit(target, [RPM], [1], record_id="a")
    await target.cancel("a", "router-1")
    idle, counter = target._keys.due + ":idle", target._keys.dimension(RPM.key)
    listed = await redis.zrange(idle, 0, -1, withscores=True)
    ((member, score),) = cast(list[tuple[bytes, float]], listed)
    await redis.delete(idle)
    await redis.zadd(target._keys.due, {member: score})
    clock.now += 3_600_000
    assert isinstance(await admit(target, [SLOTS], [1]), Granted)
    await target.beat(())
    assert await redis.exists(counter) == 0


async def test_a_replica_of_an_earlier_revision_settles_to_the_same(redis: Redis) -> None:
    """Up to revision 5 of the library four amounts were sent; while replicas are replaced, both forms count alike,
    whatever the unit."""
    target = store(redis, Clock())
    limits = [
        limit("requests", "day", 1000),
        limit("input_tokens", "day", 1000),
        limit("output_tokens", "day", 1000),
        limit("total_tokens", "day", 1000),
        limit("concurrency", "", 10),
        limit("micro_usd", "day", 1000),
    ]
    used, levels = Amounts(3, 20, 300, 7), []
    for number, packed in enumerate((None, (3, 20, 300, 7))):
        await admit(target, limits, [1, 1, 1, 1, 1, 1], record_id=f"r{number}")
        if packed is None:
            await target.settle(f"r{number}", "router-1", used)
        else:
            keys = [target._keys.meta, target._keys.due, target._keys.record(f"r{number}")]
            numbers = doubles(5).pack(target._test_time(), *packed)
            assert await target._call("pointsman_v1_finish", keys, ["router-1", "settle", numbers]) == b"O"
            # Settling again with the same amounts, in either form, is the same settlement.
            await target.settle(f"r{number}", "router-1", used)
        _, readings = await target.read(limits)
        levels.append([reading.level for reading in readings])
    assert levels == [[3, 20, 300, 320, 0, 7], [6, 40, 600, 640, 0, 14]]


# Lives of the store.


async def test_after_a_restart_with_writes_lost_nothing_is_over_admitted() -> None:
    """Valkey dies with its data: a new epoch; buckets are empty and refill, slots and days wait out the old life's
    slices, then the day's spend comes from the ledger, and old reservations are unknown."""
    async with engines.valkey() as server:  # its files are taken away
        redis, clock = connect(server.url), Clock()
        await redis.config_set("appendonly", "no")
        target = store(redis, clock, "lives", trust=False, learn=10.0)
        history = KnownHistory(450)
        replica = Replica(target, [RPM, SLOTS, DAY], history=history)
        await target.beat(())
        clock.now += 3_600_000
        await target.seed(DAY, 0)
        await replica.reservations.reserve("old", "h", ["tenant:acme"], Amounts(1, micro_usd=10), None)
        first = target.epoch
        await server.kill()
        for path in server.directory.glob("aof/*"):
            path.unlink()
        await server.start()
        with pytest.raises(NotFound):
            await target.settle("old", "h", Amounts(1))
        assert target.epoch != first
        born = clock.now
        denied = await replica.enforcer.admit([_ask("a")])
        assert isinstance(denied[0], Denial)
        assert [(v.limit, v.used) for v in denied[0].violations] == [(DAY, 500)]
        assert denied[0].retry_after == pytest.approx(10, abs=0.01)
        (state,) = await replica.enforcer.read([DAY])
        assert (state.used, state.remaining) == (500, 0)
        slots = await admit(target, [RPM, SLOTS], [1, 1])
        assert {v.limit.key.unit for v in slots.violations} == {"requests", "concurrency"}
        clock.now = born + 9_000
        waiting = await replica.enforcer.admit([_ask("b")])
        assert isinstance(waiting[0], Denial)
        slots = await admit(target, [RPM, SLOTS], [1, 1])
        assert [v.limit.key.unit for v in slots.violations] == ["concurrency"]
        assert history.asked == []
        clock.now = born + 10_000
        granted = await replica.enforcer.admit([_ask("c")])
        assert isinstance(granted[0], Granted)
        (requests, money) = await replica.enforcer.read([RPM, DAY])
        assert requests.remaining == 9  # ten seconds' refill, less one
        assert money.used == 460
        await redis.aclose()


def _ask(name: str) -> Any:
    from services.ratelimit.enforce import AdmissionRequest

    amounts = Amounts(1, micro_usd=10)
    return AdmissionRequest(name, "h", (scope_of("tenant:acme"),), amounts, amounts, 10.0)


async def test_after_a_restart_that_kept_every_write_the_epoch_goes_on() -> None:
    """Counters, slices and reservations outlive a restart of a store that is trusted, or that syncs every write."""
    async with valkey() as server:
        redis, clock = connect(server.url), Clock()
        await redis.config_set("appendfsync", "always")
        target = store(redis, clock, "lives", trust=False)
        await target.beat(())
        await admit(target, [RPM], [1])
        first = target.epoch
        clock.now += 60_000
        await admit(target, [RPM], [20], record_id="a")
        await server.kill()
        await server.start()
        await redis.config_set("appendfsync", "always")
        await target.settle("a", "router-1", Amounts(5))
        assert target.epoch == first
        _, (reading,) = await target.read([RPM])
        assert reading.level == 55 * 6000
        await redis.aclose()


async def test_two_databases_of_one_server_are_two_limiters(valkey_server: RedisServer) -> None:
    """The server's memory of lives is one for all its databases: the same domain in two of them began a new life at
    each other's every call, which closed the budgets of both for the learning period, again and again."""
    clock, domain = Clock(), uuid.uuid4().hex
    clients = [connect(valkey_server.url.removesuffix("/0") + f"/{number}") for number in (0, 1)]
    first, second = (store(client, clock, domain, trust=False) for client in clients)
    await first.seed(DAY, 0)
    await second.seed(DAY, 0)
    epochs = (first.epoch, second.epoch)
    clock.now += 20_000
    for _ in range(4):
        for target in (first, second):
            assert isinstance(await admit(target, [DAY, SLOTS], [100, 0]), Granted)
    assert (first.epoch, second.epoch) == epochs
    for target in (first, second):
        assert isinstance(await admit(target, [DAY], [101]), Denial)
    for client in clients:
        await client.aclose()


async def test_a_clock_set_right_after_being_far_ahead_does_not_stop_the_limiter(redis: Redis) -> None:
    """A year ahead and back: a new life; buckets start empty and refill in real time, the slot taken on the wrong
    clock is released, today is counted as today."""
    clock = Clock()
    target = store(redis, clock, learn=5.0)
    await target.beat(())
    clock.now += 365 * 86_400_000
    await target.beat(())
    assert isinstance(await admit(target, [RPM, SLOTS, DAY], [60, 3, 500]), Granted)
    clock.now = START + 1000
    epoch = target.epoch
    with pytest.raises(SeedNeeded):
        await target.read([DAY])
    assert target.epoch != epoch
    await target.seed(DAY, 0)
    assert isinstance(await admit(target, [RPM], [1]), Denial)
    clock.now += 60_000
    await target.beat(())
    assert isinstance(await admit(target, [RPM, SLOTS, DAY], [30, 3, 500]), Granted)
    assert isinstance(await admit(target, [RPM], [31]), Denial)


async def test_the_clock_never_goes_back(redis: Redis) -> None:
    """Jitter within a minute: no capacity is earned twice, no window opens again."""
    clock = Clock()
    target = store(redis, clock)
    await admit(target, [RPM, DAY], [60, 500])
    clock.now += 30_000
    assert isinstance(await admit(target, [RPM], [30]), Granted)
    await target.beat(())
    for _ in range(5):
        clock.now -= 30_000
        assert isinstance(await admit(target, [RPM], [1]), Denial)
        clock.now += 30_000
        assert isinstance(await admit(target, [RPM], [1]), Denial)


async def test_without_the_store_calls_are_unavailable_and_recover_by_themselves() -> None:
    """At once, with a retry hint; and the same client works again when the server is back."""
    async with valkey() as server:
        redis = connect(server.url, 0.5)
        target = store(redis, Clock(), "gone")
        await target.beat(())
        await server.kill()
        with pytest.raises(Unavailable) as caught:
            await target.beat(())
        assert caught.value.retry_after == 1.0
        await server.start()
        assert isinstance(await admit(target, [RPM], [1]), Granted)
        await redis.aclose()


async def test_a_lost_function_library_is_loaded_again(redis: Redis) -> None:
    """FUNCTION FLUSH by somebody else, a new primary without it: the next call brings it back."""
    target = store(redis, Clock())
    await admit(target, [RPM], [1])
    await redis.function_flush()
    assert isinstance(await admit(target, [RPM], [1]), Granted)


async def test_an_older_library_is_replaced_and_a_newer_one_kept(redis: Redis) -> None:
    """So that of two replicas of different releases the newer decides."""
    functions = Functions(redis)
    from services.ratelimit.adapters.redis_functions import LIBRARY, revision_of, source

    present = f"-- revision {revision_of(source())}:"
    for revision, kept in ((0, False), (10**6, True)):
        other = source().replace(present, f"-- revision {revision}:")
        await redis.function_load(other, replace=True)
        await functions.load()
        assert (f"revision {revision}:" in str(await redis.function_list(LIBRARY, withcode=True))) is kept
    await redis.function_load(source(), replace=True)


async def test_all_keys_of_a_domain_live_in_one_slot_of_a_cluster(tmp_path: Path) -> None:
    """On a server in cluster mode, where a call across slots is an error."""
    # The bus port is named: by default it is the port + 10,000, which may not exist.
    port, bus = free_port(), free_port()
    server = await spawn(
        *(str(binary()), "--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(bus)),
        *("--dir", str(tmp_path), "--save", "", "--bind", "127.0.0.1", "--logfile", str(tmp_path / "log")),
    )
    redis: Any = connect(f"redis://127.0.0.1:{port}/0")
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                    break
                except RedisConnectionError:
                    await asyncio.sleep(0.05)
            while "cluster_state:ok" not in str(await redis.execute_command("CLUSTER", "INFO")):
                await asyncio.sleep(0.05)
        clock = Clock()
        target = store(redis, clock, "cluster")
        limits = [RPM, TPM, SLOTS, DAY, limit("requests", "second", 5, "provider:p{1}")]
        await admit(target, limits, [1, 10, 1, 10, 1], record_id="a")
        await target.settle("a", "router-1", Amounts(1, 5, 5, 5))
        await admit(target, limits, [1, 10, 1, 10, 1], record_id="b")
        clock.now += 200_000
        await target.beat(["router-1"])
        await target.set_override(RPM.key, RPM, None, "me", "")
        _, readings = await target.read(limits)
        assert [r.level for r in readings] == [60 * 6000, 100 * 6000, 0, 15, 500]
    finally:
        await redis.aclose()
        server.terminate()
        await server.wait()
