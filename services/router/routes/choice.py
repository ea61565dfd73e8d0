"""Chooses one of several routes by weight and headroom. Pure: chance is a parameter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from libs.answer import LimitState


def headroom(states: Iterable[LimitState]) -> float:
    """Returns the share of the scarcest limit that is left, 0 to 1; 1 where none is known."""
    shares = [max(0.0, state.remaining / state.limit) for state in states if state.limit > 0]
    return min(1.0, *shares) if shares else 1.0


def choose(weights: Sequence[int], rooms: Sequence[float], draw: float) -> int:
    """Returns the index of one of the routes, of which there is at least one: by its weight times its key's headroom.
    A route of weight 0 is chosen where no other has room; where none has, weight alone decides, and the limiter
    says no. `draw`: uniform, 0 to less than 1."""
    weighted = [weight * room for weight, room in zip(weights, rooms, strict=True)]
    for shares in (weighted, rooms, weights):
        sums = list(accumulate(shares))
        if sums[-1] > 0:
            point = draw * sums[-1]
            # Rounding may bring the point to the sum itself.
            return next((i for i, upto in enumerate(sums) if point < upto), shares.index(max(shares)))
    return int(draw * len(weights))
