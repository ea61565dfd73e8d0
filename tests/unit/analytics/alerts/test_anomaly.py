"""Series by their own past: what is ordinary, and what is not."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.alerts import CLASSES, measure
from services.analytics.alerts.anomaly import (
    DAY_HOURS,
    HISTORY_HOURS,
    MIN_DAYS,
    WIDTHS,
    Baseline,
    Width,
    median,
)

HOURLY, DAILY = WIDTHS
both = pytest.mark.parametrize("width", WIDTHS)


def day(hour: int) -> float:
    """Micro-USD of an hour of a day that is busy in the afternoon."""
    return 10e6 * (1 + 0.7 * math.cos(math.tau * (hour % DAY_HOURS - 14) / DAY_HOURS))


def amount(width: Width, end: int, factor: float = 1.0) -> float:
    """The amount of the span that ends with an hour of such a day."""
    return factor * sum(day(hour) for hour in range(end - width.hours, end))


@both
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), start=st.integers(0, 23), noise=st.floats(0, 0.1))
def test_a_series_that_goes_on_as_before_raises_nothing(
    width: Width, seed: int, start: int, noise: float
) -> None:
    """Whatever the hour, with as much noise as it always had, and no matter where in the hour it is looked at."""
    rng = Random(seed)
    hours = [day(h + start) * math.exp(rng.uniform(-noise, noise)) for h in range(HISTORY_HOURS)]
    baseline = Baseline(hours, width)
    for part in (0.0, 0.4, 1.0):
        ordinary = baseline.ordinary(part, baseline.end)
        assert ordinary is not None
        after = start + HISTORY_HOURS
        now = (1 - part) * amount(width, after) + part * amount(width, after + 1)
        assert ordinary.expected == pytest.approx(now, rel=0.15)
        assert not ordinary.is_anomaly(now, standing=False)


@both
@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 23), factor=st.floats(2.1, 100))
def test_a_steady_series_that_more_than_doubles_is_an_anomaly(
    width: Width, start: int, factor: float
) -> None:
    """At any hour of the day; and it is over when the amount is as before."""
    baseline = Baseline([day(h + start) for h in range(HISTORY_HOURS)], width)
    ordinary = baseline.ordinary(0.0, baseline.end)
    assert ordinary is not None
    end = start + HISTORY_HOURS
    assert ordinary.is_anomaly(amount(width, end, factor), standing=False)
    assert not ordinary.is_anomaly(amount(width, end), standing=True)


def test_a_burst_beyond_the_second_largest_must_last_an_hour_unless_it_is_far_beyond() -> None:
    """A series with bursts of all sizes may have a larger one: of amounts a little above, half an hour ago and an
    hour ago tell. A steady series leaves no such doubt."""
    bursts = {-day * DAY_HOURS: 1 + 2 * rank for rank, day in enumerate((3, 17, 11, 22, 6, 14))}
    hours = [10e6 * bursts.get(h - HISTORY_HOURS, 1) for h in range(HISTORY_HOURS)]
    bursty, steady = Baseline(hours, HOURLY), Baseline([10e6] * HISTORY_HOURS, HOURLY)

    def finds(baseline: Baseline, *amounts: float, standing: bool = False) -> bool:
        spans = [10e6 * amount for amount in amounts]
        return baseline.exceeded(spans, 0.25, baseline.end, standing=standing) is not None

    # The second largest burst is of nine times, the fifth of three.
    assert not finds(bursty, 14, 1, 1)
    assert not finds(bursty, 14, 14, 1)
    assert finds(bursty, 14, 14, 14)
    assert not finds(bursty, 9, 9, 9)
    assert finds(bursty, 50, 1, 1)
    assert finds(bursty, 9, 1, 1, standing=True)
    assert finds(steady, 2.5, 1, 1)


@both
def test_an_alert_is_over_half_way_back(width: Width) -> None:
    """An amount that would raise none may still keep one."""
    baseline = Baseline([day(h) for h in range(HISTORY_HOURS)], width)
    ordinary = baseline.ordinary(0.0, baseline.end)
    assert ordinary is not None
    between = ordinary.expected + 0.75 * (ordinary.high - ordinary.expected)
    assert [ordinary.is_anomaly(between, standing=standing) for standing in (False, True)] == [False, True]


@settings(max_examples=25, deadline=None)
@given(factor=st.floats(2, 1000), cents=st.integers(1, 40))
def test_cents_are_no_anomaly(factor: float, cents: int) -> None:
    """However many times as much they are: nobody gets up for a dollar."""
    baseline = Baseline([cents * 10_000.0] * HISTORY_HOURS, HOURLY)
    ordinary = baseline.ordinary(0.0, baseline.end)
    assert ordinary is not None
    more = min(cents * 10_000 * factor, cents * 10_000 + HOURLY.least_excess)
    assert not ordinary.is_anomaly(more, standing=False)


@both
def test_one_earlier_incident_hides_no_later_one(width: Width) -> None:
    """A day of ten times the spend, last week; the same again is an anomaly."""
    hours = [day(h) for h in range(HISTORY_HOURS)]
    at = HISTORY_HOURS - 7 * DAY_HOURS
    hours[at : at + 10] = [10 * amount for amount in hours[at : at + 10]]
    baseline = Baseline(hours, width)
    ordinary = baseline.ordinary(0.0, baseline.end)
    assert ordinary is not None
    assert ordinary.is_anomaly(amount(width, HISTORY_HOURS, 4), standing=False)


def test_a_burst_that_comes_every_few_days_is_ordinary() -> None:
    """A job of two hours at any time of each third day."""
    rng = Random(5)
    hours = [day(h) for h in range(HISTORY_HOURS)]
    for first in range(0, HISTORY_HOURS, 3 * DAY_HOURS):
        at = first + rng.randrange(2 * DAY_HOURS)
        hours[at : at + 2] = [50e6 + amount for amount in hours[at : at + 2]]
    baseline = Baseline(hours, HOURLY)
    ordinary = baseline.ordinary(0.0, baseline.end)
    assert ordinary is not None
    assert not ordinary.is_anomaly(50e6 + amount(HOURLY, HISTORY_HOURS), standing=False)


@both
def test_saturdays_that_are_always_busy_are_ordinary(width: Width) -> None:
    """Four times a weekday, each week."""

    def week(hour: int) -> float:
        return day(hour) * (4 if hour // DAY_HOURS % 7 == 0 else 1)

    until = HISTORY_HOURS + (-HISTORY_HOURS // DAY_HOURS) % 7 * DAY_HOURS + 20
    baseline = Baseline([week(h) for h in range(until)], width)
    ordinary = baseline.ordinary(0.0, baseline.end)
    assert ordinary is not None
    assert not ordinary.is_anomaly(
        sum(week(h) for h in range(until - width.hours + 1, until + 1)), standing=False
    )


@both
def test_a_week_of_history_is_needed(width: Width) -> None:
    """From the first amount on."""
    least = MIN_DAYS * DAY_HOURS + width.hours - 1
    for known, enough in ((least - 1, False), (least, True)):
        baseline = Baseline([0.0] * 500 + [1.0] * known, width)
        assert (baseline.ordinary(0.0, baseline.end) is not None) is enough
    assert Baseline([0.0] * 1000, width).ordinary(0.0, 0) is None


def test_a_steady_series_has_no_false_alarm_and_a_tripling_is_seen_within_two_hours() -> None:
    """Over a month each, of several seeds; see `python -m bench.alerts`."""
    found = measure(CLASSES[0], 3)
    assert found["false"] == 0
    assert found["tripled, seen"] == 1
    assert found["delay"] is not None
    assert found["delay"] <= 2


@pytest.mark.parametrize(("values", "middle"), [([], 0), ([3], 3), ([5, 1, 3], 3), ([4, 1, 3, 2], 2.5)])
def test_medians(values: list[float], middle: float) -> None:
    assert median(values) == middle
