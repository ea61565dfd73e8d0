"""`pointsman costs`: cost and tokens by groups, their change, and money that bought nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer
from msgspec import to_builtins

from cli import options as opt
from cli import question as ask
from cli.addresses import Endpoint, client, find
from cli.csv_table import write_table
from cli.failure import CliError, reporting
from cli.layout import Column, Kind, Table, Value
from cli.loop import run
from cli.render import count_cell, money_cell
from cli.terminal import write_json
from libs.client import CostChange, CostClient, CostRow, Costs
from libs.clock import SystemClock

Campaign = Annotated[str, typer.Option(help="Only this campaign.", show_default=False)]
Compare = Annotated[
    bool,
    typer.Option(
        "--compare", help="Show the change against the period before, split into volume, mix and price."
    ),
]
Waste = Annotated[
    bool,
    typer.Option(
        "--waste",
        help="Show the money for attempts that gave no answer, and what providers' prompt caches saved.",
    ),
]


def costs(
    by: ask.By = None,
    by_label: ask.ByLabel = "",
    since: ask.Since = "24h",
    until: ask.Until = "",
    interval: ask.Interval = None,
    time_zone: ask.Zone = "UTC",
    compare: Compare = False,
    waste: Waste = False,
    tenant: ask.Tenant = "",
    provider: ask.Provider = "",
    model: ask.Model = "",
    content_type: ask.ContentType = "",
    campaign: Campaign = "",
    label: ask.Label = None,
    timeout: opt.Timeout = 30.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_csv: opt.Csv = False,
    as_json: opt.Json = False,
) -> None:
    """Show cost and tokens by provider, model, tenant, content type, campaign or label."""
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
        if campaign:
            question.asked["campaign"] = campaign
        if compare and (waste or interval is not None):
            raise CliError("--compare goes neither with --waste nor with --interval")
    with reporting(as_json, str(endpoint)):
        found = run(_call(endpoint, question, compare, timeout))
        if as_json:
            write_json({**question.fields, **to_builtins(found)})
        else:
            figures = CHANGE if compare else WASTE if waste else _plain(found)
            write_table(table(found, question, figures), ask.freshness(found.basis, clock), as_csv=as_csv)


async def _call(endpoint: Endpoint, question: ask.Question, compare: bool, timeout: float) -> Costs:
    async with client(CostClient, endpoint, timeout) as connected:
        return await connected.get_costs(question.groups, compare=compare, **question.asked)


Figures = Mapping[str, Callable[[CostRow], Value]]


def table(found: Costs, question: ask.Question, figures: Figures) -> Table:
    """Returns the table with one line per group and bucket, and the total."""
    names = question.columns()
    grid = Table(*names, *(Column(name, Kind.FIGURE) for name in figures))
    grid.set_footer("total", *("" for _ in names[1:]), *(cell(found.total) for cell in figures.values()))
    for row in found.rows:
        grid.add_row(*question.cells(row.group, row.bucket), *(cell(row) for cell in figures.values()))
    return grid


def _plain(found: Costs) -> Figures:
    # Doubtful money is rare: its column is there only then.
    doubtful = found.total.estimated_micro_usd + found.total.uncertain_micro_usd
    return {name: cell for name, cell in PLAIN.items() if doubtful or name != "not exact"}


def _change(part: Callable[[CostChange], int]) -> Callable[[CostRow], Value]:
    return lambda row: money_cell(None if row.change is None else part(row.change))


PLAIN: Figures = {
    "cost": lambda row: money_cell(row.cost_micro_usd),
    # Estimated and uncertain money together; --json tells them apart.
    "not exact": lambda row: money_cell(row.estimated_micro_usd + row.uncertain_micro_usd),
    "input": lambda row: count_cell(row.usage.input_tokens),
    "output": lambda row: count_cell(row.usage.output_tokens),
    "requests": lambda row: count_cell(row.requests),
    "attempts": lambda row: count_cell(row.attempts),
}
CHANGE: Figures = {
    "before": _change(lambda change: change.before),
    "volume": _change(lambda change: change.volume),
    "mix": _change(lambda change: change.mix),
    "price": _change(lambda change: change.price),
    "cost": lambda row: money_cell(row.cost_micro_usd),
}
WASTE: Figures = {
    "cost": lambda row: money_cell(row.cost_micro_usd),
    "failed": lambda row: money_cell(row.waste.failed),
    "cancelled": lambda row: money_cell(row.waste.cancelled),
    "unknown": lambda row: money_cell(row.waste.unknown),
    "in hedges": lambda row: money_cell(row.waste.hedges),
    "cache saved": lambda row: money_cell(row.cache_saving_micro_usd),
}
