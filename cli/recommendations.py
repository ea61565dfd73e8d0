"""`pointsman recommendations`: what would save money or trouble, and what was decided about it."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.console import Group, RenderableType
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.failure import CliError, reporting
from cli.layout import Column, Kind, Table
from cli.loop import run
from cli.render import money, words
from cli.terminal import console, write_json
from libs.client import Advice, AdviceVerdict, AmountBand, OptimizationState, RecommendationClient
from libs.clock import SystemClock

Id = Annotated[str, typer.Argument(help="Show only this one, or decide about it.", show_default=False)]
Decide = Annotated[
    AdviceVerdict | None,
    typer.Option(help="Decide about it: recorded, with your name.", show_default=False, case_sensitive=False),
]
By = Annotated[str, typer.Option(help="Who decides.", show_default="the user's name")]
Note = Annotated[str, typer.Option(help="Why.", show_default=False)]
Until = Annotated[str, typer.Option(help="Of a snooze: until when, 2026-12-24.", show_default=False)]

_TOO_SHORT = (
    "Too short a past: {0.days} of the {0.days_needed} whole days of use that a recommendation needs."
)


def recommendations(
    recommendation: Id = "",
    decide: Decide = None,
    by: By = "",
    note: Note = "",
    until: Until = "",
    timeout: opt.Timeout = 60.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Show what would save money, failed calls or refused requests; accept, reject or snooze it, or undo that."""
    with reporting(as_json):
        if decide is not None and not recommendation:
            raise CliError("--decide: name the recommendation too")
        if decide is AdviceVerdict.SNOOZE and not until:
            raise CliError("--decide snooze: say until when with --until")
        endpoint = find("analytics", analytics, token)
        end = opt.parse_time(until, SystemClock().now(), UTC, "--until") if until else None
        name = by or (getpass.getuser() if decide is not None else "")
    with reporting(as_json, str(endpoint)):
        if recommendation:
            item = run(_one(endpoint, timeout, recommendation, decide, name, note, end))
            if as_json:
                write_json(to_builtins(item))
            else:
                console().print(details(item))
            return
        state, found = run(_all(endpoint, timeout))
        if as_json:
            write_json({**to_builtins(state), "recommendations": [to_builtins(item) for item in found]})
        else:
            console().print(report(state, found))


async def _all(endpoint: Endpoint, timeout: float) -> tuple[OptimizationState, tuple[Advice, ...]]:
    async with client(RecommendationClient, endpoint, timeout) as connected:
        return await connected.get_optimization(), (await connected.list_recommendations()).recommendations


async def _one(
    endpoint: Endpoint,
    timeout: float,
    recommendation: str,
    decide: AdviceVerdict | None,
    by: str,
    note: str,
    until: float | None,
) -> Advice:
    async with client(RecommendationClient, endpoint, timeout) as connected:
        found = (await connected.list_recommendations()).recommendations
        named = next((item for item in found if item.id == recommendation), None)
        if named is None:
            raise CliError(f"there is no recommendation {recommendation!r}; without an id all are listed")
        if decide is None:
            return named
        return await connected.decide_recommendation(
            named.id, decide, named.version, by, note=note, snoozed_until=until
        )


def report(state: OptimizationState, found: tuple[Advice, ...]) -> RenderableType:
    """Returns the state of optimisation and one line for each recommendation."""
    parts: list[RenderableType] = []
    if found:
        grid = Table(
            Column("id", Kind.NAME),
            Column("about", Kind.NAME),
            Column("saves in 30 days", Kind.NAME),
            Column("risk", Kind.NAME),
            Column("standing", Kind.NAME),
        )
        for item in found:
            grid.add_row(
                Text(item.id, "cyan"), about(item), _band(item.saving, item.unit), item.risk, item.standing
            )
        parts.append(grid)
    else:
        short = state.days < state.days_needed
        parts.append(
            Text(_TOO_SHORT.format(state) if short else "Nothing stands out that would save anything.")
        )
    seen = datetime.fromtimestamp(state.as_of, UTC)
    parts.append(
        Text(
            f"Spend in 30 days {money(state.spend)}; saved now {money(state.current_saving)}, could be saved "
            f"{money(state.potential_saving)}; strategy {words(state.strategy) if state.strategy else '—'}. By "
            f"{state.days} whole days of use, looked at {seen:%Y-%m-%d %H:%M} UTC.",
            "dim",
        )
    )
    if state.skipped:
        names = ", ".join(words(kind) for kind in state.skipped)
        parts.append(Text(f"Not looked for, as analytics has no catalog: {names}.", "yellow"))
    return Group(*parts)


def details(item: Advice) -> RenderableType:
    """Returns all about one recommendation."""
    grid = Table(Column("", Kind.NAME), Column("", Kind.SENTENCE))
    grid.add_row("id", Text(item.id, "cyan"))
    grid.add_row("kind", words(item.kind))
    grid.add_row("about", about(item))
    grid.add_row("change", change(item))
    grid.add_row("saves in 30 days", _band(item.saving, item.unit))
    grid.add_row("computed from", f"{item.days} days")
    for name, value in item.evidence.items():
        grid.add_row(words(name), money(round(value)) if name.startswith("spent") else f"{value:,.6g}")
    grid.add_row("risk", f"{item.risk}: {', '.join(words(risk) for risk in item.risks)}")
    grid.add_row("standing", f"{item.standing}, version {item.version}")
    if item.decision is not None:
        why = f": {item.decision.note}" if item.decision.note else ""
        grid.add_row("last decision", f"{item.decision.verdict} by {item.decision.by}{why}")
    if item.measured is not None:
        grid.add_row(
            "saved so far",
            f"{_band(item.measured.saving, item.unit)}; {item.measured.changed:,} requests against "
            f"{item.measured.left:,}",
        )
    return grid


def about(item: Advice) -> str:
    """Returns the requests and the model that it is about."""
    served = f"{item.provider}/{item.model}" if item.model else item.provider
    return ", ".join(part for part in (item.tenant, item.content_type, served) if part) or "everything"


def change(item: Advice) -> str:
    """Returns what would be changed, for a person."""
    made, found = item.change, "—"
    if made.new_model:
        found = f"{made.new_model} before {item.provider}/{item.model}"
    elif made.limit is not None:
        limit = made.limit
        found = f"{limit.scope} {words(limit.unit)}/{limit.period}: {limit.limit:,} → {made.new_limit:,}"
    elif made.tokens_per_request:
        found = f"prompts of {made.tokens_per_request:,} tokens"
    return f"{found} (policies {', '.join(made.policies)})" if made.policies else found


def _band(band: AmountBand, unit: str) -> str:
    low, middle, high = (
        money(round(amount)) if unit == "micro_usd" else f"{round(amount):,}"
        for amount in (band.p10, band.p50, band.p90)
    )
    return f"{middle} ({low} to {high})" + ("" if unit == "micro_usd" else f" {words(unit)}")
