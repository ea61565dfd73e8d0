"""Routes are chosen by weight and headroom."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from libs.answer import LimitState
from libs.limits import Period, Unit
from services.router.routes.choice import choose, headroom


def state(remaining: int, limit: int = 100) -> LimitState:
    return LimitState(Unit.REQUESTS, Period.MINUTE, limit, remaining)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((), 1.0),
        ((state(100),), 1.0),
        ((state(25), state(50)), 0.25),
        ((state(0),), 0.0),
        ((state(-5),), 0.0),
        ((state(120),), 1.0),
        ((state(0, limit=0),), 1.0),
    ],
)
def test_headroom_is_the_scarcest_limits(states: tuple[LimitState, ...], expected: float) -> None:
    """From 0 to 1, and all of it where nothing is known."""
    assert headroom(states) == expected


@pytest.mark.parametrize(
    ("weights", "rooms", "shares"),
    [
        ([1], [1.0], [1.0]),
        ([1, 3], [1.0, 1.0], [0.25, 0.75]),
        ([1, 3], [1.0, 1 / 3], [0.5, 0.5]),
        ([1, 0], [1.0, 1.0], [1.0, 0.0]),
        # Who has no room is not asked while a standby has.
        ([1, 0], [0.0, 1.0], [0.0, 1.0]),
        # Without room anywhere, weight decides.
        ([1, 3], [0.0, 0.0], [0.25, 0.75]),
        ([0, 0], [0.0, 0.0], [0.5, 0.5]),
        ([0, 0], [1.0, 1.0], [0.5, 0.5]),
    ],
)
def test_shares(weights: list[int], rooms: list[float], shares: list[float]) -> None:
    """Over many draws each gets its share, and none that has none."""
    rng = Random(5)
    counts = Counter(choose(weights, rooms, rng.random()) for _ in range(4000))
    for index, share in enumerate(shares):
        assert counts[index] / 4000 == pytest.approx(share, abs=0.03)
        assert share or not counts[index]


def test_every_draw_names_a_route() -> None:
    """Also the largest, whatever rounding makes of the sum."""
    for weights in ([1] * 7, [3, 1, 1_000_000], [0, 1]):
        assert choose(weights, [0.1] * len(weights), 1 - 2**-53) in range(len(weights))
