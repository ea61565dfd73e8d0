"""The contract of every LimitStore: the oracle in memory and the real one on Valkey."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest

from libs.clock import SystemClock
from libs.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, PermissionDenied
from libs.limits import MAX_BUCKET, MAX_COUNTER, Amounts, LimitKey, scope_of
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Denial
from services.ratelimit.ports import Admission, Granted, LimitStore, SliceChange, StaleLimits
from tests.support.engines import RedisServer
from tests.support.limits import OracleStore, limit

START = 1_800_000_000_000


@dataclass(slots=True)
class Bed:
    """A store and its clock in milliseconds."""

    store: LimitStore
    now: int = START
    count: int = 0

    async def admit(
        self,
        limits: Sequence[Limit],
        need: Sequence[int],
        want: Sequence[int] | None = None,
        **changes: Any,
    ) -> Any:
        self.count += 1
        fields: dict[str, Any] = {
            "record_id": f"r{self.count}",
            "holder": "router-1",
            "fingerprint": "print",
            "limits": tuple(limits),
            "need": tuple(need),
            "want": tuple(want or need),
            "ttl": 10.0,
            "divisor": 2,
            "version": 0,
        }
        (answer,) = await self.store.admit([Admission(**{**fields, **changes})])
        return answer

    async def used(self, item: Limit) -> tuple[int, int]:
        """In use and outstanding, of a limit that is not a bucket."""
        _, (reading,) = await self.store.read([item])
        return reading.level, reading.outstanding

    async def left(self, item: Limit) -> float:
        """Returns the level of a bucket, in the limit's unit."""
        _, (reading,) = await self.store.read([item])
        return reading.level / (item.key.period.seconds * 100)


@pytest.fixture(params=["oracle", "valkey"])
async def bed(request: pytest.FixtureRequest, valkey_server: RedisServer) -> AsyncIterator[Bed]:
    if request.param == "oracle":
        made = Bed(OracleStore(lambda: made.now))
        yield made
        return
    redis = connect(valkey_server.url)
    made = Bed(
        RedisLimitStore(
            Functions(redis), uuid.uuid4().hex, SystemClock(), trust=True, test_now=lambda: made.now
        )
    )
    yield made
    await redis.aclose()


RPM = limit("requests", "minute", 60)
TPM = limit("total_tokens", "minute", 1000)
SLOTS = limit("concurrency", "", 2)
DAY = limit("micro_usd", "day", 500)


async def test_all_dimensions_or_none(bed: Bed) -> None:
    """A denial by one dimension takes nothing from the others, and names every violated one."""
    assert isinstance(await bed.admit([RPM, TPM, SLOTS, DAY], [1, 900, 1, 400]), Granted)
    answer = await bed.admit([RPM, TPM, SLOTS, DAY], [1, 200, 1, 200])
    assert isinstance(answer, Denial)
    assert {str(v.limit.key): (v.limit.limit, v.used, v.requested) for v in answer.violations} == {
        str(TPM.key): (1000, 900, 200),
        str(DAY.key): (500, 400, 200),
    }
    assert await bed.left(RPM) == 59
    assert await bed.used(SLOTS) == (1, 1)


async def test_the_wait_is_the_longest_of_the_violated_dimensions(bed: Bed) -> None:
    """100 tokens at 1000 a minute take 6 s; the day's end is farther."""
    await bed.admit([RPM, TPM], [1, 1000])
    answer = await bed.admit([RPM, TPM], [1, 100])
    assert answer.retry_after == 6.0
    await bed.admit([DAY], [500])
    both = await bed.admit([TPM, DAY], [100, 1])
    assert both.retry_after > 6.0
    assert both.retry_after == max(v.reset - both.now for v in both.violations)


async def test_what_can_never_fit_has_no_wait(bed: Bed) -> None:
    """More than a limit can ever hold: waiting does not help."""
    for item in (TPM, DAY, SLOTS):
        answer = await bed.admit([item], [item.limit + 1])
        assert isinstance(answer, Denial)
        assert answer.retry_after is None


