"""Alerts on quotas: when they are raised and cleared, and that analytics hears of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from libs.errors import Unavailable
from libs.limits import Amounts, LimitKey
from services.ratelimit.alerts.alerts import MAX_WAITING, Alerts
from services.ratelimit.alerts.burn import (
    PAIRS,
    Alert,
    AlertKind,
    alert_conditions,
    burn_rate,
    threshold_reached,
)
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Quota
from services.ratelimit.forecasting.trend import SAMPLE_SECONDS, Trend
from services.ratelimit.ports import Admission
from tests.support.clock import ManualClock
from tests.support.limiter import Replica
from tests.support.limits import OracleStore, limit

DAY = 86_400.0
FAST, SLOW, LIKELY, EXHAUSTED, THRESHOLD, DIFFERENCE = AlertKind


@dataclass
class Sink:
    """AlertSink in memory. `gone`: it takes nothing."""

    heard: list[Alert] = field(default_factory=list)
    gone: bool = False

    async def put(self, alerts: Sequence[Alert]) -> None:
        if self.gone:
            raise Unavailable("analytics is away")
        self.heard += alerts


class Bed:
    """A limiter in memory at midnight UTC, whose clock is moved by hand, sampled every five seconds."""

    def __init__(self, *limits: Limit) -> None:
        midnight = 1_800_000_000.0 - 1_800_000_000.0 % DAY
        self.clock = ManualClock(now=midnight)
        self.store = OracleStore(lambda: round(self.clock.now() * 1000))
        self.replica = Replica(self.store, limits, clock=self.clock)
        self.sink = Sink()
        self.thresholds: dict[LimitKey, Sequence[int]] = {}
        self.differences: dict[LimitKey, int] = {}
        self.alerts = Alerts(
            self.replica.enforcer,
            self.replica.trends,
            self.sink,
            self.clock,
            self.replica.metrics,
            thresholds=lambda: self.thresholds,
            differences=lambda: self.differences,
        )
        self.limits = limits
        self._number = 0

    async def use(self, amount: int) -> None:
        """Of each limit."""
        self._number += 1
        need = Amounts(amount)
        record = f"r{self._number}"
        each = (amount,) * len(self.limits)
        ask = Admission(record, "h", record, self.limits, each, each, 60.0, 2, 0)
        await self.store.admit([ask])
        await self.store.settle(record, "h", need)

    async def live(self, seconds: float, amount: int = 0) -> None:
        """So much is used every five seconds; alerts are looked at every ten."""
        self.replica.trends.follow(self.limits)
        for i in range(int(seconds / SAMPLE_SECONDS)):
            if amount:
                await self.use(amount)
            self.clock.advance(SAMPLE_SECONDS)
            await self.replica.heartbeat._sample()
            if i % 2:
                await self.alerts.check()
        await self.alerts.send()

    def words(self) -> list[tuple[AlertKind, bool]]:
        """The changes that analytics got: kinds, and True where raised."""
        return [(alert.kind, alert.cleared is None) for alert in self.sink.heard]


def quota(used: int, limit_: Limit) -> Quota:
    return Quota(limit_, used, 0, max(0, limit_.limit - used), None, None)


def trend(seconds: float, per_second: float) -> Trend:
    made = Trend()
    for i in range(int(seconds / SAMPLE_SECONDS) + 1):
        made.add(i * SAMPLE_SECONDS, int(i * SAMPLE_SECONDS * per_second))
    return made


REQUESTS = limit("requests", "day", 86_400)


def test_burn_rates_are_multiples_of_what_would_last() -> None:
    """A limit of one a second, used twice a second: 2."""
    assert burn_rate(trend(600, 2), 86_400, DAY, 1 / 720) == pytest.approx(2)
    assert burn_rate(trend(600, 2), 0, DAY, 1 / 720) == 0.0


@pytest.mark.parametrize(
    ("seconds", "rate", "found"),
    [(120, 14, set()), (120, 15, {FAST}), (60, 15, set()), (720, 6.1, {SLOW}), (720, 15, {FAST, SLOW})],
)
def test_both_windows_of_a_pair_must_burn(seconds: float, rate: float, found: set[AlertKind]) -> None:
    """Two minutes at 14.4 times the even rate, or twelve at 6; a shorter burst is none."""
    past = trend(seconds, rate)
    assert set(alert_conditions(quota(0, REQUESTS), (DAY, DAY / 2), past, (), 0.0)) == found


def test_an_alert_is_cleared_by_its_short_window() -> None:
    """As soon as the last twelfth of the long one is calm, not before."""
    past = trend(600, 30)
    for i in range(1, 7):
        standing = alert_conditions(quota(0, REQUESTS), (DAY, DAY / 2), past, (FAST,), 0.0)
        assert (FAST in standing) == (i < 3)
        past.add(600 + i * SAMPLE_SECONDS, 600 * 30)


def test_likely_takes_more_than_it_keeps() -> None:
    """Raised from one half on, cleared below three tenths; without a forecast it stands as it stood."""

    def found(p: float | None, *standing: AlertKind) -> bool:
        return LIKELY in alert_conditions(quota(10, REQUESTS), (DAY, DAY / 2), Trend(), standing, p)

    assert [found(p) for p in (0.49, 0.5)] == [False, True]
    assert [found(p, LIKELY) for p in (0.31, 0.29)] == [True, False]
    assert [found(None), found(None, LIKELY)] == [False, True]


def test_a_limit_of_nothing_alarms_nobody() -> None:
    """It is meant so."""
    assert alert_conditions(quota(0, limit("requests", "day", 0)), (DAY, 1.0), Trend(), (), 1.0) == {}


def test_the_pairs_are_those_of_the_workbook() -> None:
    """An hour and six of a 30-day budget, with a twelfth of each, at 14.4 and 6."""
    month = 30 * DAY
    assert [(p.long * month, p.short * month, p.rate) for p in PAIRS.values()] == [
        (3600, 300, 14.4),
        (21_600, 1800, 6.0),
    ]


async def test_a_quota_used_too_fast_alarms_until_it_is_exhausted_and_a_new_day_clears_all() -> None:
    """In this order: burning fast and likely exhausted, then exhausted in place of likely; each word once."""
    bed = Bed(limit("requests", "day", 1200))
    await bed.live(600, amount=10)
    raised = bed.words()
    assert set(raised) == {(FAST, True), (SLOW, True), (LIKELY, True), (EXHAUSTED, True), (LIKELY, False)}
    assert raised.index((LIKELY, True)) < raised.index((LIKELY, False))
    assert len(raised) == 5
    (exhausted,) = [alert for alert in bed.sink.heard if alert.kind is EXHAUSTED]
    assert (exhausted.used, exhausted.limit, str(exhausted.key)) == (1200, 1200, "tenant:acme requests day")
    bed.clock.advance(DAY)
    await bed.live(10)
    assert {kind for kind, standing in bed.words()[5:] if not standing} == {FAST, SLOW, EXHAUSTED}
    last = {alert.kind: alert for alert in bed.sink.heard}
    assert all(alert.window_start == exhausted.window_start for alert in last.values())


async def test_even_use_that_lasts_alarms_nobody() -> None:
    """An hour at half of what would last."""
    bed = Bed(limit("requests", "day", 17_280 * 2))
    await bed.live(3600, amount=1)
    assert bed.words() == []


async def test_what_analytics_does_not_take_is_told_later_and_bounded() -> None:
    """In order; beyond the bound the oldest are dropped and counted."""
    bed = Bed(limit("requests", "day", 1200))
    bed.sink.gone = True
    await bed.live(600, amount=10)
    assert bed.sink.heard == []
    bed.sink.gone = False
    await bed.alerts.send()
    assert len(bed.sink.heard) == 5
    alert = bed.sink.heard[0]
    for _ in range(MAX_WAITING + 7):
        bed.alerts._record(alert)
    assert bed.replica.metrics.registry.get_sample_value("pointsman_quota_alerts_dropped_total") == 7
    bed.sink.heard.clear()
    await bed.alerts.send()
    assert len(bed.sink.heard) == MAX_WAITING


async def test_metrics_show_what_stands() -> None:
    """By kind."""
    bed = Bed(limit("requests", "day", 100))
    await bed.live(50, amount=10)
    value = bed.replica.metrics.registry.get_sample_value
    assert value("pointsman_quota_alerts_standing", {"kind": "exhausted"}) == 1
    assert value("pointsman_quota_alerts_total", {"kind": "exhausted", "word": "raised"}) == 1


async def test_each_threshold_of_a_budget_is_told_once_until_it_is_used_up() -> None:
    """With its percent; the last one gives way to exhaustion, and what is only reserved counts for none."""
    bed = Bed(limit("requests", "day", 1000))
    bed.thresholds = {bed.limits[0].key: [50, 80]}
    each = (900,)
    ask = Admission("held", "h", "held", bed.limits, each, each, 60.0, 2, 0)
    await bed.store.admit([ask])
    bed.replica.trends.follow(bed.limits)
    await bed.live(20)
    assert THRESHOLD not in dict(bed.words())
    await bed.store.settle("held", "h", Amounts(0))
    told = []
    for amount in (490, 10, 300, 10, 190):
        await bed.use(amount)
        await bed.live(20)
        told.append([a.percent for a in bed.sink.heard if a.kind is THRESHOLD and a.cleared is None])
    assert told == [[], [50], [50, 80], [50, 80], [50, 80]]
    (cleared,) = [a for a in bed.sink.heard if a.kind is THRESHOLD and a.cleared is not None]
    assert cleared.percent == 80
    assert (EXHAUSTED, True) in bed.words()


async def test_a_threshold_that_is_crossed_backwards_is_told_when_it_is_reached_again() -> None:
    """As after a correction of what was used: analytics learns of it without news, and swings about the threshold are
    none. The window's end goes with each."""
    bed = Bed(limit("requests", "day", 1000))
    bed.thresholds = {bed.limits[0].key: [50, 80]}
    bed.replica.trends.follow(bed.limits)
    raised = bed.replica.metrics.registry.get_sample_value
    told = []
    for amount in (810, -15, 15, -200, 195, -500, 100, 200):
        await bed.use(amount)
        await bed.live(20)
        kinds = {"kind": THRESHOLD.value, "word": "raised"}
        heard = [(a.percent, a.cleared is None) for a in bed.sink.heard if a.kind is THRESHOLD]
        told.append((heard[-1], raised("pointsman_quota_alerts_total", kinds)))
    assert told == [
        *(((80, True), 1), ((80, True), 1), ((80, True), 1), ((50, True), 1), ((80, True), 2)),
        *(((80, False), 2), ((80, False), 2), ((50, True), 3)),
    ]
    assert all(a.window_end == a.window_start + DAY for a in bed.sink.heard)


@pytest.mark.parametrize(
    ("used", "reached"), [(0, 0), (499, 0), (500, 50), (799, 50), (800, 80), (1000, 80), (5000, 80)]
)
def test_the_highest_threshold_that_is_reached_counts(used: int, reached: int) -> None:
    assert threshold_reached(used, 1000, [50, 80]) == reached
    assert threshold_reached(used, 0, [50, 80]) == 0


async def test_a_difference_from_the_ledger_is_an_alert_for_as_long_as_it_lasts() -> None:
    """With the amount and its sign."""
    bed = Bed(limit("requests", "day", 100_000))
    bed.replica.trends.follow(bed.limits)
    await bed.use(10)
    bed.differences = {bed.limits[0].key: -4}
    await bed.live(40)
    bed.differences = {}
    await bed.live(20)
    assert bed.words() == [(DIFFERENCE, True), (DIFFERENCE, False)]
    assert [alert.difference for alert in bed.sink.heard] == [-4, -4]
