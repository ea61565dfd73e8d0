"""`pointsman alerts`: quotas that are used up too fast, or will not last."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.failure import reporting
from cli.layout import Column, Kind, Table
from cli.loop import run
from cli.render import money, seconds, words
from cli.terminal import console, write_json
from libs.client import CostClient, QuotaAlert
from libs.clock import Clock, SystemClock

Scope = Annotated[str, typer.Argument(help='Only this scope, e.g. "tenant:acme".', show_default=False)]
Since = Annotated[
    str, typer.Option(help="Also those that are over, raised in this time: 7d, 12h, 30m.", show_default=False)
]


def alerts(
    scope: Scope = "",
    since: Since = "",
    timeout: opt.Timeout = 10.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Show quotas that are used up too fast, will not last, or are exhausted."""
    clock = SystemClock()
    with reporting(as_json):
        endpoint = find("analytics", analytics, token)
        start = opt.parse_time(since, clock.now(), UTC, "--since") if since else None
    with reporting(as_json, str(endpoint)):
        found = run(_call(endpoint, scope, start, timeout))
        if as_json:
            fields = {"alerts": [to_builtins(alert) for alert in found]}
            write_json(fields)
        elif found:
            console().print(table(found, clock))
        else:
            console().print("No alerts.")


async def _call(
    endpoint: Endpoint, scope: str, since: float | None, timeout: float
) -> tuple[QuotaAlert, ...]:
    async with client(CostClient, endpoint, timeout) as connected:
        return await connected.quota_alerts(scope, since=since)


def table(found: Sequence[QuotaAlert], clock: Clock) -> Table:
    """Returns the table of alerts; those that stand are red."""
    grid = Table(
        Column("scope", Kind.NAME),
        Column("quota", Kind.NAME),
        Column("alert", Kind.NAME),
        Column("used", Kind.FIGURE),
        Column("burn rate", Kind.FIGURE),
        Column("raised", Kind.SENTENCE),
    )
    for alert in found:
        over = "" if alert.cleared is None else f", over after {seconds(alert.cleared - alert.raised)}"
        unit = "" if alert.unit == "micro_usd" else f" {words(alert.unit)}"
        grid.add_row(
            Text(alert.scope, "cyan"),
            f"{_amount(alert, alert.limit)}{unit}/{alert.period}",
            Text(words(alert.kind), "red" if alert.cleared is None else ""),
            _amount(alert, alert.used),
            f"{alert.burn_rate:.1f}",
            f"{seconds(max(0.0, clock.now() - alert.raised))} ago{over}",
        )
    return grid


def _amount(alert: QuotaAlert, value: int) -> str:
    return money(value) if alert.unit == "micro_usd" else f"{value:,}"
