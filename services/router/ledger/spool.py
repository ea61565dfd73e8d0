"""The spool as an attempt needs it."""

from __future__ import annotations

from typing import Protocol

from libs.request_record import RequestRecord
from services.router.ledger.usage_record import UsageRecord


class UsageSpool(Protocol):
    """The spool of usage records: a record that is handed over survives a crash of this process."""

    def begin(self, record: UsageRecord) -> None:
        """Keeps the record of a call before it is made: if its end is never seen, this one stands (outcome unknown,
        usage uncertain)."""
        ...

    def end(self, record: UsageRecord) -> None:
        """Keeps the record of the same attempt_id after the call; it replaces the first."""
        ...

    def add_request(self, record: RequestRecord) -> None:
        """Keeps the record of a request that has ended."""
        ...
