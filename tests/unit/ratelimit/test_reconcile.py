"""The comparison of used limits with the ledger: what lasts is told, what is on its way is not."""

from __future__ import annotations

import pytest

from libs.errors import Unavailable
from libs.limits import Amounts
from services.ratelimit.domain.limits import Limit
from services.ratelimit.ports import Admission
from services.ratelimit.reconcile import MAX_COMPARED, Reconciliation, lasting
from tests.support.clock import ManualClock
from tests.support.limiter import Replica
from tests.support.limits import OracleStore, limit

DAY = 86_400.0


class Recorded:
    """SpendHistory in memory. `less`: so much of what was used it does not hold; None: it is away."""

    def __init__(self) -> None:
        self.used = 0
        self.less: int | None = 0
        self.asked: list[Limit] = []

    async def spent(self, limit: Limit, now: float) -> int | None:
        if self.less is None:
            raise Unavailable("analytics is away")
        self.asked.append(limit)
        return self.used - self.less


class Bed:
    """A limiter in memory at midnight UTC with its comparison."""

    def __init__(self, *limits: Limit) -> None:
        self.clock = ManualClock(now=1_800_000_000.0 - 1_800_000_000.0 % DAY)
        self.store = OracleStore(lambda: round(self.clock.now() * 1000))
        self.replica = Replica(self.store, limits, clock=self.clock)
        self.replica.trends.follow(limits)
        self.recorded = Recorded()
        self.limits = limits
        self.reconciliation = Reconciliation(
            self.replica.enforcer, self.replica.trends, self.recorded, self.clock, self.replica.metrics
        )
        self._number = 0

    async def use(self, amount: int, *, settled: bool = True) -> None:
        self._number += 1
        record = f"r{self._number}"
        each = (amount,) * len(self.limits)
        await self.store.admit([Admission(record, "h", record, self.limits, each, each, 60.0, 2, 0)])
        if settled:
            await self.store.settle(record, "h", Amounts(amount))
            self.recorded.used += amount

    async def found(self, *less: int | None) -> int:
        """Returns the lasting difference after a comparison at each of these."""
        for missing in less:
            self.recorded.less = missing
            await self.reconciliation.compare()
        return self.reconciliation.differences.get(self.limits[0].key, 0)

    def metric(self) -> float:
        value = self.replica.metrics.registry.get_sample_value(
            "pointsman_ratelimit_ledger_difference", {"unit": "requests"}
        )
        return value or 0.0


async def test_what_lasts_is_a_difference_and_what_is_on_its_way_is_not() -> None:
    """A record that comes late is missing once; one that is lost stays missing, and so does one too many."""
    bed = Bed(limit("requests", "day", 1000))
    await bed.use(10)
    assert await bed.found(0, 0) == 0
    assert await bed.found(4, 0) == 0
    assert await bed.found(4) == 0
    assert await bed.found(3) == 3
    assert bed.metric() == 3
    assert await bed.found(-2) == 0
    assert await bed.found(-2) == -2
    assert bed.metric() == 2
    assert await bed.found(0) == 0
    assert bed.metric() == 0


async def test_what_is_only_reserved_is_not_used_yet() -> None:
    bed = Bed(limit("requests", "day", 1000))
    await bed.use(10)
    await bed.use(500, settled=False)
    assert await bed.found(0, 0, 0) == 0


async def test_a_ledger_that_is_away_changes_nothing() -> None:
    bed = Bed(limit("requests", "day", 1000))
    await bed.use(10)
    assert await bed.found(5, 5) == 5
    assert await bed.found(None, None) == 5


async def test_each_limit_has_its_turn() -> None:
    """However many there are; buckets, which the ledger knows nothing of, have none."""
    limits = [limit("requests", "day", 1000, f"tenant:t{n}") for n in range(MAX_COMPARED + 5)]
    bed = Bed(*limits, limit("requests", "minute", 1000))
    await bed.found(0, 0)
    assert {asked.key for asked in bed.recorded.asked} == {one.key for one in limits}


async def test_a_new_window_begins_without_a_past() -> None:
    """Yesterday's difference and today's first one say nothing together."""
    bed = Bed(limit("requests", "day", 1000))
    await bed.use(10)
    assert await bed.found(5) == 0
    bed.clock.advance(DAY)
    bed.recorded.used = 0
    await bed.use(3)
    assert await bed.found(1) == 0
    assert await bed.found(1) == 1


@pytest.mark.parametrize(
    ("before", "now", "both"), [(None, 3, 0), (5, 3, 3), (-5, -7, -5), (5, -5, 0), (0, 4, 0)]
)
def test_two_in_a_row_show_the_smaller(before: int | None, now: int, both: int) -> None:
    assert lasting(before, now) == both


@pytest.mark.parametrize(("unit", "noise"), [("requests", 9), ("micro_usd", 10_000)])
async def test_cents_and_single_requests_are_no_notable_difference(unit: str, noise: int) -> None:
    """Nor is a thousandth of what is used; what is more is, until it is gone."""
    bed = Bed(limit(unit, "day", 10**9))
    each = (9000,)
    await bed.store.admit([Admission("r", "h", "r", bed.limits, each, each, 60.0, 2, 0)])
    await bed.store.settle("r", "h", Amounts(requests=9000, micro_usd=9000))
    bed.recorded.used = 9000
    for less, notable in ((noise, False), (noise + 1, True), (0, False)):
        await bed.found(less, less)
        assert (bed.limits[0].key in bed.reconciliation.notable) is notable, less
