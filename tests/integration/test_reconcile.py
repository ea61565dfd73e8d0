"""`pointsman reconcile` against the real ledger: what was recorded over gRPC is what a bill is compared with."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from typer.testing import CliRunner

from cli.app import build
from tests.support.analytics import an_event, analytics, send
from tests.support.engines import PostgresServer
from tests.support.postgres import fresh_database

#: Hours ahead of UTC or behind it, whichever has another day now.
FAR = ZoneInfo("Pacific/Kiritimati" if time.gmtime().tm_hour >= 10 else "Pacific/Pago_Pago")


async def test_a_bill_is_compared_with_what_the_ledger_recorded(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """The same usage agrees, cut by days of any zone; a call past Pointsman, and another provider's usage, are told
    for what they are."""
    now = time.time()
    day = datetime.fromtimestamp(int(now), UTC).date().isoformat()
    bill = tmp_path / "usage.csv"
    bill.write_text(
        "date,model,requests,input_tokens,output_tokens,cost_usd\n"
        f"{day},gpt-4o-2024-08-06,4,40,80,0.000400\n"
        f"{day},o3,1,10,10,0.01\n"
    )
    async with fresh_database(postgres_server) as dsn, analytics(dsn) as running:
        others = an_event("b", now, cost_micro_usd=900)
        others.provider = "azure"
        await send(running.stub, [an_event(f"a{i}", now, cost_micro_usd=100) for i in range(4)], [others])
        address = f"127.0.0.1:{running.server.port}"

        async def command(*options: str) -> str:
            arguments = ["reconcile", "openai", str(bill), "--analytics", address, *options]
            ended = await asyncio.to_thread(CliRunner().invoke, build(), arguments)
            assert ended.exit_code == 0, ended.output
            return ended.output

        rows = {row["model"]: row for row in json.loads(await command("--json"))["rows"]}
        assert {model: row["cause"] for model, row in rows.items()} == {
            "gpt-4o": "none",
            "o3": "not_in_ledger",
        }
        assert rows["o3"]["cost_difference_micro_usd"] == 10_000
        # The same calls, of the day that it is on the other side of the date line.
        bill.write_text(bill.read_text().replace(day, f"{datetime.fromtimestamp(int(now), FAR):%Y-%m-%d}"))
        rows = {
            row["model"]: row for row in json.loads(await command("--json", "--time-zone", FAR.key))["rows"]
        }
        assert {model: row["cause"] for model, row in rows.items()} == {
            "gpt-4o": "none",
            "o3": "not_in_ledger",
        }
        shown = await command("--time-zone", FAR.key)
        assert "o3" in shown
        assert "1 of 2 days and models agree" in shown
