"""Random histories on a real Valkey, compared step by step with an exact oracle, and then as a whole with the
envelope itself. POINTSMAN_HISTORIES sets how many (default 300), POINTSMAN_SEED where to begin; a failure names the
seed to run alone: POINTSMAN_HISTORIES=1 POINTSMAN_SEED=<seed>."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio

from libs.clock import SystemClock
from libs.errors import PointsmanError
from libs.limits import Amounts, Unit
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import TICKS
from services.ratelimit.domain.windows import windows
from services.ratelimit.ports import Admission, Granted, SliceChange
from tests.support.engines import RedisServer
from tests.support.limits import OracleStore, limit

HISTORIES = int(os.environ.get("POINTSMAN_HISTORIES", "300"))
FIRST_SEED = int(os.environ.get("POINTSMAN_SEED", "1"))
STEPS = 30
START = 1_790_000_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def functions(valkey_server: RedisServer) -> AsyncIterator[Functions]:
    redis = connect(valkey_server.url)
    # Histories by the hundred thousand need no durability, and syncing them would measure the disk.
    await redis.config_set("appendonly", "no")
    yield Functions(redis)
    await redis.flushall()
    await redis.aclose()


@dataclass(slots=True)
class Took:
    """The amount that a slice took of a limit: the most it can have used, as far as is known."""

    limit: Limit
    at: int
    amount: int
    record: str
    until: int | None = None


@dataclass(slots=True)
class History:
    """One seed's life."""

    seed: int
    functions: Functions
    rng: random.Random = field(init=False)
    now: int = START
    latest: int = START
    seen: int = START
    store: RedisLimitStore = field(init=False)
    oracle: OracleStore = field(init=False)
    limits: list[Limit] = field(default_factory=list)
    sent: list[Admission] = field(default_factory=list)
    took: dict[tuple[str, int], Took] = field(default_factory=dict)
    open: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        domain = f"history-{self.seed}"
        self.store = RedisLimitStore(
            self.functions, domain, SystemClock(), trust=True, test_now=lambda: self.now
        )
        self.oracle = OracleStore(lambda: self.seen, forgets=False)
        self.limits = self._limits()

    def _limits(self) -> list[Limit]:
        rng = self.rng
        kinds = [
            limit("requests", "second", rng.choice([1, 3, 50]), "provider:p"),
            limit("requests", "minute", rng.choice([0, 2, 7, 60, 601])),
            limit("total_tokens", "minute", rng.choice([100, 997, 5000]), burst=rng.choice([None, 50, 3000])),
            limit("input_tokens", "hour", rng.choice([1000, 7001]), "model:p/m"),
            limit("output_tokens", "minute", rng.choice([333, 10_000_000_000]), "provider:p"),
            limit("concurrency", "", rng.choice([1, 2, 5])),
            limit("micro_usd", "day", rng.choice([500, 3000]), time_zone="America/New_York"),
            limit("requests", "month", rng.choice([20, 200]), "campaign:a/s", time_zone="Asia/Kathmandu"),
        ]
        return rng.sample(kinds, rng.randint(1, 5))

    async def run(self) -> None:
        for _ in range(STEPS):
            await self._pass_time()
            action = self.rng.choices(
                [self._admit, self._duplicate, self._finish, self._report, self._compare],
                [10, 2, 5, 5, 1],
            )[0]
            await action()
        await self._compare()
        self._check_envelope()

    async def _pass_time(self) -> None:
        rng = self.rng
        step = rng.choices(
            [0, rng.randint(1, 900), rng.randint(1000, 30_000), rng.randint(60_000, 4_000_000), 40_000_000],
            [8, 8, 6, 2, 0.3],
        )[0]
        if rng.random() < 0.06:
            await self._beat()
            # A minute or more would begin a new life of the store, which other tests are about.
            step = max(-rng.choice([5, 500, 50_000]), self.latest - 55_000 - self.now)
        self.now += step
        # Time as anything in the store may have seen it; the clock that goes back earns nothing twice.
        self.latest = max(self.latest, self.now)
        if step < 0 or step > 60_000 or rng.random() < 0.5:
            await self._beat()
        self.log.append(f"+{step}")

    async def _beat(self) -> None:
        """Moves the store's high-water mark on, so that what is asked next is answered at a time that is known."""
        self.seen = round((await self.store.beat(["router-1"])).now * 1000)
        await self.oracle.beat(["router-1"])
        self.latest = max(self.latest, self.seen)

    async def _admit(self) -> None:
        rng = self.rng
        need = [rng.choice([0, 1, 1, 2, rng.randint(1, 60), rng.randint(1, 900)]) for _ in self.limits]
        for i, item in enumerate(self.limits):
            if item.key.unit in (Unit.REQUESTS, Unit.CONCURRENCY):
                need[i] = 1
        want = [n + rng.choice([0, 0, n, 20 * n]) for n in need]
        lease = rng.random() < 0.5
        ask = Admission(
            f"id-{len(self.sent)}",
            rng.choice(["router-1", "router-2"]),
            f"print-{need}",
            tuple(self.limits),
            tuple(need),
            tuple(want) if lease else tuple(need),
            rng.choice([1.0, 5.0, 8.0, 120.0]),
            rng.choice([2, 4]),
            0,
        )
        self.sent.append(ask)
        await self._send(ask)

    async def _duplicate(self) -> None:
        """A request that comes again, out of order, sometimes with other content or from another holder."""
        if self.sent:
            await self._beat()
            ask = self.rng.choice(self.sent)
            change = self.rng.random()
            if change < 0.1:
                ask = Admission(
                    ask.record_id, "thief", ask.fingerprint, ask.limits, ask.need, ask.want, ask.ttl, 2, 0
                )
            elif change < 0.2:
                ask = Admission(
                    ask.record_id, ask.holder, "other", ask.limits, ask.need, ask.want, ask.ttl, 2, 0
                )
            await self._send(ask)

    async def _send(self, ask: Admission) -> None:
        (answer,) = await self.store.admit([ask])
        if not isinstance(answer, Exception):
            self.seen = round(answer.now * 1000)
            self.latest = max(self.latest, self.seen)
        expected = self.oracle.admit_one(ask, answer)
        short = answer.amounts if isinstance(answer, Granted) else type(answer).__name__
        self.log.append(
            f"{self.seen} admit {ask.record_id} need {ask.need} want {ask.want} ttl {ask.ttl} -> {short}"
        )
        assert type(answer) is type(expected), f"{answer} is not {expected}"
        if isinstance(answer, Granted):
            assert answer.repeated == getattr(expected, "repeated", None)
            if not answer.repeated:
                self.open[ask.record_id] = (ask.holder, answer.amounts)
                for i, amount in enumerate(answer.amounts):
                    self.took[ask.record_id, i] = Took(ask.limits[i], self.latest, amount, ask.record_id)

    async def _finish(self) -> None:
        if not self.open:
            return
        await self._beat()
        record = self.rng.choice(list(self.open))
        holder, amounts = self.open[record]
        if self.rng.random() < 0.1:
            holder = "thief"
        scale = self.rng.choice([0.0, 0.3, 1.0, 1.0, 1.7])
        used = Amounts(1, *(round(max(amounts) * scale * self.rng.random()) for _ in range(3)))
        cancel = self.rng.random() < 0.2
        outcomes = []
        for target in (self.store, self.oracle):
            try:
                if cancel:
                    await target.cancel(record, holder)
                else:
                    await target.settle(record, holder, used)
                outcomes.append("ok")
            except PointsmanError as error:
                outcomes.append(type(error).__name__)
        self.log.append(f"{'cancel' if cancel else 'settle'} {record} by {holder} {used} -> {outcomes}")
        assert outcomes[0] == outcomes[1]
        if outcomes[0] == "ok":
            self._used(record)
        if self.rng.random() < 0.5 and holder != "thief":
            self.open.pop(record)  # else it comes again, as duplicates do

    async def _report(self) -> None:
        if not self.open:
            return
        await self._beat()
        record = self.rng.choice(list(self.open))
        holder, amounts = self.open[record]
        changes = {
            record: [
                SliceChange(
                    i,
                    self.rng.randint(0, amount),
                    self.rng.choice([0, 0, 0, 7]),
                    self.rng.random() < 0.3,
                    self.rng.random() < 0.3,
                )
                for i, amount in enumerate(amounts)
                if self.rng.random() < 0.8
            ]
        }
        got = await self.store.report(holder, changes)
        expected = await self.oracle.report(holder, changes)
        self.log.append(f"report {changes} -> {got}")
        assert got == expected
        self._used(record)

    def _used(self, record: str) -> None:
        """Takes over what the oracle knows of the record's real use."""
        for i, claim in enumerate(self.oracle.records[record].claims):
            took = self.took[record, i]
            if claim.state == "closed":
                took.amount = claim.used
                took.until = took.until or self.latest

    async def _compare(self) -> None:
        await self._beat()
        _, got = await self.store.read(self.limits)
        _, expected = await self.oracle.read(self.limits)
        for item, mine, theirs in zip(self.limits, got, expected, strict=True):
            counter = self.oracle.counters[item.key]
            if item.key.period.seconds:
                assert abs(theirs.level - mine.level) <= counter.slack + 1, (
                    f"{item.key}: {mine} is not {theirs}"
                )
            else:
                assert (mine.level, mine.outstanding, mine.uncertain) == (
                    theirs.level,
                    theirs.outstanding,
                    theirs.uncertain,
                ), f"{item.key}: {mine} is not {theirs}"

    def _check_envelope(self) -> None:
        """Checks that the real use of all that was admitted fits the limit, in every stretch of time."""
        for item in self.limits:
            took = sorted((t for t in self.took.values() if t.limit == item), key=lambda t: t.at)
            if item.key.period.seconds:
                scale = item.key.period.seconds * TICKS
                for i, first in enumerate(took):
                    total = 0
                    for t in took[i:]:
                        total += t.amount
                        ticks = t.at // 10 - first.at // 10
                        assert total * scale <= item.capacity * scale + ticks * item.limit, f"{item} {t}"
            elif item.key.period.calendar:
                by_window: dict[int, int] = {}
                for t in took:
                    start = windows(item.key.period, item.time_zone, t.at).start
                    by_window[start] = by_window.get(start, 0) + t.amount
                assert all(total <= item.limit for total in by_window.values()), f"{item} {by_window}"


async def test_random_histories_never_exceed_the_envelope_and_agree_with_the_oracle(
    functions: Functions,
) -> None:
    """Duplicates, reordering, crashed holders, jumping clocks: posted and outstanding never exceed a limit."""
    for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES):
        history = History(seed, functions)
        try:
            await history.run()
        except Exception:
            print(f"\nPOINTSMAN_SEED={seed} fails; its history:\n" + "\n".join(history.log))
            raise
        if seed % 1000 == 0:
            await functions._redis.flushall()
