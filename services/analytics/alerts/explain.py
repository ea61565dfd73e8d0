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
    """Returns what moved most, the largest part first. `now` and `expected`: amounts by dimension and value; every
    dimension adds up to the same change. One value a dimension: the others' parts would be told twice. Without a rise
    there is no mover."""
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
        found.append(
            Mover(
                dimension,
                value,
                round(amounts.get(value, 0.0)),
                round(before.get(value, 0.0)),
                round(changes[value] / whole, 3),
            )
        )
    # The dimension that explains most first; the sort is stable, so of equals the one that was named first.
    found.sort(key=lambda mover: -mover.share)
    return tuple([m for i, m in enumerate(found) if not i or m.share >= LEAST_SHARE][:MOST_MOVERS])
