"""Reports from PostgreSQL: one statement per question."""

from __future__ import annotations

import asyncpg

from libs.errors import FieldViolation, InvalidArgument
from services.analytics.database.postgres_database import Database
from services.analytics.reports.postgres_statements import (
    Statement,
    cost_report,
    cost_statement,
    performance_rows,
    performance_statement,
    reliability_rows,
    reliability_statement,
)
from services.analytics.reports.query import Query
from services.analytics.reports.report import CostReport, PerformanceRow, ReliabilityRow


class PostgresReports:
    """Satisfies `Reports`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def costs(self, query: Query) -> CostReport:
        """See the port."""
        return cost_report(query, await self._fetch(cost_statement(query)))

    async def performance(self, query: Query) -> tuple[PerformanceRow, ...]:
        """See the port."""
        return performance_rows(query, await self._fetch(performance_statement(query)))

    async def reliability(self, query: Query) -> tuple[ReliabilityRow, ...]:
        """See the port."""
        return reliability_rows(query, await self._fetch(reliability_statement(query)))

    async def _fetch(self, statement: Statement) -> list[asyncpg.Record]:
        async with self._database.reading() as connection:
            try:
                return await connection.fetch(statement.sql, *statement.parameters)
            except asyncpg.InvalidParameterValueError as error:
                # Zone names come from Python's list; the server has its own, perhaps older.
                raise InvalidArgument(
                    [FieldViolation("query.time_zone", "is not known to the database")]
                ) from error