async def test_a_bucket_refills_continuously_and_exactly(bed: Bed) -> None:
    """7 a minute: after 59.99 s of a minute that began empty there are 6, after 60 s 7; no remainder is lost."""
    seven = limit("requests", "minute", 7)
    for _ in range(3):
        assert isinstance(await bed.admit([seven], [7]), Granted)
        for _ in range(600):
            bed.now += 99
            if bed.now % 9 == 0:
                await bed.store.read([seven])
        assert isinstance(await bed.admit([seven], [7]), Denial)
        bed.now += 600
        assert await bed.left(seven) == 7


async def test_a_burst_takes_the_capacity_and_then_the_rate_holds(bed: Bed) -> None:
    """Burst 5 at 60 a minute: five at once, then one a second."""
    paced = limit("requests", "minute", 60, burst=5)
    assert isinstance(await bed.admit([paced], [5]), Granted)
    assert (await bed.admit([paced], [1])).retry_after == 1.0
    bed.now += 1000
    assert isinstance(await bed.admit([paced], [1]), Granted)


async def test_settling_returns_what_was_not_used(bed: Bed) -> None:
    """Under-use is back at once, while the bucket has not refilled it."""
    made = await bed.admit([RPM, TPM, DAY, SLOTS], [1, 1000, 400, 1], record_id="a")
    assert isinstance(made, Granted)
    await bed.store.settle("a", "router-1", Amounts(1, 100, 50, 30))
    assert await bed.left(TPM) == 850
    assert await bed.used(DAY) == (30, 0)
    assert await bed.used(SLOTS) == (0, 0)


async def test_a_refund_does_not_come_on_top_of_a_refill(bed: Bed) -> None:
    """Taken, refilled, taken again: the first settle with nothing used gives nothing back."""
    await bed.admit([TPM], [1000], record_id="first", ttl=300.0)
    bed.now += 60_000
    assert isinstance(await bed.admit([TPM], [1000], record_id="second"), Granted)
    await bed.store.settle("first", "router-1", Amounts())
    assert await bed.left(TPM) == 0
    assert isinstance(await bed.admit([TPM], [1]), Denial)


async def test_a_refund_reaches_only_the_day_it_was_taken_from(bed: Bed) -> None:
    """Yesterday's reservation, settled today, does not touch today."""
    bed.now = int(datetime.fromisoformat("2027-03-01T23:50:00+00:00").timestamp() * 1000)
    await bed.admit([DAY], [500], record_id="yesterday", ttl=3600.0)
    bed.now += 1_200_000
    assert isinstance(await bed.admit([DAY], [200]), Granted)
    assert (await bed.used(DAY)) == (200, 200)
    await bed.store.settle("yesterday", "router-1", Amounts(micro_usd=0))
    assert (await bed.used(DAY)) == (200, 200)


async def test_what_nothing_was_reserved_for_is_charged_to_its_own_day(bed: Bed) -> None:
    """A call estimated to cost nothing is the first of its day: what it cost after all is today's, not lost."""
    bed.now = int(datetime.fromisoformat("2027-03-01T23:50:00+00:00").timestamp() * 1000)
    await bed.admit([DAY], [100], record_id="yesterday")
    await bed.store.settle("yesterday", "router-1", Amounts(micro_usd=100))
    bed.now += 1_200_000
    await bed.admit([DAY], [0], record_id="free")
    await bed.store.settle("free", "router-1", Amounts(micro_usd=30))
    assert (await bed.used(DAY)) == (30, 0)


async def test_overrun_becomes_bounded_debt(bed: Bed) -> None:
    """A call that cost more than estimated is charged; a bucket's debt ends at one burst."""
    await bed.admit([TPM, DAY], [100, 100], record_id="a")
    await bed.store.settle("a", "router-1", Amounts(1, 400, 0, 700))
    assert await bed.left(TPM) == 600
    assert (await bed.used(DAY))[0] == 700
    await bed.admit([TPM], [600], record_id="b")
    await bed.store.settle("b", "router-1", Amounts(1, 10**15, 0, 0))
    assert await bed.left(TPM) == -1000


