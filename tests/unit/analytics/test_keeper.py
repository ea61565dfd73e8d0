"""The keeper of the rollups does what is due and tells what it finds."""

from __future__ import annotations

from random import Random

import pytest

from libs.errors import Unavailable
from libs.telemetry import Metrics
from services.analytics.rollups.keeper import RollupKeeper
from tests.support.clock import ManualClock
from tests.support.memory_rollups import MemoryRollups


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"pointsman_analytics_{name}", labels)


def a_keeper(rollups: MemoryRollups, metrics: Metrics, zone: str = "UTC") -> RollupKeeper:
    return RollupKeeper(rollups, zone, ManualClock(), Random(1), metrics)


async def test_a_round_rebuilds_and_folds_all_that_is_due() -> None:
    """ManualClock begins at 08:00, so seven hours and the day so far are over and settled."""
    rollups, metrics = MemoryRollups(), Metrics()
    await rollups.rebuild()
    await a_keeper(rollups, metrics).keep()
    assert rollups.done == {"fold": 8, "rebuild": 3, "forget": 1}
    assert (rollups.marks.hours_until.hour, rollups.marks.days_until.hour) == (7, 7)
    assert value(metrics, "rollup_rebuild_hours") == 0
    assert value(metrics, "rollup_behind_seconds") == 3600


async def test_the_owners_zone_is_taken_over_once() -> None:
    """Of two replicas with another zone while one is replaced, the older does not take its own back."""
    rollups, metrics = MemoryRollups(), Metrics()
    old, new = a_keeper(rollups, metrics), a_keeper(rollups, metrics, "Europe/Berlin")
    for keeper in (old, new, old):
        await keeper.keep()
    assert (rollups.marks.zone, rollups.done["zone"]) == ("Europe/Berlin", 1)


async def test_a_difference_is_a_metric() -> None:
    """By table, until a later check finds none; a stretch that could not be checked changes nothing."""
    rollups, metrics = MemoryRollups(), Metrics()
    keeper = a_keeper(rollups, metrics)
    for differences, told, checks in (({"t": 2}, 2, 1), (None, 2, 1), ({"t": 0}, 0, 2)):
        rollups.differences = differences
        await keeper.keep()
        assert value(metrics, "rollup_difference", table="t") == told
        assert value(metrics, "rollup_checks_total") == checks


async def test_a_store_that_is_gone_is_told() -> None:
    """`run` tries again in the next round; nothing is swallowed in between."""
    rollups = MemoryRollups()
    rollups.gone = True
    with pytest.raises(Unavailable):
        await a_keeper(rollups, Metrics()).keep()
