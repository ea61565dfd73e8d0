"""The port of the store of changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from libs.change import Change


class ChangeFilter(Struct, frozen=True):
    """The changes that are asked for; empty and None: whatever it is. `since`: epoch seconds; `standing`: only the
    one of each thing that stands."""

    change_id: str = ""
    kind: str = ""
    name: str = ""
    since: float | None = None
    standing: bool = False


class ChangePlace(Struct, frozen=True, array_like=True):
    """A place in a list of changes: `at` in microseconds since the epoch."""

    at: int
    change_id: str


class ChangeStore(Protocol):
    """Keeps changes. All methods raise Unavailable while the store is gone."""

    async def record(self, changes: Sequence[Change]) -> None:
        """Keeps them, all or none; one whose id is kept already stays as it is."""
        ...

    async def find(self, choice: ChangeFilter, most: int, after: ChangePlace | None = None) -> list[Change]:
        """Returns at most `most` changes behind `after`, the latest first."""
        ...
