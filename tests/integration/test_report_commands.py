"""`pointsman costs`, `performance` and `reliability` against the real ledger."""

from __future__ import annotations

import asyncio
import csv
import io
import time

from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2
from typer.testing import CliRunner

from cli.app import build
from libs.client import CostClient, CostGroup
from tests.support.analytics import an_event, analytics, send
from tests.support.engines import PostgresServer
from tests.support.postgres import fresh_database


def events(now: float) -> list[pb.UsageEvent]:
    """Of the last hour two answers, one of them after a failure at another provider; of the hour before one
    answer, at half the price."""
    first, failed, second, before = (an_event(f"a{n}", now - 60, cost_micro_usd=600) for n in range(4))
    failed.outcome, failed.error_class = pb.OUTCOME_FAILURE, types_pb2.ERROR_CLASS_OVERLOADED
    failed.cost.micro_usd = 40
    second.provider, second.model = "anthropic", "claude"
    second.request_id, second.attempt_number = failed.request_id, 2
    second.cache_saving.micro_usd = 11
    before.started.CopyFrom(Timestamp(seconds=int(now) - 5400))
    before.cost.micro_usd = 300
    for event in (first, failed, second, before):
        event.labels["team"] = "=blue"
    return [first, failed, second, before]


async def test_a_report_of_many_groups_has_them_all(postgres_server: PostgresServer) -> None:
    """Of campaigns there may be any number: the client asks page by page."""
    now, many = time.time(), 11_000
    batches = []
    for first in range(0, many, 1000):
        batch = [an_event(f"a{n:05}", now, cost_micro_usd=1) for n in range(first, first + 1000)]
        for number, event in enumerate(batch, first):
            event.campaign = f"c{number:05} ü"
        batches.append(batch)
    async with fresh_database(postgres_server) as dsn, analytics(dsn, write_timeout=30.0) as running:
        await send(running.stub, *batches)
        async with CostClient(f"127.0.0.1:{running.server.port}", timeout=60.0) as client:
            found = await client.get_costs([CostGroup.CAMPAIGN], compare=False)
            speed = await client.get_performance([CostGroup.CAMPAIGN])
    assert [row.group for row in found.rows] == [(f"c{n:05} ü",) for n in range(many)]
    assert found.total.cost_micro_usd == many
    assert len(speed.rows) == many


async def test_reports_show_what_was_recorded(postgres_server: PostgresServer) -> None:
    """Costs with their change and waste, performance, and success as callers saw it, as CSV and for a person."""
    async with fresh_database(postgres_server) as dsn, analytics(dsn) as running:
        await send(running.stub, events(time.time()))
        address = f"127.0.0.1:{running.server.port}"

        async def command(*arguments: str) -> str:
            given = [*arguments, "--analytics", address]
            ended = await asyncio.to_thread(CliRunner().invoke, build(), given)
            assert ended.exit_code == 0, ended.output
            return ended.output

        async def rows(*arguments: str) -> list[dict[str, str]]:
            return list(csv.DictReader(io.StringIO(await command(*arguments, "--csv"), newline="")))

        openai, anthropic = sorted(
            await rows("costs", "--since", "1h", "--compare", "--by", "provider"),
            key=lambda row: row["provider"] == "anthropic",
        )
        assert (openai["before"], openai["cost"]) == ("0.000300", "0.000640")
        parts = [round(float(openai[name]) * 1e6) for name in ("volume", "mix", "price")]
        assert sum(parts) == 340
        assert (anthropic["before"], anthropic["cost"]) == ("0.000000", "0.000600")
        (all_,) = await rows("costs", "--since", "1h", "--waste", "--by-label", "team")
        assert (all_["team"], all_["cost"], all_["failed"], all_["cache saved"]) == (
            *("'=blue", "0.001240", "0.000040", "0.000011"),
        )
        speed = {row["model"]: row for row in await rows("performance", "--by", "model", "--since", "30m")}
        assert (speed["openai/gpt-4o"]["answers"], speed["openai/gpt-4o"]["tokens/s"]) == ("1", "20.0")
        assert abs(float(speed["anthropic/claude"]["p95"]) - 1) <= 0.01
        success = {row["provider"]: row for row in await rows("reliability", "--since", "30m")}
        assert success["openai"] == {
            "provider": "openai",
            "requests": "2",
            "answered": "0.5",
            "first try": "0.5",
            "failovers": "0",
            "attempts ok": "0.5",
            "errors": "overloaded 1",
        }
        assert (success["anthropic"]["failovers"], success["anthropic"]["first try"]) == ("1", "0.0")
        (saved,) = await rows("failovers", "--since", "30m")
        assert saved == {
            "provider": "openai",
            "first failed": "1",
            "saved": "1",
            "in vain": "0",
            "failed cost": "0.000040",
            "added p50": "0.0",
            "added p95": "0.0",
            "dearer": "",
        }
        attempts = await rows("request", "r-a1")
        assert [(row["number"], row["outcome"], row["cost"]) for row in attempts] == [
            ("1", "failure", "0.000040"),
            ("2", "success", "0.000600"),
        ]
        bytes_of_latin_1 = [*("costs", "--tenant", "m\udcfcller"), "--analytics", address]
        ended = await asyncio.to_thread(CliRunner().invoke, build(), bytes_of_latin_1)
        assert (ended.exit_code, "UTF-8" in ended.output) == (2, True)
        shown = await command("reliability", "--by", "tenant", "--since", "30m")
        assert "100%" in shown
        assert "last recorded" in shown
