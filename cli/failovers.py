"""`pointsman failovers`: requests that another target answered, and what that cost."""

from __future__ import annotations

from cli import question as ask
from cli.layout import Column, Kind, Table
from cli.render import count_cell, money_cell, seconds_cell
from cli.report import report_command
from libs.client import CostClient, Failovers

_FIGURES = ("first failed", "saved", "in vain", "failed cost", "added p50", "added p95", "dearer")


def table(found: Failovers, question: ask.Question) -> Table:
    """Returns the table with one line per group and bucket."""
    grid = Table(*question.columns(), *(Column(name, Kind.FIGURE) for name in _FIGURES))
    for row in found.rows:
        grid.add_row(
            *question.cells(row.group, row.bucket),
            *map(count_cell, (row.requests, row.saved, row.in_vain)),
            money_cell(row.failed_micro_usd),
            seconds_cell(row.added.p50 if row.added is not None else None),
            seconds_cell(row.added.p95 if row.added is not None else None),
            money_cell(row.dearer_micro_usd if row.compared else None),
        )
    return grid


async def _get(connected: CostClient, question: ask.Question) -> Failovers:
    return await connected.get_failovers(question.groups, **question.asked)


failovers = report_command(
    "Show requests whose first attempt failed: those that another target saved, the money of failed attempts, the "
    "time that they added, and how much dearer who answered was than the first would have been. Groups are those of "
    "the first attempt.",
    _get,
    table,
)
