"""The commands that ask a question of the ledger by groups and buckets and show the answer as a table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from msgspec import to_builtins

from cli import options as opt
from cli import question as ask
from cli.addresses import client, find
from cli.csv_table import write_table
from cli.failure import reporting
from cli.layout import Table
from cli.loop import run
from cli.terminal import write_json
from libs.client import CostClient, ReportBasis
from libs.clock import SystemClock


class Report(Protocol):
    """An answer, with what it was computed from."""

    @property
    def basis(self) -> ReportBasis: ...


_Report = TypeVar("_Report", bound=Report)


def report_command(
    summary: str,
    get: Callable[[CostClient, ask.Question], Awaitable[_Report]],
    table: Callable[[_Report, ask.Question], Table],
) -> Callable[..., None]:
    """Returns a command with the options of a question, to be given to typer under its name. `summary`: its help."""

    def command(
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

        async def call() -> _Report:
            async with client(CostClient, endpoint, timeout) as connected:
                return await get(connected, question)

        with reporting(as_json, str(endpoint)):
            found = run(call())
            if as_json:
                write_json({**question.fields, **to_builtins(found)})
            else:
                write_table(table(found, question), ask.freshness(found.basis, clock), as_csv=as_csv)

    command.__doc__ = summary
    return command
