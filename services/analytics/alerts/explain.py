"""Explains a change: which value of which dimension moved, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.analytics.alerts.alert import Mover

#: Movers that are told, and the part of the change from which one is.
MOST_MOVERS: Final = 3
LEAST_SHARE: Final = 0.2


def explain(
    now: Mapping[str, Mapping[str, float]], expected: Mapping[str, Mapping[str, float]]
) -> tuple[Mover, ...]:
    """Returns what moved, one value a dimension: that with the largest part of the change. First the one whose part
    of the change exceeds most what it had of the whole before: a model that had 5 % and is all of the rise tells
    more than a provider that had everything and is. `now` and `expected`: amounts by dimension and value; every
    dimension adds up to the same change. Without a rise there is no mover."""
    found = []
    for dimension, amounts in now.items():
        before = expected.get(dimension, {})
        values = amounts.keys() | before.keys()
        changes = {value: amounts.get(value, 0.0) - before.get(value, 0.0) for value in values}
        whole = sum(changes.values())
        if whole <= 0:
            continue
        # Of equal changes the first by name, so that replicas say the same.
        value = min(values, key=lambda value: (-changes[value], value))
        share, had = changes[value] / whole, before.get(value, 0.0) / (sum(before.values()) or 1.0)
        mover = Mover(
            dimension,
            value,
            round(amounts.get(value, 0.0)),
            round(before.get(value, 0.0)),
            round(share, 3),
        )
        found.append((len(values) == 1, -(share - had), mover))
    # A dimension with a single value says nothing unless there is no other; of equals the one that was named first.
    found.sort(key=lambda one: one[:2])
    several = [mover for single, _, mover in found if not single and mover.share >= LEAST_SHARE]
    return tuple(several[:MOST_MOVERS] or [mover for _, _, mover in found[:1]])
