"""Forecasts through real gRPC from a real PostgreSQL, as the client and the command line show them."""

from __future__ import annotations

import io
import random
import time
from collections.abc import AsyncIterator
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from rich.console import Console

from cli import forecast as command
from libs.client import (
    ForecastClient,
    ForecastGroup,
    ForecastLimit,
    ForecastMeasure,
    ForecastPlan,
    ForecastQuestion,
    ForecastRow,
    ModelReplacement,
    PlannedModel,
)
from libs.errors import FailedPrecondition, InvalidArgument
from libs.types import Usage
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.rollups.postgres_rollups import PostgresRollups
from tests.support.analytics import analytics
from tests.support.engines import PostgresServer
from tests.support.ledger import an_attempt
from tests.support.postgres import fresh_database

DAYS = 30


def month_of_use(now: float) -> list[Attempt]:
    """Hourly attempts at two providers over 30 days; one token costs 2 and 1 micro-USD."""
    rng = random.Random(5)
    found = []
    for hour in range(DAYS * 24):
        for provider, price in (("openai", 2), ("anthropic", 1)):
            tokens = round(1000 * rng.gammavariate(20, 1 / 20))
            found.append(
                an_attempt(
                    f"{provider}-{hour}",
                    provider=provider,
                    model="large",
                    started=now - 3600 * (hour + 0.5),
                    cost_micro_usd=tokens * price,
                    usage=Usage(input_tokens=tokens - 100, output_tokens=100),
                )
            )
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def client(postgres_server: PostgresServer) -> AsyncIterator[ForecastClient]:
    async with fresh_database(postgres_server) as dsn:
        async with Database(dsn, read_migrations()) as database:
            await database.prepare()
            ledger = PostgresLedger(database, PostgresRollups(database).follow)
            await ledger.record(month_of_use(time.time()))
        async with (
            analytics(dsn) as running,
            ForecastClient(f"127.0.0.1:{running.server.port}", "", timeout=60) as connected,
        ):
            yield connected


def coming(row: ForecastRow) -> float:
    """Returns the median of the use after now."""
    assert row.projection is not None
    return row.projection.totals[-1].amount.p50 - row.used


async def test_cost_by_provider_until_a_day_ahead(client: ForecastClient) -> None:
    """The next 20 days cost what 20 such days did, each provider and both; the command shows it in 80
    columns."""
    until = time.time() + 20 * 86_400
    found = await client.get_forecast(ForecastQuestion(by=ForecastGroup.PROVIDER, until=until))
    assert [row.group for row in found.rows] == [None, "openai", "anthropic"]
    assert found.history_days >= DAYS - 1
    for row, price in zip(found.rows, (3, 2, 1), strict=True):
        assert row.projection is not None
        coming = row.projection.totals[-1].amount
        expected = row.used + 20 * 24 * 1000 * price
        assert coming.p50 == pytest.approx(expected, rel=0.05)
        assert coming.p10 < coming.p50 < coming.p90
        assert row.projection.backtest.forecasts > 0
        assert len(row.projection.hours) == 24
    out = io.StringIO()
    shown = command.report(found, ForecastMeasure.COST, ForecastGroup.PROVIDER, ZoneInfo("Europe/Vienna"))
    Console(file=out, width=80, highlight=False).print(shown)
    assert "anthropic" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


async def test_plans_and_limits(client: ForecastClient) -> None:
    """Without the dear provider all that comes is paid at the cheap one's price; its limit is then overrun."""
    until = time.time() + 10 * 86_400
    limit = ForecastLimit("provider:anthropic", "total_tokens", "day", 30_000)
    plan = ForecastPlan(lost_providers=("openai",))
    found = await client.get_forecast(ForecastQuestion(until=until, limits=[limit], plan=plan))
    (before,), (after,) = found.rows, found.planned
    assert after.used == before.used
    ratio = coming(after) / coming(before)
    assert ratio == pytest.approx(2 / 3, rel=0.05)
    (compared,) = found.limits
    assert compared.limit == limit
    assert compared.peak > limit.limit
    assert compared.probability is not None
    assert compared.outgrown_days_p50 == 0
    replaced = ForecastPlan(
        replacements=[ModelReplacement(PlannedModel("openai"), PlannedModel("mistral", "new"), 500_000)]
    )
    found = await client.get_forecast(ForecastQuestion(until=until, plan=replaced))
    assert coming(found.planned[0]) == pytest.approx(coming(found.rows[0]) * 1.5 / 3, rel=0.05)
    asked = ForecastQuestion(provider="anthropic", until=until, plan=plan)
    moved = await client.get_forecast(asked)
    assert coming(moved.planned[0]) == pytest.approx(2 * coming(moved.rows[0]), rel=0.05)


async def test_plans_that_do_not_fit_are_refused_by_name(client: ForecastClient) -> None:
    """INVALID_ARGUMENT names the field, FAILED_PRECONDITION the reason."""
    with pytest.raises(InvalidArgument) as refused:
        await client.get_forecast(ForecastQuestion(plan=ForecastPlan(lost_providers=("nobody",))))
    assert [fault.field for fault in refused.value.violations] == ["what_if.lost_providers[0]"]
    with pytest.raises(FailedPrecondition) as none_left:
        await client.get_forecast(ForecastQuestion(plan=ForecastPlan(lost_providers=("openai", "anthropic"))))
    assert none_left.value.reason == "NO_PROVIDER_LEFT"


async def test_a_tenant_without_use_gets_an_answer(client: ForecastClient) -> None:
    """Not enough history: how much there is, and how much is needed."""
    found = await client.get_forecast(ForecastQuestion(tenant="nobody", measure=ForecastMeasure.TOKENS))
    (row,) = found.rows
    assert row.projection is None
    assert row.too_short is not None
    assert (row.too_short.days, row.too_short.needed, row.used) == (0, 8, 0.0)
