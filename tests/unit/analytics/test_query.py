"""Queries out of bounds are refused, and buckets are counted."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidArgument
from services.analytics.reports.query import (
    MAX_BUCKETS,
    MAX_INSTANT,
    GroupBy,
    Interval,
    Query,
    count_buckets,
    default_range,
)
from tests.support.ledger import NOW

FILTERS = ["tenant", "provider", "model", "content_type", "campaign"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"since": NOW, "until": NOW}, ["query.to_time"]),
        ({"since": NOW, "until": NOW - 1}, ["query.to_time"]),
        ({"since": 0.0, "until": 1e-7}, ["query.to_time"]),
        ({"since": -1.0}, ["query.from_time"]),
        ({"until": MAX_INSTANT + 1}, ["query.to_time"]),
        ({"since": math.nan, "until": math.inf}, ["query.from_time", "query.to_time"]),
        ({"group_by": tuple(GroupBy)[:4]}, ["query.group_by"]),
        ({"group_by": (GroupBy.TENANT, GroupBy.TENANT)}, ["query.group_by"]),
        *[({name: value}, [f"query.{name}"]) for name in FILTERS for value in ("x" * 129, "a\0")],
        *[({"time_zone": zone}, ["query.time_zone"])
          for zone in ("", "Mars/Olympus", "../../etc/passwd", "Europe", "a\0b", "x" * 5000, "/etc/localtime")],
        ({"since": NOW - 2000 * 60, "interval": Interval.MINUTE}, ["query.interval"]),
        ({"since": 0.0, "interval": Interval.DAY}, ["query.interval"]),
        ({"since": NOW, "until": NOW, "time_zone": "x", "tenant": "\0"},
         ["query.to_time", "query.tenant", "query.time_zone"]),
    ],
)  # fmt: skip
def test_wrong_questions_name_every_wrong_field(fields: dict[str, Any], named: list[str]) -> None:
    """All faults at once, by their path in the request."""
    with pytest.raises(InvalidArgument) as refusal:
        Query(**{"since": NOW - 60, "until": NOW, **fields})
    assert [violation.field for violation in refusal.value.violations] == named


def test_the_widest_questions_are_allowed() -> None:
    """2000 minutes, 130 years of months, three dimensions."""
    Query(NOW - 1999 * 60, NOW, interval=Interval.MINUTE)
    Query(
        0.0, datetime(2130, 1, 1, tzinfo=UTC).timestamp(), interval=Interval.MONTH, time_zone="Asia/Kathmandu"
    )
    Query(0.0, MAX_INSTANT, (GroupBy.TENANT, GroupBy.MODEL, GroupBy.ERROR_CLASS))


def test_the_default_range_is_the_last_day() -> None:
    """Unset ends are now and 24 hours before the end, never before 1970."""
    assert default_range(NOW, None, None) == (NOW - 86_400, NOW)
    assert default_range(NOW, None, 1000.0) == (0.0, 1000.0)
    assert default_range(NOW, 5.0, None) == (5.0, NOW)


ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Apia", "America/New_York"]


@given(
    st.floats(MAX_INSTANT / 8, MAX_INSTANT / 4),
    st.floats(1, 40 * 86_400),
    st.sampled_from([Interval.HOUR, Interval.DAY, Interval.MONTH]),
    st.sampled_from(ZONES),
)
def test_the_bucket_count_is_never_too_low(since: float, width: float, interval: Interval, zone: str) -> None:
    """The bound counts at least the buckets that instants of the range fall into, and little more."""
    where = ZoneInfo(zone)
    steps = [*(since + width * i / 200 for i in range(200)), since + width - 1e-3]
    sizes = {Interval.HOUR: 13, Interval.DAY: 10, Interval.MONTH: 7}
    touched = {
        datetime.fromtimestamp(max(since, step), where).isoformat()[: sizes[interval]] for step in steps
    }
    counted = count_buckets(since, since + width, interval, where)
    assert len(touched) <= counted
    if interval is not Interval.HOUR:
        assert counted <= math.ceil(width / 86_400) + 2
    assert MAX_BUCKETS == 2000
