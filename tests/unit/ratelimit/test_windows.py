"""Calendar windows in time zones."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.limits import Period
from services.ratelimit.domain.windows import windows

HOUR = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def test_daily_totals_are_not_cut_in_utc_where_the_owner_lives_elsewhere() -> None:
    """Named regression: a day in Los Angeles begins at 8:00 UTC in winter."""
    found = windows(Period.DAY, "America/Los_Angeles", ms("2026-12-01T05:00:00+00:00"))
    assert (found.start, found.middle) == (ms("2026-11-30T08:00:00+00:00"), ms("2026-12-01T08:00:00+00:00"))


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2026-03-29T12:00:00+02:00", 23), ("2026-10-25T12:00:00+01:00", 25), ("2026-07-01", 24)],
)
def test_days_with_a_change_of_clocks_have_23_or_25_hours(day: str, hours: int) -> None:
    """In Berlin."""
    found = windows(Period.DAY, "Europe/Berlin", ms(day))
    assert found.middle - found.start == hours * HOUR


def test_a_midnight_that_the_clocks_skip() -> None:
    """Santiago went from 23:59:59 to 1:00: the day begins there, with 23 hours."""
    found = windows(Period.DAY, "America/Santiago", ms("2026-09-06T12:00:00-03:00"))
    assert found.start == ms("2026-09-06T01:00:00-03:00")
    assert found.middle - found.start == 23 * HOUR


def test_a_midnight_that_comes_twice() -> None:
    """Havana turns back at 1:00 to 0:00: one day, which begins at the first midnight, with 25 hours."""
    first, second = ms("2026-11-01T00:30:00-04:00"), ms("2026-11-01T00:30:00-05:00")
    assert windows(Period.DAY, "America/Havana", first) == windows(Period.DAY, "America/Havana", second)
    found = windows(Period.DAY, "America/Havana", first)
    assert found.middle - found.start == 25 * HOUR


def test_a_day_that_did_not_happen() -> None:
    """Samoa skipped 30 December 2011: the 29th is followed by the 31st."""
    found = windows(Period.DAY, "Pacific/Apia", ms("2011-12-31T12:00:00+14:00"))
    assert found.start == ms("2011-12-30T10:00:00+00:00")
    assert found.middle - found.start == 24 * HOUR


def test_months_follow_each_other() -> None:
    """February of a leap year in Kathmandu (+5:45)."""
    found = windows(Period.MONTH, "Asia/Kathmandu", ms("2028-02-29T23:59:59+05:45"))
    assert found.start == ms("2028-02-01T00:00:00+05:45")
    assert found.middle == ms("2028-03-01T00:00:00+05:45")
    assert found.end == ms("2028-04-01T00:00:00+05:45")


@given(
    zone=st.sampled_from(sorted(available_timezones() - {"localtime"})),
    now=st.integers(ms("1995-01-01T00:00:00+00:00"), ms("2037-01-01T00:00:00+00:00")),
    period=st.sampled_from([Period.DAY, Period.MONTH]),
)
def test_windows_hold_their_instant_and_join(zone: str, now: int, period: Period) -> None:
    """In every zone: [start, middle) holds the instant, is what its first and last instant get too, and belongs to
    one local day or month."""
    found = windows(period, zone, now)
    assert found.start <= now < found.middle <= found.end
    assert windows(period, zone, found.start).start == found.start
    assert windows(period, zone, found.middle - 1) == found
    assert windows(period, zone, found.middle).start == found.middle
    local = [
        datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).date() for at in (found.start, found.middle - 1)
    ]
    if period is Period.DAY:
        assert local[1] - local[0] <= timedelta(days=1)
    else:
        assert (local[0].year, local[0].month) == (local[1].year, local[1].month)