async def test_explicit_zero_use_is_zero(bed: Bed) -> None:
    """Settled with nothing used, everything returns."""
    await bed.admit([RPM, TPM, DAY], [1, 500, 100], record_id="a")
    await bed.store.settle("a", "router-1", Amounts())
    assert await bed.left(RPM) == 60
    assert await bed.left(TPM) == 1000
    assert await bed.used(DAY) == (0, 0)


async def test_reserving_again_renews_and_takes_nothing(bed: Bed) -> None:
    """A repeated request is the same reservation with a new expiry."""
    await bed.admit([RPM, SLOTS], [1, 1], record_id="a")
    bed.now += 9000
    answer = await bed.admit([RPM, SLOTS], [1, 1], record_id="a")
    assert answer.repeated
    assert answer.expires == (bed.now + 10_000) / 1000
    bed.now += 9000
    assert await bed.used(SLOTS) == (1, 1)


async def test_ids_belong_to_one_request_of_one_holder(bed: Bed) -> None:
    """Other content under the same id, another holder, and an id that is over are told apart."""
    await bed.admit([RPM], [1], record_id="a")
    assert isinstance(await bed.admit([RPM], [2], record_id="a", fingerprint="other"), AlreadyExists)
    assert isinstance(await bed.admit([RPM], [1], record_id="a", holder="router-2"), PermissionDenied)
    await bed.store.settle("a", "router-1", Amounts(1))
    assert isinstance(await bed.admit([RPM], [1], record_id="a"), FailedPrecondition)
    assert await bed.left(RPM) == 59


async def test_settling_is_idempotent_and_guarded(bed: Bed) -> None:
    """Once is enough, twice the same is fine, anything else is refused by type."""
    await bed.admit([TPM], [100], record_id="a")
    with pytest.raises(PermissionDenied):
        await bed.store.settle("a", "router-2", Amounts(1, 10))
    with pytest.raises(NotFound):
        await bed.store.settle("never", "router-1", Amounts(1, 10))
    await bed.store.settle("a", "router-1", Amounts(1, 10))
    await bed.store.settle("a", "router-1", Amounts(1, 10))
    with pytest.raises(FailedPrecondition):
        await bed.store.settle("a", "router-1", Amounts(1, 11))
    with pytest.raises(FailedPrecondition):
        await bed.store.cancel("a", "router-1")
    assert await bed.left(TPM) == 990


async def test_cancelling_returns_everything_once(bed: Bed) -> None:
    """And a settle after it is refused."""
    await bed.admit([TPM, SLOTS], [100, 1], record_id="a")
    await bed.store.cancel("a", "router-1")
    await bed.store.cancel("a", "router-1")
    assert await bed.left(TPM) == 1000
    assert await bed.used(SLOTS) == (0, 0)
    with pytest.raises(FailedPrecondition):
        await bed.store.settle("a", "router-1", Amounts(1, 10))


async def test_expiry_releases_slots_posts_money_and_keeps_rates(bed: Bed) -> None:
    """A holder that vanished: its slot is free, its money is counted at the estimate, its tokens are spent."""
    await bed.admit([TPM, SLOTS, DAY], [600, 1, 100], record_id="a")
    bed.now += 10_000
    await bed.store.beat(())
    _, (tokens, slots, money) = await bed.store.read([TPM, SLOTS, DAY])
    assert tokens.level == (400 + 1000 / 6) * 6000 // 1
    assert (slots.level, money.level, money.outstanding, money.uncertain) == (0, 100, 0, 100)


