"""The spool as an attempt needs it."""

from __future__ import annotations

from typing import Protocol

from services.router.ledger.usage_record import UsageRecord


class UsageSpool(Protocol):
    """The ledger's doorstep: what is handed over here survives a crash of this process."""

    def begin(self, record: UsageRecord) -> None:
        """Before a call: if its end is never seen, this record stands (outcome unknown, usage uncertain)."""
        ...

    def end(self, record: UsageRecord) -> None:
        """After it, in the same attempt_id."""
        ...
