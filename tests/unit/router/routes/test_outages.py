"""Places go out of service and come back by rule, whoever found out."""

from __future__ import annotations

from itertools import permutations
from random import Random

from libs.catalog.model import Provider
from libs.catalog.routes import ProviderKey
from libs.types import ErrorClass, RoutePart
from services.router.health.route_changes import Outage, Place
from services.router.routes.blame import Blame
from services.router.routes.outages import MOST, SPREAD, TRIAL, Outages, place_of

POOL = Provider("a", "openai_compatible", "http://a.test", keys=(ProviderKey("A"), ProviderKey("B")))
BY_A, BY_B = POOL.routes
KEY = Blame(RoutePart.KEY)
PLACE = place_of(BY_A, KEY)


def refuse(outages: Outages, now: float, began: float, blame: Blame = KEY) -> Outage | None:
    place = place_of(BY_A, blame)
    return outages.record_failure(now, began, place, blame, ErrorClass.AUTHENTICATION, "v1")


def test_growth_is_doubled_with_jitter_and_capped() -> None:
    """From a minute to an hour, within a fifth; an hour of service forgets it."""
    outages, now = Outages(Random(3)), 1000.0
    lengths = []
    for _ in range(9):
        outage = refuse(outages, now, now)
        assert outage is not None
        lengths.append(outage.until - outage.since)
        now = outage.until
    for length, nominal in zip(lengths, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600], strict=True):
        assert 0.8 * nominal <= length <= 1.2 * nominal
    assert len({round(length, 3) for length in lengths}) == len(lengths)
    assert outages.record_success(now, now, BY_A, "m")[0].until == 0.0
    again = refuse(outages, now + 3601, now + 3601)
    assert again is not None
    assert again.times == 1


def test_calls_from_before_say_no_more() -> None:
    """Those in flight when the key was refused neither lengthen its outage nor end it."""
    outages = Outages(Random(3))
    first = refuse(outages, 1000.0, 999.0)
    assert first is not None
    assert refuse(outages, 1001.0, 999.5) is None
    assert outages.record_success(1002.0, 999.9, BY_A, "m") == []
    assert outages.out(1003.0, BY_A, "m") == [first]
    outages.record_success(1100.0, 1099.0, BY_A, "m")
    assert refuse(outages, 1101.0, 1099.5) is None
    assert outages.out(1102.0, BY_A, "m") == []


def test_one_call_tries_at_a_time_and_a_lost_trial_gives_way() -> None:
    """While a trial runs the place is closed; one that was given up, or never ended, lets the next call try."""
    outages = Outages(Random(3))
    outage = refuse(outages, 1000.0, 1000.0)
    assert outage is not None
    due = outage.until
    assert outages.is_closed(due - 0.1, outage)
    assert not outages.is_closed(due, outage)
    outages.begin_trial(due, outage)
    assert outages.is_closed(due + TRIAL - 0.1, outage)
    assert not outages.is_closed(due + TRIAL, outage)
    outages.begin_trial(due, outage)
    outages.end_trials(BY_A, "m")
    assert not outages.is_closed(due, outage)


def test_another_key_is_not_concerned() -> None:
    """The one key alone is out, for all models or for one."""
    outages = Outages(Random(3))
    refuse(outages, 1000.0, 1000.0, Blame(RoutePart.KEY, "m"))
    assert outages.out(1001.0, BY_A, "m")
    assert not outages.out(1001.0, BY_A, "n")
    assert not outages.out(1001.0, BY_B, "m")


def test_a_limited_key_is_back_with_its_time() -> None:
    """Nobody has to try it."""
    outages = Outages(Random(3))
    limited = Blame(RoutePart.KEY, "m", 5.0)
    outages.record_failure(1000.0, 1000.0, place_of(BY_A, limited), limited, ErrorClass.RATE_LIMITED, "v1")
    assert outages.out(1004.9, BY_A, "m")
    assert not outages.out(1005.0, BY_A, "m")
    assert not outages.places


def test_changes_merge_in_any_order() -> None:
    """Of each place the latest change stays, whichever came last, and each counts once."""
    changes = [
        Outage(PLACE, ErrorClass.AUTHENTICATION, since, until, 1, "v1")
        for since, until in ((10.0, 70.0), (20.0, 0.0), (30.0, 100.0))
    ]
    for order in permutations(changes):
        outages = Outages(Random(3))
        taken = [outages.merge(40.0, change) for change in order]
        assert taken[order.index(changes[2])]
        assert not any(outages.merge(40.0, change) for change in order)
        (kept,) = outages.all_out()
        assert kept.since == 30.0
        assert 100.0 <= kept.until <= 100.0 + 60.0 * SPREAD


def test_memory_is_bounded() -> None:
    """The oldest places are forgotten first."""
    outages = Outages(Random(3))
    for number in range(MOST + 50):
        place = Place("a", RoutePart.KEY, f"K{number}")
        outages.record_failure(float(number), float(number), place, KEY, ErrorClass.AUTHENTICATION, "v")
    assert len(outages.all_out()) == MOST
    assert outages.all_out()[0].place.name == "K50"
