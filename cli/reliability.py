"""`pointsman reliability`: success as callers saw it and as providers gave it, failovers and errors by groups."""

from __future__ import annotations

from msgspec import to_builtins

from cli import options as opt
from cli import question as ask
from cli.addresses import Endpoint, client, find
from cli.csv_table import write_table
from cli.failure import reporting
from cli.layout import Column, Kind, Table
from cli.loop import run
from cli.render import count_cell, share_cell, words
from cli.terminal import write_json
from libs.client import CostClient, ErrorCount, Reliability
from libs.clock import SystemClock

_FIGURES = ("requests", "answered", "first try", "failovers", "attempts ok")


def reliability(
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
    """Show requests answered as callers saw it, at the first try and by failovers, and what became of attempts."""
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


async def _call(endpoint: Endpoint, question: ask.Question, timeout: float) -> Reliability:
    async with client(CostClient, endpoint, timeout) as connected:
        return await connected.get_reliability(question.groups, **question.asked)


def table(found: Reliability, question: ask.Question) -> Table:
    """Returns the table with one line per group and bucket."""
    grid = Table(
        *question.columns(),
        *(Column(name, Kind.FIGURE) for name in _FIGURES),
        Column("errors", Kind.SENTENCE),
    )
    for row in found.rows:
        grid.add_row(
            *question.cells(row.group, row.bucket),
            count_cell(row.requests),
            share_cell(row.availability),
            share_cell(row.first_try_rate),
            count_cell(row.failovers),
            share_cell(row.success_rate),
            ", ".join(map(_error, row.errors)),
        )
    return grid


def _error(error: ErrorCount) -> str:
    return f"{words(error.error_class) if error.error_class else 'not known'} {error.count:,}"
