"""Limits are refused where they cannot be counted exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.catalog.limits import LimitSpec
from libs.errors import InvalidArgument
from libs.limits import MAX_BUCKET, MAX_COUNTER, Amounts, LimitKey, Period, Unit, by_unit, scope_of
from services.ratelimit.adapters.catalog_limits import limit_of
from services.ratelimit.domain.limits import (
    MAX_AMOUNT,
    Limit,
    check_amounts,
    check_ids,
    check_scopes,
    key_of,
)
from services.ratelimit.learning.learned import Learned, Source, apply
from tests.support.limits import limit


@pytest.mark.parametrize(
    ("unit", "period", "amount", "burst"),
    [
        ("requests", "minute", -1, None),
        ("requests", "minute", MAX_BUCKET + 1, None),
        ("requests", "minute", 2**63 - 1, None),
        ("requests", "minute", 10, 0),
        ("requests", "minute", 10, -5),
        ("requests", "minute", 10, MAX_BUCKET + 1),
        ("micro_usd", "day", MAX_COUNTER + 1, None),
        ("micro_usd", "day", 10, 5),
        ("concurrency", "", -1, None),
    ],
)
def test_limits_beyond_their_bounds_are_refused(
    unit: str, period: str, amount: int, burst: int | None
) -> None:
    """Negative, overflowing, or with a burst where there is none."""
    with pytest.raises(InvalidArgument):
        limit(unit, period, amount, burst=burst)


def test_a_limit_says_which_fields_are_wrong() -> None:
    """All of them at once."""
    with pytest.raises(InvalidArgument) as caught:
        limit("requests", "minute", -1, burst=-1, time_zone="Mars/Olympus")
    assert [v.field for v in caught.value.violations] == ["limit", "burst", "time_zone"]


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "Europe", "utc\0"])
def test_time_zones_must_exist(zone: str) -> None:
    """And are never read from elsewhere."""
    with pytest.raises(InvalidArgument):
        limit("requests", "day", 1, time_zone=zone)


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "acme",
        "tenant:",
        "planet:mars",
        "tenant:a\x00",
        "tenant:" + "x" * 201,
        "tenant:a\n",
        "tenant:a\nb",
    ],
)
def test_unknown_scopes_are_refused(scope: str) -> None:
    """By kind and by form."""
    with pytest.raises(InvalidArgument):
        check_scopes([scope])
    with pytest.raises(InvalidArgument):
        key_of(scope, Unit.REQUESTS.number, Period.MINUTE.number)


def test_scopes_are_1_to_16_and_counted_once() -> None:
    """A scope named twice is charged once."""
    assert check_scopes(["tenant:a", "model:p/m", "tenant:a"]) == (
        scope_of("tenant:a"),
        scope_of("model:p/m"),
    )
    for count in (0, 17):
        with pytest.raises(InvalidArgument):
            check_scopes([f"tenant:{i}" for i in range(count)])


def test_concurrency_has_no_period_and_the_others_have_one() -> None:
    """Both ways round."""
    for unit, period in ((Unit.CONCURRENCY, Period.MINUTE), (Unit.REQUESTS, Period.NONE)):
        with pytest.raises(InvalidArgument):
            key_of("tenant:a", unit.number, period.number)


@pytest.mark.parametrize("value", [-1, MAX_AMOUNT + 1, 2**62])
def test_amounts_are_bounded(value: int) -> None:
    """Each names its field."""
    with pytest.raises(InvalidArgument) as caught:
        check_amounts(Amounts(micro_usd=value))
    assert [v.field for v in caught.value.violations] == ["micro_usd"]


@pytest.mark.parametrize("value", ["", "x" * 129, "a b", "a\nb", "é"])
def test_ids_are_printable_and_short(value: str) -> None:
    """They become part of keys and records."""
    with pytest.raises(InvalidArgument):
        check_ids({"id": value})


def test_total_tokens_count_prompt_and_answer() -> None:
    """And requests count as concurrency."""
    amounts = Amounts(2, 3, 4, 5)
    assert [by_unit(amounts)[unit] for unit in Unit] == [2, 3, 4, 7, 2, 5]


def test_a_limit_of_zero_has_no_burst() -> None:
    """It admits nothing, whatever the burst."""
    key = LimitKey(scope_of("tenant:a"), Unit.REQUESTS, Period.MINUTE)
    assert Limit(key, 0, burst=10).capacity == 0
    assert Limit(key, 5, burst=10).capacity == 10
    assert Limit(key, 5).capacity == 5


def test_only_buckets_are_paced() -> None:
    """Nothing else refills while somebody waits."""
    assert Limit(LimitKey(scope_of("tenant:a"), Unit.REQUESTS, Period.SECOND), 1, pace=True).pace
    for key in (
        LimitKey(scope_of("tenant:a"), Unit.REQUESTS, Period.DAY),
        LimitKey(scope_of("tenant:a"), Unit.CONCURRENCY, Period.NONE),
    ):
        with pytest.raises(InvalidArgument) as caught:
            Limit(key, 1, pace=True)
        assert [v.field for v in caught.value.violations] == ["pace"]


def test_what_the_catalog_paces_is_paced() -> None:
    """And what it does not is not."""
    paced = LimitSpec(Unit.REQUESTS, Period.MINUTE, 60, burst=1, pace=True)
    assert limit_of(scope_of("tenant:a"), "UTC", paced).pace
    assert not limit_of(scope_of("tenant:a"), "UTC", replace(paced, pace=False)).pace


def test_a_paced_limit_that_is_capped_by_what_was_learned_stays_paced() -> None:
    """The provider says how much, the catalog how to refuse."""
    key = LimitKey(scope_of("model:a/m"), Unit.REQUESTS, Period.MINUTE)
    word = Learned(100, 1.0, Source.HEADERS, 0.0, 5)
    held = apply({key: Limit(key, 1000, pace=True)}, {key: word}, {}, share=0.95, enforce=True)
    assert held == {key: Limit(key, 95, pace=True)}


@pytest.mark.parametrize(
    "scope", ["campaign:acme/black friday", "campaign:acme/été", "tenant_content:a/blog"]
)
def test_names_of_scopes_may_hold_spaces_and_letters_of_any_language(scope: str) -> None:
    """Campaigns are named by people."""
    assert str(LimitKey(scope_of(scope), Unit.REQUESTS, Period.DAY)) == f"{scope} requests day"


def test_concurrency_is_as_much_as_requests_unless_said() -> None:
    """A lease for many requests a second needs few slots."""
    assert by_unit(Amounts(7))[Unit.CONCURRENCY] == 7
    assert by_unit(Amounts(7, concurrency=2))[Unit.CONCURRENCY] == 2
    assert by_unit(Amounts(7, concurrency=0))[Unit.CONCURRENCY] == 0
    assert Amounts(1, concurrency=3).most(Amounts(9, concurrency=2)) == Amounts(9, concurrency=3)
    with pytest.raises(InvalidArgument):
        check_amounts(Amounts(1, concurrency=-1))
