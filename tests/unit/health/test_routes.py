"""Changes of keys and endpoints are passed on from router to router."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.types import ErrorClass, RoutePart
from services.health.domain.published import PublishedStates
from services.health.domain.routes import MOST_ROUTES, RouteBoard, RouteChange
from tests.support.clock import ManualClock
from tests.support.health import FakeHealthStore, Hub, Replica

REFUSED = RouteChange("acme", RoutePart.KEY, "KEY", "", ErrorClass.AUTHENTICATION, 100.0, 160.0, 1, "abc")
BACK = replace(REFUSED, since=170.0, until=0.0)


def test_of_each_place_the_latest_change_stays() -> None:
    """Whatever the order, and each is published once."""
    board = RouteBoard()
    assert board.take([BACK], 1) == [BACK]
    assert board.take([REFUSED, BACK], 2) == []
    other = replace(REFUSED, model="m")
    assert board.take([other], 3) == [other]
    assert board.since(-1) == (BACK, other)
    assert board.since(1) == (other,)
    assert board.since(3) == ()


def test_a_watcher_is_told_what_it_has_not_seen() -> None:
    """All with a snapshot, then the changes alone."""
    published = PublishedStates("e")
    published.publish_routes([REFUSED])
    assert published.since("", 0).routes == (REFUSED,)
    version = published.version
    assert published.publish_routes([REFUSED]) == []
    assert published.version == version
    published.publish_routes([BACK])
    assert published.since("e", version).routes == (BACK,)
    assert published.since("e", published.version).routes == ()


def test_the_board_is_bounded() -> None:
    """The oldest changes are forgotten first."""
    board = RouteBoard()
    board.take([replace(REFUSED, name=f"K{number}") for number in range(MOST_ROUTES + 5)], 1)
    kept = board.since(-1)
    assert len(kept) == MOST_ROUTES
    assert kept[0].name == "K5"


async def test_what_one_replica_is_told_all_publish() -> None:
    """By way of the store, once, and nothing is judged by it; providers that the catalog lacks are ignored."""
    clock = ManualClock()
    hub = Hub(clock)
    one, two = (Replica(clock, FakeHealthStore(hub, name), name=name) for name in "ab")
    before = two.state("acme").status
    one.judge.record_routes([REFUSED, replace(REFUSED, provider="nobody")])
    for replica in (one, two, one, two):
        await replica.sharer.exchange()
    for replica in (one, two):
        assert replica.published.since("", 0).routes == (REFUSED,)
    version = two.published.version
    for replica in (one, two, one, two):
        await replica.sharer.exchange()
    assert two.published.version == version
    assert two.state("acme").status is before


@pytest.mark.parametrize(
    "wrong",
    [
        {"provider": ""},
        {"name": ""},
        {"name": "k" * 257},
        {"key_version": "v" * 257},
        {"since": 0.0},
        {"since": float("nan")},
        {"until": float("inf")},
        {"until": -1.0},
        {"times": 0},
        {"times": 10**7},
    ],
)
def test_impossible_changes_are_refused(wrong: dict[str, object]) -> None:
    """Each raises ValueError, which the door turns into the name of the field."""
    with pytest.raises(ValueError, match=r"names|times|since"):
        replace(REFUSED, **wrong)  # type: ignore[arg-type]
