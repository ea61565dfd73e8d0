"""`pointsman performance`: latency, first token and speed by groups."""

from __future__ import annotations

from cli import question as ask
from cli.layout import Column, Kind, Table, Value
from cli.render import count_cell, seconds_cell
from cli.report import report_command
from libs.client import CostClient, DurationQuantiles, Performance

_FIGURES = ("answers", "p50", "p95", "first p50", "first p95", "tokens/s")


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


async def _get(connected: CostClient, question: ask.Question) -> Performance:
    return await connected.get_performance(question.groups, **question.asked)


performance = report_command(
    "Show latency, time to first token and speed of answers by provider, model, tenant, content type or label.",
    _get,
    table,
)
