"""Answers: totals by the owner's month, groups, limits, and too short a past."""

from __future__ import annotations

import itertools
import random
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from libs.errors import InvalidArgument
from libs.forecast.exhaustion import TimeToExhaustion
from libs.forecast.growth import Growth
from libs.forecast.profile import NotEnoughHistory
from libs.limits import LimitKey, Period, Unit, scope_of
from services.analytics.forecasts.answer import MAX_GROUPS, Answer, Projection, answer
from services.analytics.forecasts.history import (
    HISTORY_DAYS,
    HOUR,
    Filters,
    HourOfUse,
    Measure,
    Part,
    UseKey,
    history_of,
)
from services.analytics.forecasts.question import (
    MAX_LIMITS,
    Limit,
    Question,
    day_ends,
    month_end,
    month_start,
)
from services.analytics.forecasts.what_if import WhatIf

#: 2026-11-20T15:30Z.
NOW = datetime(2026, 11, 20, 15, 30, tzinfo=ZoneInfo("UTC")).timestamp()
ACME, GLOBEX = UseKey("acme"), UseKey("globex")


def rows(key: UseKey, days: int, per_hour: float = 100.0, growth: float = 1.0) -> list[HourOfUse]:
    """Use up to the last whole hour, noisy; cost as many micro-USD as tokens, a tenth of it calls."""
    rng = random.Random(str(key))
    end = int(NOW // HOUR)
    found = []
    for hour in range(end - 24 * days, end):
        amount = per_hour * rng.gammavariate(20, 1 / 20) * growth ** ((hour - end) / 24)
        found.append(HourOfUse(key, hour, (amount, amount / 2, amount / 2, amount / 10, amount / 10)))
    return found


def ask(question: Question, found: list[HourOfUse]) -> Answer:
    return answer(question, history_of(found, *question.hours))


def projection(found: Answer, row: int = 0) -> Projection:
    made = found.rows[row].projection
    assert isinstance(made, Projection)
    return made


def test_the_month_is_forecast_to_its_end() -> None:
    """The total is what is used and the rest at the same pace, in its interval; a total for each day that is left."""
    found = ask(Question(NOW), rows(ACME, 40))
    assert found.as_of == NOW - 1800
    assert found.until == datetime(2026, 12, 1, tzinfo=ZoneInfo("UTC")).timestamp()
    (row,) = found.rows
    used = 100 * (19 * 24 + 15)
    assert row.used == pytest.approx(used, rel=0.05)
    made = projection(found)
    assert len(made.totals) == 11
    last = made.totals[-1].band
    assert last.p50 == pytest.approx(100 * 30 * 24, rel=0.08)
    assert row.used < last.p10 < last.p50 < last.p90
    assert [total.band.p50 for total in made.totals] == sorted(total.band.p50 for total in made.totals)
    assert made.backtest.forecasts > 0
    assert len(made.next_day.hours) == 24


def test_too_short_a_past_is_said_for_each_group() -> None:
    """A tenant of three days has no forecast; everything has one all the same."""
    found = ask(Question(NOW, by=Part.TENANT), [*rows(ACME, 40), *rows(GLOBEX, 3)])
    assert [row.group for row in found.rows] == [None, "acme", "globex"]
    assert isinstance(found.rows[0].projection, Projection)
    assert found.rows[2].projection == NotEnoughHistory(3, 8)
    assert ask(Question(NOW), []).rows[0].projection == NotEnoughHistory(0, 8)
    assert ask(Question(NOW), []).history_days == 0


def test_many_groups_are_bounded_and_add_up() -> None:
    """The largest by themselves, the others as one; their use is everything's."""
    found = ask(
        Question(NOW, by=Part.TENANT),
        [one for i in range(MAX_GROUPS + 7) for one in rows(UseKey(f"t{i:02}"), 9, 1.0 + i)],
    )
    assert len(found.rows) == 1 + MAX_GROUPS
    assert found.rows[-1].others == 8
    assert sum(row.used for row in found.rows[1:]) == pytest.approx(found.rows[0].used)


def test_a_plan_stands_beside_what_holds() -> None:
    """Twice the traffic is twice what comes; what was used stays, and limits are compared with the plan."""
    limit = Limit(LimitKey(scope_of("tenant:acme"), Unit.MICRO_USD, Period.DAY), 2850)
    found = ask(Question(NOW, limits=(limit,), what_if=WhatIf(growth=2)), rows(ACME, 40))
    made = found.planned[0].projection
    assert isinstance(made, Projection)
    used = found.rows[0].used
    assert found.planned[0].used == used
    rest = projection(found).totals[-1].band.p50 - used
    assert made.totals[-1].band.p50 - used == pytest.approx(2 * rest, rel=0.02)
    (item,) = found.limits
    assert isinstance(item.exhaustion, TimeToExhaustion)
    assert item.exhaustion.probability > 0.9
    alone = ask(Question(NOW, limits=(limit,)), rows(ACME, 40)).limits[0].exhaustion
    assert isinstance(alone, TimeToExhaustion)
    assert alone.probability < 0.05


def test_a_plan_brings_a_provider_what_another_loses() -> None:
    """Asked about one provider alone, the tokens of the lost one arrive there; nothing else is shown."""
    dear, cheap = UseKey("", "openai", "large"), UseKey("", "anthropic", "haiku")
    both = [*rows(dear, 40), *rows(cheap, 40)]
    question = Question(
        NOW, filters=Filters(provider="anthropic"), what_if=WhatIf(lost_providers=("openai",)), by=Part.MODEL
    )
    assert question.read_filters == Filters()
    found = ask(question, both)
    assert [row.group for row in found.planned] == [None, "anthropic/haiku"]
    (alone,) = ask(Question(NOW), rows(cheap, 40)).rows
    assert found.rows[0].used == pytest.approx(alone.used)
    rest = projection(found).totals[-1].band.p50 - alone.used
    planned = found.planned[0].projection
    assert isinstance(planned, Projection)
    assert planned.totals[-1].band.p50 - alone.used == pytest.approx(2 * rest, rel=0.05)
    assert Question(NOW, filters=Filters("t", "p", "m")).read_filters == Filters("t", "p", "m")


@pytest.mark.parametrize(
    ("filters", "whole"),
    [
        (Filters(), {"tenant:acme", "tenant:globex", "provider:p", "model:p/m", "model:p/a/m"}),
        (Filters(tenant="acme"), {"tenant:acme"}),
        (Filters(provider="p"), {"provider:p", "model:p/m", "model:p/a/m"}),
        (Filters(model="m"), {"model:p/m", "model:p/a/m"}),
        (Filters(model="p/m"), {"model:p/m"}),
        (Filters(provider="p", model="a/m"), {"model:p/a/m"}),
        (Filters(tenant="acme", provider="p"), set()),
    ],
)
def test_a_limit_is_compared_with_all_use_of_its_scope_or_not_at_all(
    filters: Filters, whole: set[str]
) -> None:
    """A provider's limit beside one tenant's use of it would seem to have room."""
    for scope in ("tenant:acme", "tenant:globex", "provider:p", "model:p/m", "model:p/a/m"):
        limit = Limit(LimitKey(scope_of(scope), Unit.REQUESTS, Period.DAY), 5)
        if scope in whole:
            assert Question(NOW, filters=filters, limits=(limit,)).limits == (limit,)
            continue
        with pytest.raises(InvalidArgument) as refused:
            Question(NOW, filters=filters, limits=(limit,))
        assert [fault.field for fault in refused.value.violations] == ["limits[0].scope"], scope


def test_a_limits_day_begins_in_its_own_zone() -> None:
    """At 15:30 UTC a day has 15 whole hours there, and in Auckland four since its midnight at 11:00 UTC."""
    key = LimitKey(scope_of("tenant:acme"), Unit.MICRO_USD, Period.DAY)
    limits = (Limit(key, 10**6), Limit(key, 10**6, "Pacific/Auckland"))
    even = [HourOfUse(row.key, row.hour, (100.0,) * 5) for row in rows(ACME, 20)]
    found = ask(Question(NOW, limits=limits), even).limits
    assert [item.used for item in found] == [1500, 400]
    with pytest.raises(InvalidArgument) as refused:
        Question(NOW, limits=(Limit(key, 1, "Mars/Olympus"),))
    assert [fault.field for fault in refused.value.violations] == ["limits[0].time_zone"]


def test_a_month_that_begins_within_the_hour_holds_no_other_months_use() -> None:
    """At ten past midnight in a zone half an hour off, the history ends in the month before: nothing is used of this
    one, nor of the day, and the total is that of 31 days."""
    now = datetime(2026, 12, 1, 0, 10, tzinfo=ZoneInfo("Asia/Kolkata")).timestamp()
    end = int(now // HOUR)
    past = [HourOfUse(ACME, hour, (100.0, 50.0, 50.0, 10.0, 10.0)) for hour in range(end - 24 * 40, end)]
    limits = tuple(
        Limit(LimitKey(scope_of("tenant:acme"), Unit.MICRO_USD, period), 10**6)
        for period in (Period.DAY, Period.MONTH)
    )
    found = ask(Question(now, time_zone="Asia/Kolkata", limits=limits), past)
    assert found.rows[0].used == 0
    totals = projection(found).totals
    assert len(totals) == 31
    assert totals[0].band.p50 == pytest.approx(2400, rel=0.01)
    assert totals[-1].band.p50 == pytest.approx(31 * 2400, rel=0.01)
    assert [item.used for item in found.limits] == [0, 0]


@pytest.mark.parametrize(
    ("unit", "period", "now"),
    [
        (Unit.TOTAL_TOKENS, Period.DAY, 2400.0),
        (Unit.REQUESTS, Period.DAY, 240.0),
        (Unit.TOTAL_TOKENS, Period.HOUR, 150.0),
        (Unit.TOTAL_TOKENS, Period.MINUTE, 2.5),
    ],
)
def test_a_limit_is_outgrown_when_growth_says_so(unit: Unit, period: Period, now: float) -> None:
    """At 3 % a day a limit at twice today's peak is met in some 23 days; without growth it is not within a year."""
    limit = Limit(LimitKey(scope_of("tenant:acme"), unit, period), round(2 * now))
    (grown,) = ask(Question(NOW, limits=(limit,)), rows(ACME, 40, growth=1.03)).limits
    assert isinstance(grown.growth, Growth)
    assert grown.growth.per_day == pytest.approx(1.03, abs=0.006)
    assert grown.growth.p50 is not None
    assert 14 <= grown.growth.p50 <= 32
    assert grown.growth.p10 is not None
    assert grown.growth.p10 <= grown.growth.p50
    (even,) = ask(Question(NOW, limits=(limit,)), rows(ACME, 40)).limits
    assert isinstance(even.growth, Growth)
    assert even.growth.p50 is None
    (young,) = ask(Question(NOW, limits=(limit,)), rows(ACME, 10)).limits
    assert young.growth == NotEnoughHistory(10, 14)


def test_a_limit_sees_its_own_scope_alone() -> None:
    """Another tenant's use is not in it; callers' requests are counted without their second attempts."""
    key = LimitKey(scope_of("tenant:acme"), Unit.REQUESTS, Period.DAY)
    twice = [HourOfUse(row.key, row.hour, (*row.amounts[:4], 2 * row.amounts[4])) for row in rows(ACME, 20)]
    (item,) = ask(Question(NOW, limits=(Limit(key, 10**6),)), [*twice, *rows(GLOBEX, 20, 10**5)]).limits
    assert item.used == pytest.approx(150, rel=0.15)


@pytest.mark.parametrize(
    ("zone", "instant", "days"),
    [
        ("Europe/Vienna", "2026-10-20T12:00", 12),
        ("America/New_York", "2026-11-01T00:00", 30),
        ("Asia/Kolkata", "2026-02-28T23:00", 1),
    ],
)
def test_a_months_days_add_up_in_its_zone(zone: str, instant: str, days: int) -> None:
    """The ends of the days left are midnights there, 23 or 25 hours apart where clocks change, up to the month's
    end."""
    place = ZoneInfo(zone)
    at = datetime.fromisoformat(instant).replace(tzinfo=place).timestamp()
    ends = day_ends(at, month_end(at, place), place)
    assert len(ends) == days
    assert all(datetime.fromtimestamp(end, place).hour == 0 for end in ends)
    assert month_start(ends[-1], place) == ends[-1]
    assert {round((b - a) / 3600) for a, b in itertools.pairwise(ends)} <= {23, 24, 25}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"measure": Measure.ATTEMPTS}, "measure"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"until": NOW}, "until"),
        ({"until": NOW + 93 * 86_400}, "until"),
        ({"until": float("nan")}, "until"),
        ({"filters": Filters(tenant="x" * 129)}, "tenant"),
        ({"filters": Filters(model="a\0")}, "model"),
        ({"limits": (Limit(LimitKey(scope_of("key:k"), Unit.REQUESTS, Period.DAY), 5),)}, "limits[0].scope"),
        (
            {"limits": (Limit(LimitKey(scope_of("tenant:a"), Unit.CONCURRENCY, Period.NONE), 5),)},
            "limits[0].unit",
        ),
        (
            {"limits": (Limit(LimitKey(scope_of("tenant:a"), Unit.REQUESTS, Period.DAY), 0),)},
            "limits[0].limit",
        ),
        (
            {
                "limits": (Limit(LimitKey(scope_of("tenant:a"), Unit.REQUESTS, Period.DAY), 1),)
                * (MAX_LIMITS + 1)
            },
            "limits",
        ),
    ],
)
def test_wrong_questions_name_their_field(wrong: dict[str, object], field: str) -> None:
    """INVALID_ARGUMENT before anything is read."""
    with pytest.raises(InvalidArgument) as refused:
        Question(NOW, **wrong)  # type: ignore[arg-type]
    assert [fault.field for fault in refused.value.violations] == [field]


def test_the_history_asked_for_is_bounded() -> None:
    """60 days of whole hours; split only by what the question needs."""
    question = Question(NOW)
    assert question.hours == (int(NOW // HOUR) - HISTORY_DAYS * 24, int(NOW // HOUR))
    assert question.parts == frozenset()
    assert Question(NOW, what_if=WhatIf(growth=2)).parts == frozenset()
    assert Question(NOW, what_if=WhatIf(lost_providers=("a",))).parts == {Part.MODEL}
