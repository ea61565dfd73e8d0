"""The use case: when it looks, what it skips without a catalog, and what it measures."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from libs.types import ErrorClass, Usage
from services.analytics.alerts.quota_alert import QuotaAlert, QuotaAlertKind, alert_of
from services.analytics.ledger.attempt import Outcome
from services.analytics.ledger.request import RequestRecord
from services.analytics.recommendations.decision import Decision, Standing, Verdict
from services.analytics.recommendations.evidence import Details, ExhaustedQuota, StrategyUse
from services.analytics.recommendations.gather import Sources, exhausted, gather, window_at
from services.analytics.recommendations.measurement import left_as_it_was
from services.analytics.recommendations.optimization import optimization_of
from services.analytics.recommendations.recommendation import RecommendationKind
from tests.support.alerts import MemoryAlerts
from tests.support.clock import ManualClock
from tests.support.ledger import NOW, MemoryLedger, an_attempt
from tests.support.recommendations import DAY, MemoryDetails, adviser, priced_catalog

CHEAPER, SHORTER = RecommendationKind.CHEAPER_MODEL, RecommendationKind.SHORTEN_PROMPTS


async def month_of_use() -> MemoryLedger:
    """Blogs written by a/dear for four dollars a day, and by b/cheap, which fails one time in three."""
    ledger = MemoryLedger()
    rows = []
    for day in range(30):
        for i in range(12):
            failed = i % 3 == 0
            common = {"content_type": "blog", "started": NOW - day * DAY - 600 * i}
            rows.append(
                an_attempt(
                    f"dear-{day}-{i}",
                    provider="a",
                    model="dear",
                    cost_micro_usd=400_000 + 1000 * i,
                    usage=Usage(90_000 + 250 * i, 10_000),
                    **common,
                )
            )
            rows.append(
                an_attempt(
                    f"cheap-{day}-{i}",
                    provider="b",
                    model="cheap",
                    outcome=Outcome.FAILURE if failed else Outcome.SUCCESS,
                    error_class=ErrorClass.SERVER_ERROR if failed else None,
                    **common,
                )
            )
    await ledger.record(rows)
    return ledger


async def test_it_looks_again_when_the_last_look_is_old() -> None:
    """Use that came meanwhile is seen after a quarter of an hour."""
    clock, ledger = ManualClock(now=NOW), MemoryLedger()
    advising = adviser(clock, ledger, catalog=priced_catalog())
    assert (await advising.advise()).items == ()
    ledger.rows = (await month_of_use()).rows
    clock.advance(899)
    assert (await advising.advise()).as_of == NOW
    clock.advance(1)
    found = await advising.advise()
    assert found.as_of == NOW + 900
    assert [item.kept.recommendation.subject.provider for item in found.items] == ["b"]


async def test_without_a_catalog_the_rules_that_need_it_are_named() -> None:
    """The others are applied all the same."""
    clock = ManualClock(now=NOW)
    with_one = await adviser(clock, await month_of_use(), catalog=priced_catalog()).advise()
    without = await adviser(clock, await month_of_use()).advise()
    assert with_one.summary.skipped == ()
    assert without.summary.skipped == (CHEAPER, SHORTER)
    assert [item.kept.recommendation.kind for item in without.items] == [RecommendationKind.DEMOTE_PROVIDER]


async def test_the_state_of_optimisation() -> None:
    """Spend, strategies and patterns of the window; what is measured after the acceptance, and when that was."""
    ledger = await month_of_use()
    ledger.rows = {name: row for name, row in ledger.rows.items() if row.provider == "a"}
    details = MemoryDetails(Details(strategies=[StrategyUse("balanced", 3), StrategyUse("cost_first", 9)]))
    clock = ManualClock(now=NOW)
    advising = adviser(clock, ledger, details, priced_catalog())
    (item,) = (await advising.advise()).items
    found = item.kept.recommendation
    assert found.kind is CHEAPER
    first = optimization_of(await advising.advise())
    assert first.potential == round(found.saving.p50)
    assert first.spend == pytest.approx(found.saving.p50 / 0.75, rel=0.001)
    assert (first.current, first.last_optimized) == (0, None)
    await advising.decide(Decision(found.id, 0, Verdict.ACCEPT, "ann", NOW))
    details.requests = [
        RequestRecord(
            f"q{i}", f"r{i}", "acme", NOW + i, 0.5, Outcome.SUCCESS, content_type="blog", cost_micro_usd=cost
        )
        for i in range(300)
        for cost in [100 if left_as_it_was(found.id, f"r{i}") else 25]
    ]
    clock.advance(DAY)
    accepted = await advising.advise()
    (item,) = accepted.items
    assert item.standing is Standing.ACCEPTED
    assert item.measured is not None
    assert item.measured.band.p50 == 75 * item.measured.changed
    state = optimization_of(accepted)
    assert (state.potential, state.last_optimized) == (0, NOW)
    assert state.measured == state.current > 0
    assert [use.strategy for use in accepted.summary.strategies] == ["cost_first", "balanced"]
    assert [pattern.content_type for pattern in accepted.summary.patterns] == ["blog"]


async def test_a_snooze_that_ends_shows_what_is_still_found() -> None:
    """One whose evidence is gone by then is neither shown nor counted as a saving."""
    clock, ledger = ManualClock(now=NOW), await month_of_use()
    advising = adviser(clock, ledger, catalog=priced_catalog())
    for item in (await advising.advise()).items:
        snoozed = Decision(item.kept.recommendation.id, 0, Verdict.SNOOZE, "ann", NOW, until=NOW + 2000)
        await advising.decide(snoozed)
    ledger.rows = {}
    clock.advance(1000)
    before = await advising.advise()
    assert [item.standing for item in before.items] == [Standing.SNOOZED]
    clock.advance(1000)
    assert (await advising.advise()).items == ()


def test_a_window_is_of_whole_days_of_the_zone() -> None:
    """Four weeks up to last midnight there; the day on which clocks change has 23 hours, and is one day."""
    window = window_at(1_743_500_000.0, ZoneInfo("Europe/Vienna"))
    lengths = {
        end - start for start, end in zip(window.starts, (*window.starts[1:], window.end), strict=True)
    }
    assert (len(window.starts), lengths) == (28, {DAY, DAY - 3600.0})


def test_a_quota_is_used_up_from_the_alert_to_its_end() -> None:
    """A day's to the end of that day, unless it was cleared; other alerts are none of it."""
    window = window_at(NOW, ZoneInfo("UTC"))
    begin = window.starts[20]
    alert = QuotaAlert(
        "tenant:acme",
        "requests",
        "day",
        QuotaAlertKind.EXHAUSTED,
        begin,
        begin + 7200,
        begin + 3600,
        begin + DAY,
        10,
        10,
        1.0,
    )
    month = replace(
        alert, period="month", raised=window.starts[25] + 5, cleared=None, window_start=window.starts[10]
    )
    soon = replace(alert, kind=QuotaAlertKind.EXHAUSTION_LIKELY, window_start=begin + DAY)
    standing = replace(alert, scope="tenant:beta", cleared=None)
    beta = ExhaustedQuota("tenant:beta", "requests", "day", 10, 1, frozenset({20}))
    assert exhausted([alert_of(standing)], window) == [beta]
    assert exhausted([alert_of(alert), alert_of(month), alert_of(soon)], window) == [
        ExhaustedQuota("tenant:acme", "requests", "day", 10, 1, frozenset({20})),
        ExhaustedQuota("tenant:acme", "requests", "month", 10, 1, frozenset({25, 26, 27})),
    ]


@pytest.mark.parametrize("zone", ["Europe/Vienna", "Africa/Cairo", "Asia/Kathmandu", "America/Sao_Paulo"])
async def test_every_attempt_of_the_window_is_in_the_day_that_it_began_in(zone: str) -> None:
    """Also where clocks change, at midnight itself as in Cairo, and where offsets are no whole hours."""
    now = 1_746_200_000.0
    window = window_at(now, ZoneInfo(zone))
    ledger = MemoryLedger()
    await ledger.record(
        [
            an_attempt(f"{place}-{end}", started=start if not end else start + 82_000)
            for place, start in enumerate(window.starts)
            for end in (0, 1)
        ]
    )
    found = await gather(Sources(ledger, MemoryDetails(), MemoryAlerts()), window)
    assert [(use.day, use.calls) for use in found.models] == [(place, 2) for place in range(28)]
