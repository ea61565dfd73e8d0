"""Finds requests by id in PostgreSQL."""

from __future__ import annotations

from services.analytics.database.postgres_database import Connection, Database
from services.analytics.ledger.account import MAX_ACCOUNTS, MAX_ATTEMPTS, Account, accounts_of
from services.analytics.ledger.postgres_attempts import COLUMNS, attempt_of
from services.analytics.ledger.postgres_requests import REQUEST_COLUMNS, request_of

_ATTEMPTS = f"""
    SELECT {", ".join(name for name, _, _ in COLUMNS)} FROM analytics.attempts
    WHERE request_id = $1 AND ($2 = '' OR tenant = $2) ORDER BY started DESC LIMIT {MAX_ATTEMPTS}
"""  # noqa: S608  # made of constants
_REQUESTS = f"""
    SELECT {", ".join(name for name, _, _ in REQUEST_COLUMNS)} FROM analytics.requests
    WHERE request_id = $1 AND ($2 = '' OR tenant = $2) ORDER BY started DESC LIMIT {MAX_ACCOUNTS}
"""  # noqa: S608


class PostgresLookup:
    """Satisfies `RequestLookup`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_request(self, request_id: str, tenant: str) -> list[Account]:
        """See the port."""
        async with self._database.reading() as connection:
            return (await _accounts(connection, request_id, tenant))[:MAX_ACCOUNTS]

    async def by_attempt(self, attempt_id: str) -> list[Account]:
        """See the port."""
        async with self._database.reading() as connection:
            row = await connection.fetchrow(
                "SELECT request_id, tenant FROM analytics.attempts WHERE attempt_id = $1", attempt_id
            )
            if row is None:
                return []
            found = await _accounts(connection, row["request_id"], row["tenant"])
        return [a for a in found if any(attempt.attempt_id == attempt_id for attempt in a.attempts)]


async def _accounts(connection: Connection, request_id: str, tenant: str) -> list[Account]:
    records = [request_of(row) for row in await connection.fetch(_REQUESTS, request_id, tenant)]
    attempts = [attempt_of(row) for row in await connection.fetch(_ATTEMPTS, request_id, tenant)]
    return accounts_of(records, attempts)