async def test_a_late_settle_corrects_what_expired(bed: Bed) -> None:
    """Money is corrected; tokens are not refunded, but overrun is charged."""
    await bed.admit([TPM, DAY], [600, 100], record_id="a")
    bed.now += 10_000
    await bed.store.beat(())
    before = await bed.left(TPM)
    await bed.store.settle("a", "router-1", Amounts(1, 100, 0, 30))
    _, (money,) = await bed.store.read([DAY])
    assert (money.level, money.uncertain) == (30, 0)
    assert await bed.left(TPM) == before
    await bed.admit([TPM], [100], record_id="b")
    bed.now += 10_000
    await bed.store.beat(())
    before = await bed.left(TPM)
    await bed.store.settle("b", "router-1", Amounts(1, 150, 0, 0))
    assert await bed.left(TPM) == before - 50


async def test_days_end_at_midnight_of_the_time_zone(bed: Bed) -> None:
    """Kiritimati's day is over 14 hours before UTC's."""
    day = limit("requests", "day", 1, time_zone="Pacific/Kiritimati")
    local = datetime.fromisoformat("2027-03-01T23:59:59.999+14:00")
    bed.now = int(local.timestamp() * 1000)
    assert isinstance(await bed.admit([day], [1]), Granted)
    assert (await bed.admit([day], [1])).retry_after == 0.001
    bed.now += 1
    assert isinstance(await bed.admit([day], [1]), Granted)


async def test_a_month_holds_its_days(bed: Bed) -> None:
    """Use of the 1st still counts on the 31st, and no longer on the next 1st."""
    month = limit("micro_usd", "month", 100, time_zone="America/Santiago")
    bed.now = int(datetime.fromisoformat("2026-08-01T00:00:00-04:00").timestamp() * 1000)
    await bed.admit([month], [100])
    bed.now = int(datetime.fromisoformat("2026-08-31T23:59:00-04:00").timestamp() * 1000)
    assert isinstance(await bed.admit([month], [1]), Denial)
    bed.now += 60_000
    assert isinstance(await bed.admit([month], [100]), Granted)


async def test_grants_beyond_need_shrink_with_what_is_left(bed: Bed) -> None:
    """Half of the rest at divisor 2, need whatever is left; nothing beyond it when it is scarce."""
    assert (await bed.admit([TPM], [10], [5000])).amounts == (505,)
    assert (await bed.admit([TPM], [10], [5000])).amounts == (252,)
    assert (await bed.admit([TPM], [240], [5000])).amounts == (241,)
    assert isinstance(await bed.admit([TPM], [10], [5000]), Denial)


async def test_slices_are_reported_absolutely_and_closed_one_by_one(bed: Bed) -> None:
    """Repeating a report changes nothing; a closed slice returns its rest; the record ends with its last slice."""
    await bed.admit([TPM, DAY], [10, 10], [400, 200], record_id="a")
    assert (await bed.used(DAY)) == (200, 200)
    for _ in range(2):
        life = await bed.store.report("router-1", {"a": [SliceChange(1, 50, 0, False, False)]})
        assert life["a"].known
        assert life["a"].expires == (START + 10_000) / 1000
    assert (await bed.used(DAY)) == (200, 150)
    for _ in range(2):
        await bed.store.report("router-1", {"a": [SliceChange(0, 100, 0, True, False)]})
    assert await bed.left(TPM) == 900
    life = await bed.store.report("router-1", {"a": [SliceChange(1, 60, 5, True, False)]})
    assert life["a"].expires is None
    assert (await bed.used(DAY)) == (65, 0)


async def test_renewal_keeps_slots_taken(bed: Bed) -> None:
    """As long as the holder says that calls run."""
    await bed.admit([SLOTS], [2], record_id="a")
    for _ in range(3):
        bed.now += 9000
        life = await bed.store.report("router-1", {"a": [SliceChange(0, 2, 0, False, True)]})
        assert life["a"].ttl == 10.0
    assert isinstance(await bed.admit([SLOTS], [1]), Denial)
    bed.now += 10_000
    assert isinstance(await bed.admit([SLOTS], [2]), Granted)


