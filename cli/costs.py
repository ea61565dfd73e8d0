"""`pointsman costs`: cost and tokens by groups."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from msgspec import to_builtins
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.failure import CliError, reporting
from cli.layout import Column, Kind, Table
from cli.loop import run
from cli.render import money, words
from cli.terminal import console, write_json
from libs.client import CostClient, CostGroup, CostInterval, CostRow, Costs
from libs.clock import SystemClock

By = Annotated[
    list[CostGroup] | None,
    typer.Option(help="Group by this; repeat for up to 3.", show_default="provider", case_sensitive=False),
]
Since = Annotated[str, typer.Option(help="From when: 24h, 7d, 2026-11-01 or 2026-11-01T08:00+01:00.")]
Until = Annotated[str, typer.Option(help="Until when, likewise.", show_default="now")]
Interval = Annotated[
    CostInterval | None, typer.Option(help="Also cut into time buckets.", show_default=False)
]
Zone = Annotated[str, typer.Option(help="IANA time zone of days, months and dates.")]
Tenant = Annotated[str, typer.Option(help="Only this tenant.", show_default=False)]


def costs(
    by: By = None,
    since: Since = "24h",
    until: Until = "",
    interval: Interval = None,
    time_zone: Zone = "UTC",
    tenant: Tenant = "",
    timeout: opt.Timeout = 30.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Show cost and tokens by provider, model, tenant, content type or campaign."""
    with reporting(as_json):
        endpoint = find("analytics", analytics, token)
        groups = by or [CostGroup.PROVIDER]
        if len(groups) > 3:
            raise CliError("--by: at most 3 groups")
        zone, now = parse_zone(time_zone), SystemClock().now()
        begin = opt.parse_time(since, now, zone, "--since")
        end = opt.parse_time(until, now, zone, "--until") if until else None
        if begin >= (end if end is not None else now):
            raise CliError("--since must be before --until")
    with reporting(as_json, str(endpoint)):
        found = run(_call(endpoint, groups, begin, end, interval, time_zone, tenant, timeout))
        if as_json:
            fields = {"by": groups, "since": begin, "until": end, **to_builtins(found)}
            write_json(fields)
        else:
            console().print(table(found, groups, interval, zone))


async def _call(
    endpoint: Endpoint,
    groups: list[CostGroup],
    since: float,
    until: float | None,
    interval: CostInterval | None,
    time_zone: str,
    tenant: str,
    timeout: float,
) -> Costs:
    async with client(CostClient, endpoint, timeout) as connected:
        return await connected.get_costs(
            groups, since=since, until=until, interval=interval, time_zone=time_zone, tenant=tenant
        )


def parse_zone(name: str) -> tzinfo:
    """Returns the time zone. Raises CliError for one that does not exist."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CliError(f"--time-zone: {name!r} is not an IANA time zone") from None


def table(found: Costs, groups: list[CostGroup], interval: CostInterval | None, zone: tzinfo) -> Table:
    """Returns the table with one line per group and bucket, and the total."""
    names = [Column(words(group), Kind.NAME) for group in groups]
    if interval is not None:
        names.insert(0, Column(str(interval)))
    # Doubtful money is rare: its column is there only then.
    doubtful = bool(_doubtful(found.total))
    figures = [name for name in _FIGURES if doubtful or name != "not exact"]
    grid = Table(*names, *(Column(name, Kind.FIGURE) for name in figures))
    total = _cells(found.total)
    grid.set_footer("total", *("" for _ in names[1:]), *(total[name] for name in figures))
    for row in found.rows:
        bucket = [] if interval is None else [_bucket(row, interval, zone)]
        cells = _cells(row)
        grid.add_row(
            *bucket, *(Text(value or "—", "cyan") for value in row.group), *(cells[name] for name in figures)
        )
    return grid


_FIGURES = ("cost", "not exact", "input", "output", "requests", "attempts")


def _doubtful(row: CostRow) -> int:
    """Returns estimated and uncertain money together; --json tells them apart."""
    return row.estimated_micro_usd + row.uncertain_micro_usd


def _cells(row: CostRow) -> dict[str, str]:
    values = (
        money(row.cost_micro_usd),
        money(_doubtful(row)),
        f"{row.usage.input_tokens:,}",
        f"{row.usage.output_tokens:,}",
        f"{row.requests:,}",
        f"{row.attempts:,}",
    )
    return dict(zip(_FIGURES, values, strict=True))


def _bucket(row: CostRow, interval: CostInterval, zone: tzinfo) -> str:
    if row.bucket is None:
        return ""
    moment = datetime.fromtimestamp(row.bucket, zone)
    if interval is CostInterval.MONTH:
        return f"{moment:%Y-%m}"
    return f"{moment:%Y-%m-%d}" if interval is CostInterval.DAY else f"{moment:%Y-%m-%d %H:%M}"
