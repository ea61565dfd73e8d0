"""Reports from PostgreSQL: the marks of the rollups and all parts of an answer in one snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from libs.errors import FieldViolation, InvalidArgument
from services.analytics.database.postgres_database import Connection, Database
from services.analytics.reports.postgres_pieces import Statement
from services.analytics.reports.postgres_rows import (
    cost_report,
    performance_report,
    reliability_report,
)
from services.analytics.reports.postgres_statements import (
    cost_statement,
    costs_rolled_up,
    errors_statement,
    exact_quantiles,
    performance_rolled_up,
    performance_statement,
    quantiles_statement,
    reliability_rolled_up,
    reliability_statement,
)
from services.analytics.reports.query import Query
from services.analytics.reports.report import Basis, CostReport, PerformanceReport, ReliabilityReport
from services.analytics.reports.sources import Piece, plan_pieces
from services.analytics.rollups.postgres_rollups import read_state
from services.analytics.rollups.state import RollupState


class PostgresReports:
    """Satisfies `Reports`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def costs(self, query: Query) -> CostReport:
        """See the port."""
        async with self._snapshot() as (connection, state):
            pieces = plan_pieces(query, state, rolled_up=costs_rolled_up(query))
            rows = await _fetch(connection, cost_statement(query, pieces))
        return cost_report(query, rows, _basis(state, pieces))

    async def performance(self, query: Query) -> PerformanceReport:
        """See the port."""
        async with self._snapshot() as (connection, state):
            pieces = plan_pieces(query, state, rolled_up=performance_rolled_up(query))
            rows = await _fetch(connection, performance_statement(query, pieces))
            quantiles = await _fetch(connection, quantiles_statement(query, pieces))
        exact = exact_quantiles(pieces)
        return performance_report(query, rows, quantiles, _basis(state, pieces), exact=exact)

    async def reliability(self, query: Query) -> ReliabilityReport:
        """See the port."""
        async with self._snapshot() as (connection, state):
            pieces = plan_pieces(query, state, rolled_up=reliability_rolled_up(query))
            rows = await _fetch(connection, reliability_statement(query, pieces))
            errors = await _fetch(connection, errors_statement(query, pieces))
        return reliability_report(query, rows, errors, _basis(state, pieces))

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[tuple[Connection, RollupState]]:
        async with (
            self._database.reading() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection, await read_state(connection)


def _basis(state: RollupState, pieces: Sequence[Piece]) -> Basis:
    return Basis(
        frozenset(piece.source for piece in pieces),
        None if state.last_commit is None else state.last_commit.timestamp(),
        state.last_lag,
    )


async def _fetch(connection: Connection, statement: Statement) -> list[asyncpg.Record]:
    try:
        return await connection.fetch(statement.sql, *statement.parameters)
    except asyncpg.InvalidParameterValueError as error:
        # Zone names come from Python's list; the server has its own, perhaps older.
        raise InvalidArgument([FieldViolation("query.time_zone", "is not known to the database")]) from error
