"""Changes in memory, and one to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from libs.change import Change
from services.analytics.changes.store import ChangeFilter, ChangePlace
from tests.support.ledger import NOW

A_CHANGE = Change("c1", "mode", "acme", 1, NOW, "ann", "too dear", "", '{"mode":"blocked"}')


class MemoryChanges:
    """Satisfies `ChangeStore`."""

    def __init__(self) -> None:
        self._kept: dict[str, Change] = {}

    async def record(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._kept.setdefault(change.change_id, change)

    async def find(self, choice: ChangeFilter, most: int, after: ChangePlace | None = None) -> list[Change]:
        found = list(self._kept.values())
        if choice.standing:
            standing: dict[tuple[str, str], Change] = {}
            for change in sorted(found, key=lambda c: c.order):
                standing[change.thing] = change
            found = list(standing.values())
        place = None if after is None else (after.at, after.change_id)
        found = [
            c
            for c in found
            if choice.change_id in ("", c.change_id)
            and choice.kind in ("", c.kind)
            and choice.name in ("", c.name)
            and (choice.since is None or c.at >= choice.since)
            and (place is None or (round(c.at * 1e6), c.change_id) < place)
        ]
        return sorted(found, key=lambda c: (c.at, c.change_id), reverse=True)[:most]


def later(change: Change, change_id: str, seconds: float = 1.0, **fields: object) -> Change:
    """Returns the next change of the same thing."""
    following = {"version": change.version + 1, "at": change.at + seconds, "before": change.after}
    return replace(change, change_id=change_id, **{**following, **fields})  # type: ignore[arg-type]
