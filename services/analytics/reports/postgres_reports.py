"""Reports from PostgreSQL: the marks of the rollups and all parts of an answer in one snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from libs.errors import FieldViolation, InvalidArgument
from services.analytics.database.postgres_database import Connection, Database
from services.analytics.reports.postgres_failovers import failover_piece, failover_report, failover_statement
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
from services.analytics.reports.report import (
    Basis,
    CostReport,
    FailoverReport,
    PerformanceReport,
    ReliabilityReport,
)
from services.analytics.reports.sources import Piece, plan_pieces
from services.analytics.rollups.postgres_rollups import read_state
from services.analytics.rollups.state import RollupState


class PostgresReports:
    """Satisfies `Reports`, `FailoverReports` and `ReportSnapshots`: without a snapshot each answer is as of its own
    moment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def costs(self, query: Query, *, dearest: int | None = None) -> CostReport:
        """See the port."""
        async with self.snapshot() as reports:
            return await reports.costs(query, dearest=dearest)

    async def performance(self, query: Query) -> PerformanceReport:
        """See the port."""
        async with self.snapshot() as reports:
            return await reports.performance(query)

    async def reliability(self, query: Query) -> ReliabilityReport:
        """See the port."""
        async with self.snapshot() as reports:
            return await reports.reliability(query)

    async def failovers(self, query: Query) -> FailoverReport:
        """See the port."""
        piece = failover_piece(query)
        async with self.snapshot() as reports:
            return await reports.failovers(query, piece)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgresSnapshot]:
        """See the port."""
        async with (
            self._database.reading() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield PostgresSnapshot(connection, await read_state(connection))


class PostgresSnapshot:
    """Satisfies `ReportSnapshot`, within a transaction whose marks are `state`."""

    def __init__(self, connection: Connection, state: RollupState) -> None:
        self._connection = connection
        self._state = state

    @property
    def last_commit(self) -> float | None:
        """See the port."""
        return _last_commit(self._state)

    async def costs(self, query: Query, *, dearest: int | None = None) -> CostReport:
        """See the port."""
        pieces = plan_pieces(query, self._state, rolled_up=costs_rolled_up(query))
        rows = await _fetch(self._connection, cost_statement(query, pieces, dearest))
        return cost_report(query, rows, _basis(self._state, pieces))

    async def performance(self, query: Query) -> PerformanceReport:
        """See the port."""
        pieces = plan_pieces(query, self._state, rolled_up=performance_rolled_up(query))
        rows = await _fetch(self._connection, performance_statement(query, pieces))
        quantiles = await _fetch(self._connection, quantiles_statement(query, pieces))
        exact = exact_quantiles(pieces)
        return performance_report(query, rows, quantiles, _basis(self._state, pieces), exact=exact)

    async def reliability(self, query: Query) -> ReliabilityReport:
        """See the port."""
        pieces = plan_pieces(query, self._state, rolled_up=reliability_rolled_up(query))
        rows = await _fetch(self._connection, reliability_statement(query, pieces))
        errors = await _fetch(self._connection, errors_statement(query, pieces))
        return reliability_report(query, rows, errors, _basis(self._state, pieces))

    async def failovers(self, query: Query, piece: Piece) -> FailoverReport:
        """Answers `FailoverReports.failovers` from its piece."""
        rows = await _fetch(self._connection, failover_statement(query, piece))
        return failover_report(query, rows, _basis(self._state, [piece]))


def _basis(state: RollupState, pieces: Sequence[Piece]) -> Basis:
    return Basis(
        frozenset(piece.source for piece in pieces),
        _last_commit(state),
        state.last_lag,
    )


def _last_commit(state: RollupState) -> float | None:
    return None if state.last_commit is None else state.last_commit.timestamp()


async def _fetch(connection: Connection, statement: Statement) -> list[asyncpg.Record]:
    try:
        return await connection.fetch(statement.sql, *statement.parameters)
    except asyncpg.InvalidParameterValueError as error:
        # Zone names come from Python's list; the server has its own, perhaps older.
        raise InvalidArgument([FieldViolation("query.time_zone", "is not known to the database")]) from error
