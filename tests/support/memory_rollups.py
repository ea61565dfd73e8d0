"""The steps of rollups in memory, without sums: what is due is told, and what was done is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

from libs.errors import Unavailable
from services.analytics.rollups.state import HOUR, KEPT, RollupState, floor_hour

_BEGIN = datetime(2027, 1, 15, tzinfo=UTC)


class MemoryRollups:
    """Satisfies `Rollups`. `gone` makes it UNAVAILABLE; `differences` is what a check finds."""

    def __init__(self) -> None:
        self.marks = RollupState("UTC", _BEGIN, _BEGIN, _BEGIN - KEPT)
        self.gone = False
        self.differences: Mapping[str, int] | None = {}
        self.done: Counter[str] = Counter()

    async def state(self) -> RollupState:
        self._check()
        return self.marks

    async def change_zone(self, zone: str) -> bool:
        self._check()
        changed = zone != self.marks.zone
        self.marks = replace(self.marks, zone=zone)
        if changed:
            self.done["zone"] += 1
        return changed

    async def fold(self, now: float) -> bool:
        self._check()
        if (end := self.marks.hours_due(datetime.fromtimestamp(now, UTC))) is not None:
            self.marks = replace(self.marks, hours_until=end)
        elif (end := self.marks.days_due()) is not None:
            self.marks = replace(self.marks, days_until=end)
        else:
            return False
        self.done["fold"] += 1
        return True

    async def forget(self, now: float) -> bool:
        self._check()
        self.done["forget"] += 1
        return False

    async def rebuild(self, since: float | None = None, until: float | None = None) -> RollupState:
        self._check()
        start = _BEGIN - 3 * HOUR if since is None else floor_hour(datetime.fromtimestamp(since, UTC))
        self.marks = replace(self.marks, rebuild_next=start, rebuild_until=start + 3 * HOUR)
        return self.marks

    async def rebuild_step(self) -> bool:
        self._check()
        start, until = self.marks.rebuild_next, self.marks.rebuild_until
        if start is None or until is None:
            return False
        left = start + HOUR < until
        self.marks = replace(
            self.marks, rebuild_next=start + HOUR if left else None, rebuild_until=until if left else None
        )
        self.done["rebuild"] += 1
        return True

    async def check(self, rng: Random) -> Mapping[str, int] | None:
        self._check()
        return self.differences

    def _check(self) -> None:
        if self.gone:
            raise Unavailable("The ledger is gone", reason="LEDGER_UNAVAILABLE", retry_after=1.0)
