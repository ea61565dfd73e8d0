"""`pointsman performance`: latency, first token and speed by groups."""

from __future__ import annotations

from msgspec import to_builtins

from cli import options as opt
from cli import question as ask
from cli.addresses import Endpoint, client, find
from cli.csv_table import write_table
from cli.failure import reporting
from cli.layout import Column, Kind, Table, Value
from cli.loop import run
from cli.render import count_cell, seconds_cell
from cli.terminal import write_json
from libs.client import CostClient, DurationQuantiles, Performance
from libs.clock import SystemClock

_FIGURES = ("answers", "p50", "p95", "first p50", "first p95", "tokens/s")


def performance(
    by: ask.By = None,
    by_label: ask.ByLabel = "",
    since: ask.Since = "24h",
    until: ask.Until = "",
    interval: ask.Interval = None,
    time_zone: ask.Zone = "UTC",
    tenant: ask.Tenant = "",
    provider: ask.Provider = "",
    model: ask.Model = "",
    content_type: ask.ContentType = "",
    label: ask.Label = None,
    timeout: opt.Timeout = 30.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_csv: opt.Csv = False,
    as_json: opt.Json = False,
) -> None:
    """Show latency, time to first token and speed of answers by provider, model, tenant, content type or label."""
    clock = SystemClock()
    with reporting(as_json):
        opt.check_format(as_csv=as_csv, as_json=as_json)
        endpoint = find("analytics", analytics, token)
        question = ask.parse_question(
            *(by, by_label, since, until, interval, time_zone, clock.now()),
            labels=label,
            tenant=tenant,
            provider=provider,
            model=model,
            content_type=content_type,
        )
    with reporting(as_json, str(endpoint)):
        found = run(_call(endpoint, question, timeout))
        if as_json:
            write_json({**question.fields, **to_builtins(found)})
        else:
            write_table(table(found, question), ask.freshness(found.basis, clock), as_csv=as_csv)


async def _call(endpoint: Endpoint, question: ask.Question, timeout: float) -> Performance:
    async with client(CostClient, endpoint, timeout) as connected:
        return await connected.get_performance(question.groups, **question.asked)


def table(found: Performance, question: ask.Question) -> Table:
    """Returns the table with one line per group and bucket."""
    grid = Table(*question.columns(), *(Column(name, Kind.FIGURE) for name in _FIGURES))
    for row in found.rows:
        speed = row.output_tokens_per_second
        grid.add_row(
            *question.cells(row.group, row.bucket),
            count_cell(row.successes),
            *_middle_and_end(row.latency),
            *_middle_and_end(row.time_to_first_token),
            Value("—" if speed is None else f"{speed:,.1f}", speed),
        )
    return grid


def _middle_and_end(found: DurationQuantiles | None) -> tuple[Value, Value]:
    if found is None:
        return seconds_cell(None), seconds_cell(None)
    return seconds_cell(found.p50), seconds_cell(found.p95)
