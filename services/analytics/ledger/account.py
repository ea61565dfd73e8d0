"""The account of a request: its record, and the attempts that were made for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.request import RequestRecord

#: Requests of one id that are looked at: a caller may use an id again and again.
MAX_ACCOUNTS = 20
#: Attempts of one id that are looked at.
MAX_ATTEMPTS = 1000
#: Records are kept to the microsecond, and a request's start is its end less its duration; seconds.
_TOLERANCE = 0.005


@dataclass(frozen=True, slots=True)
class Account:
    """A request and its attempts, the first first. `record` None: its router died before the request ended, it still
    runs, or an earlier version served it."""

    record: RequestRecord | None
    attempts: tuple[Attempt, ...]


class RequestLookup(Protocol):
    """Finds requests by id. Raises Unavailable while the store is gone."""

    async def by_request(self, request_id: str, tenant: str) -> list[Account]:
        """Returns the latest requests of an id, the latest first; `tenant` empty: of all tenants."""
        ...

    async def by_attempt(self, attempt_id: str) -> list[Account]:
        """Returns the request of which an attempt was a part; empty: there is no such attempt."""
        ...


def accounts_of(records: Sequence[RequestRecord], attempts: Sequence[Attempt]) -> list[Account]:
    """Returns the accounts of requests of one id, the latest first. An attempt belongs to the request of its tenant
    in whose time it began; those of no request that has a record are one account a tenant."""
    left = sorted(attempts, key=lambda attempt: (attempt.started, attempt.attempt_number))
    found = []
    for record in sorted(records, key=lambda record: record.started, reverse=True):
        mine = [attempt for attempt in left if _belongs(attempt, record)]
        left = [attempt for attempt in left if attempt not in mine]
        found.append((record.started, Account(record, tuple(mine))))
    for tenant in dict.fromkeys(attempt.tenant for attempt in left):
        orphans = tuple(attempt for attempt in left if attempt.tenant == tenant)
        found.append((orphans[-1].started, Account(None, orphans)))
    return [account for _, account in sorted(found, key=lambda pair: pair[0], reverse=True)]


def _belongs(attempt: Attempt, record: RequestRecord) -> bool:
    begin, end = record.started - _TOLERANCE, record.started + record.latency + _TOLERANCE
    return attempt.tenant == record.tenant and begin <= attempt.started <= end
