"""`pointsman drain`, `block`, `restore`, `failover`, `windows`, `history` and `undo` against real services."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner, Result

from cli.app import build
from tests.support.address import fresh_address
from tests.support.analytics import analytics
from tests.support.engines import PostgresServer, RedisServer, valkey
from tests.support.health_process import CATALOG, ROOT, process
from tests.support.postgres import fresh_database
from tests.support.process import spawn


class Commands:
    """The command line on a health service and analytics."""

    def __init__(self, health: str, analytics: str) -> None:
        self.environment = {
            "POINTSMAN_HEALTH": health,
            "POINTSMAN_ANALYTICS": analytics,
            "POINTSMAN_DATA": "/nowhere",
        }

    async def run(self, *arguments: str) -> Result:
        return await asyncio.to_thread(
            lambda: CliRunner().invoke(build(), [*arguments], env=self.environment)
        )

    async def text(self, *arguments: str) -> str:
        ended = await self.run(*arguments)
        assert ended.exit_code == 0, ended.output
        return str(ended.output)

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self.text(*arguments, "--json"))

    async def refused(self, *arguments: str) -> dict[str, Any]:
        """The error of a command that fails."""
        ended = await self.run(*arguments, "--json")
        assert ended.exit_code != 0, ended.output
        error: dict[str, Any] = json.loads(ended.stderr)["error"]
        return error

    async def mode(self, target: str) -> str:
        provider, _, model = target.partition("/")
        states = (await self.json("providers", provider, "--health", self.environment["POINTSMAN_HEALTH"]))[
            "providers"
        ]
        return str(next(s["mode"] for s in states if s["model"] == model))


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with valkey() as running:
        yield running


@pytest.fixture
async def commands(
    server: RedisServer, postgres_server: PostgresServer, tmp_path: Path
) -> AsyncIterator[Commands]:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(CATALOG.format(domain="test"))
    ledger = fresh_address()
    async with fresh_database(postgres_server) as dsn, analytics(dsn, listen=ledger) as kept:
        ledger = f"127.0.0.1:{kept.server.port}"
        options = {"redis_url": server.url, "probe": "false", "analytics_target": ledger}
        async with process(catalog, options) as running:
            yield Commands(await running.address(), ledger)


WHO = ("--by", "ann", "--reason", "because")


async def test_a_provider_is_blocked_and_restored_in_steps(commands: Commands) -> None:
    """Each word is in the history, with who, why, before and after; at once on request."""
    shown = await commands.text("block", "acme", "--yes", *WHO)
    assert "acme: blocked by an operator: because" in shown
    restored = await commands.json("restore", "acme", *WHO)
    assert (restored["provider"]["mode"], restored["provider"]["ramp"]) == ("rehabilitating", 0.05)
    assert "at 5%" in (await commands.refused("restore", "acme", *WHO))["message"]
    await commands.json("restore", "acme", "--share", "50", "--by-hand", *WHO)
    assert (await commands.json("restore", "acme", "--at-once", *WHO))["provider"]["mode"] == "automatic"
    await commands.json("drain", "acme/large", "--yes", *WHO)
    assert await commands.mode("acme/large") == "drain"
    assert (await commands.json("restore", "acme/large", *WHO))["provider"]["mode"] == "automatic"

    async with asyncio.timeout(20):
        while len(changes := (await commands.json("history", "acme"))["changes"]) < 4:
            await asyncio.sleep(0.1)
    assert [change["after"].get("mode", "automatic") for change in changes] == [
        *("automatic", "rehabilitating", "rehabilitating", "blocked")
    ]
    assert changes[1]["after"] == {"mode": "rehabilitating", "share": 0.5, "by_hand": True}
    assert changes[1]["before"] == changes[2]["after"]
    assert {(change["author"], change["reason"]) for change in changes} == {("ann", "because")}
    assert "blocked → rehabilitating at 5%" in " ".join((await commands.text("history", "acme")).split())


async def test_a_change_is_undone_but_not_when_changed_since(commands: Commands) -> None:
    """With a reason that says so."""
    first = (await commands.json("drain", "acme", "--yes", *WHO))["change"]["change_id"]
    second = (await commands.json("block", "acme", "--yes", *WHO))["change"]["change_id"]
    error = await commands.refused("undo", first, *WHO)
    assert (error["reason"], error["metadata"]["change_id"]) == ("CHANGED_SINCE", second)
    undone = (await commands.json("undo", second, *WHO))["change"]
    assert (undone["undoes"], undone["after"]) == (second, {"mode": "drain"})
    assert await commands.mode("acme") == "drain"
    assert (await commands.refused("undo", "t0", *WHO))["reason"] == "CHANGE_NOT_FOUND"


async def test_nothing_stops_traffic_unasked(commands: Commands) -> None:
    """--yes is required where nobody can be asked."""
    for arguments in (("drain", "acme"), ("block", "acme"), ("failover", "acme")):
        assert "--yes" in (await commands.refused(*arguments, *WHO))["message"]
    assert await commands.mode("acme") == "automatic"


async def test_a_failover_says_for_whom_and_how_long(commands: Commands) -> None:
    """Bad words are refused, and change nothing."""
    made = await commands.json(
        *("failover", "acme", "--for", "5m", "--content-type", "general", "--yes"), *WHO
    )
    (failover,) = made["provider"]["failovers"]
    assert failover["content_types"] == ["general"]
    assert failover["until"] - made["change"]["at"] == pytest.approx(300, abs=1)
    for arguments, reason in (
        (("failover", "acme", "--for", "25h", "--yes"), "INVALID_ARGUMENT"),
        (("failover", "acme", "--for", "soon", "--yes"), "BAD_USE"),
        (("failover", "nobody", "--yes"), "NOT_FOUND"),
        (("failover", "acme", "--tenant", "nobody", "--yes"), "NOT_FOUND"),
        (("failover", "acme", "--to", "acme/large", "--yes"), "INVALID_ARGUMENT"),
        (("restore", "acme", "--share", "30"), "BAD_USE"),
        (("block", "acme/", "--yes"), "BAD_USE"),
    ):
        assert (await commands.refused(*arguments, *WHO))["reason"] == reason
    restored = await commands.json("restore", "acme", *WHO)
    assert restored["provider"]["failovers"] == []


async def test_windows_are_added_listed_and_removed(commands: Commands) -> None:
    """In the zone that is named; overlapping, past and reversed ones are refused."""
    zone = ("--zone", "Europe/Berlin")
    day = (datetime.now(UTC) + timedelta(days=30)).date()
    begin, end = f"{day}T20:00", f"{day}T23:00"
    times = ("--from", begin, "--to", end, "--drain", "10m")
    added = await commands.json("windows", "add", "acme", *times, *zone, *WHO)
    local = datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    assert added["window"]["starts"] == local.timestamp()
    assert f"{day} 20:00" in await commands.text("windows")
    for arguments, reason in (
        (("--from", f"{day}T22:00", "--for", "2h", *zone), "WINDOWS_OVERLAP"),
        (("--from", "2020-01-01", "--to", "2020-01-02"), "BAD_WINDOW"),
        (("--from", end, "--to", begin), "BAD_WINDOW"),
        (("--from", "tomorrow", "--for", "2h"), "BAD_USE"),
        (("--from", "now"), "BAD_USE"),
    ):
        assert (await commands.refused("windows", "add", "acme", *arguments, *WHO))["reason"] == reason
    await commands.json("windows", "add", "acme/large", "--for", "1h", "--weekly", *zone, *WHO)
    assert await commands.mode("acme/large") == "maintenance"
    windows = (await commands.json("windows", "list", "acme"))["windows"]
    for window in windows:
        await commands.json("windows", "remove", window["window_id"], *WHO)
    assert "No windows." in await commands.text("windows")
    assert (await commands.refused("windows", "remove", "x", *WHO))["reason"] == "WINDOW_NOT_FOUND"


async def test_the_history_is_watched(commands: Commands) -> None:
    """A line of JSON for each change as it is made; Ctrl-C ends it."""
    code = "from cli.app import main; raise SystemExit(main())"
    child = await spawn(
        *(sys.executable, "-c", code, "history", "--watch", "--json"),
        env={**commands.environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        made = [(await commands.json("drain", "acme", "--yes", *WHO))["change"]["change_id"]]
        async with asyncio.timeout(30):
            first = json.loads(await child.stdout.readline())
            made.append((await commands.json("restore", "acme", *WHO))["change"]["change_id"])
            second = json.loads(await child.stdout.readline())
        assert [first["change_id"], second["change_id"]] == made
        child.send_signal(signal.SIGINT)
        assert await child.wait() == 130
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
