"""The lease by which one replica does something alone."""

from __future__ import annotations

from typing import Protocol


class Leases(Protocol):
    """Leases by name, of one holder at a time. Raises Unavailable while the store is gone."""

    async def hold(self, name: str, holder: str, now: float, seconds: float) -> bool:
        """Takes or extends a lease until `now` (epoch seconds) plus `seconds`. Returns False while another has it."""
        ...