async def test_foreign_and_unknown_slices_are_not_known(bed: Bed) -> None:
    """And nothing changes."""
    await bed.admit([DAY], [100], record_id="a")
    lives = await bed.store.report(
        "router-2",
        {"a": [SliceChange(0, 0, 0, True, False)], "never": [SliceChange(0, 0, 0, True, False)]},
    )
    assert [life.known for life in lives.values()] == [False, False]
    assert (await bed.used(DAY)) == (100, 100)


async def test_a_limit_of_zero_admits_nothing_but_zero(bed: Bed) -> None:
    """And says that waiting does not help."""
    for item in (limit("requests", "minute", 0), limit("micro_usd", "day", 0), limit("concurrency", "", 0)):
        answer = await bed.admit([item], [1])
        assert isinstance(answer, Denial)
        assert answer.retry_after is None
        assert isinstance(await bed.admit([item], [0]), Granted)


async def test_a_shadow_limit_counts_and_admits(bed: Bed) -> None:
    """And names itself."""
    shadow = limit("total_tokens", "minute", 100, shadow=True)
    assert (await bed.admit([shadow], [90])).shadowed == ()
    assert (await bed.admit([shadow], [90])).shadowed == (shadow.key,)
    assert await bed.left(shadow) == -80


async def test_counting_is_exact_at_the_largest_limits(bed: Bed) -> None:
    """One more than the rest is denied, the rest is admitted, at every bound."""
    for item in (
        limit("total_tokens", "hour", MAX_BUCKET),
        limit("total_tokens", "second", MAX_BUCKET),
        limit("input_tokens", "minute", 1, burst=MAX_BUCKET),
        limit("micro_usd", "month", MAX_COUNTER),
    ):
        assert isinstance(await bed.admit([item], [item.capacity - 7]), Granted)
        assert isinstance(await bed.admit([item], [8]), Denial)
        assert isinstance(await bed.admit([item], [7]), Granted)
        assert isinstance(await bed.admit([item], [1]), Denial)


async def test_a_changed_limit_keeps_what_was_used(bed: Bed) -> None:
    """Raised or lowered, use stays."""
    await bed.admit([TPM, DAY], [600, 400])
    lower, higher = limit("total_tokens", "minute", 500), limit("micro_usd", "day", 900)
    assert await bed.left(lower) == -100
    assert isinstance(await bed.admit([higher], [501]), Denial)
    assert isinstance(await bed.admit([higher], [500]), Granted)


async def test_run_time_limits_have_versions_that_admissions_must_know(bed: Bed) -> None:
    """Set, changed, removed; an admission with older limits is told to read them again."""
    key = LimitKey(scope_of("tenant:acme"), RPM.key.unit, RPM.key.period)
    assert await bed.store.set_override(key, Limit(key, 5), None, "me", "test") == 1
    with pytest.raises(Aborted):
        await bed.store.set_override(key, Limit(key, 6), 0, "me", "test")
    assert isinstance(await bed.admit([RPM], [1]), StaleLimits)
    version, found = await bed.store.overrides()
    assert found[key].limit == Limit(key, 5, version=1)
    assert isinstance(await bed.admit([RPM], [1], version=version), Granted)
    assert await bed.store.set_override(key, None, 1, "me", "test") == 2
    version, found = await bed.store.overrides()
    assert (found[key].limit, found[key].version, version) == (None, 2, 2)


async def test_a_limit_set_at_run_time_keeps_its_pace(bed: Bed) -> None:
    """As it keeps everything else that was said of it."""
    paced = Limit(RPM.key, 5, burst=2, pace=True)
    await bed.store.set_override(RPM.key, paced, None, "me", "test")
    _, found = await bed.store.overrides()
    assert found[RPM.key].limit == replace(paced, version=1)


async def test_holders_are_counted_while_they_live(bed: Bed) -> None:
    """Five seconds after the last beat they are gone."""
    await bed.store.beat(["router-1", "router-2"])
    assert (await bed.store.beat(["router-2"])).holders == 2
    bed.now += 4000
    assert (await bed.store.beat(["router-2"])).holders == 2
    bed.now += 2000
    assert (await bed.store.beat(())).holders == 1
