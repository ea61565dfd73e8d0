"""`pointsman reliability`: success as callers saw it and as providers gave it, failovers and errors by groups."""

from __future__ import annotations

from cli import question as ask
from cli.layout import Column, Kind, Table
from cli.render import count_cell, share_cell, words
from cli.report import report_command
from libs.client import CostClient, ErrorCount, Reliability

_FIGURES = ("requests", "answered", "first try", "failovers", "attempts ok")


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


async def _get(connected: CostClient, question: ask.Question) -> Reliability:
    return await connected.get_reliability(question.groups, **question.asked)


reliability = report_command(
    "Show requests answered as callers saw it, at the first try and by failovers, and what became of attempts.",
    _get,
    table,
)
