"""`pointsman providers`: the health of providers and models, and the combinations that the router sets aside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.csv_table import write_table
from cli.failure import reporting, show_error
from cli.layout import Column, Kind, Table, Value
from cli.loop import run
from cli.render import count_cell, printable, seconds, seconds_cell, words
from cli.terminal import console, write_json
from libs.client import HealthClient, ProviderState, SetAside, SetAsideClient
from libs.clock import Clock, SystemClock
from libs.errors import PointsmanError

_COLORS = {
    "healthy": "green",
    "recovering": "cyan",
    "degraded": "yellow",
    "down": "red",
    "maintenance": "blue",
}

Name = Annotated[str, typer.Argument(help="Only this provider.", show_default=False)]
PutBack = Annotated[
    str,
    typer.Option(help="Let the router call this combination again, by its name below.", show_default=False),
]


def providers(
    provider: Name = "",
    put_back: PutBack = "",
    reason: opt.Reason = "",
    by: opt.By = "",
    timeout: opt.Timeout = 10.0,
    health: opt.Health = "",
    router: opt.Router = "",
    token: opt.Token = "",
    as_csv: opt.Csv = False,
    as_json: opt.Json = False,
) -> None:
    """Show the health of every provider and model, and combinations that the router sets aside because they kept
    failing."""
    with reporting(as_json):
        opt.check_format(as_csv=as_csv, as_json=as_json)
        endpoint = find("health", health, token)
        known = bool(router) or not health
        # The local stack's token is for its own router only.
        routing = find("router", router, token if router else endpoint.key) if known or put_back else None
    if put_back and routing is not None:
        with reporting(as_json, str(routing)):
            run(_put_back(routing, put_back, opt.author(by), reason, timeout))
    with reporting(as_json, str(endpoint)):
        states = run(_call(endpoint, provider, timeout))
    aside, unknown = run(_set_aside(routing, provider, timeout))
    if as_csv:
        write_table(table(states), as_csv=True)
        return
    if as_json:
        fields = {
            "providers": [to_builtins(state) for state in states],
            "set_aside": None if aside is None else [to_builtins(item) for item in aside],
        }
        write_json(fields)
        return
    out = console()
    out.print(table(states))
    if aside:
        out.print(aside_table(aside, SystemClock()))
    if unknown:
        show_error(f"what {routing} sets aside is not known: {unknown}")


async def _call(endpoint: Endpoint, provider: str, timeout: float) -> tuple[ProviderState, ...]:
    async with client(HealthClient, endpoint, timeout) as connected:
        return await connected.list_providers(provider)


async def _put_back(endpoint: Endpoint, name: str, author: str, reason: str, timeout: float) -> None:
    async with client(SetAsideClient, endpoint, timeout) as connected:
        await connected.clear_set_aside(name, author=author, reason=reason)


async def _set_aside(
    endpoint: Endpoint | None, provider: str, timeout: float
) -> tuple[tuple[SetAside, ...] | None, str]:
    """Returns what is set aside, None where it is not known, and why not. Health is worth showing without it."""
    if endpoint is None:
        return None, ""
    try:
        async with client(SetAsideClient, endpoint, timeout) as connected:
            found = await connected.list_set_aside()
    except PointsmanError as error:
        return None, error.message
    return tuple(item for item in found if not provider or item.provider in ("", provider)), ""


def aside_table(found: Sequence[SetAside], clock: Clock) -> Table:
    """Returns the table of combinations that are set aside."""
    grid = Table(
        Column("set aside", Kind.NAME),
        Column("for another"),
        Column("times", Kind.FIGURE),
        Column("why", Kind.SENTENCE),
    )
    for item in found:
        left = item.until - clock.now()
        grid.add_row(
            Text(printable(item.name), "yellow"),
            seconds(left) if left > 0 else "next call tries it",
            count_cell(item.times),
            Text(printable(item.reason)),
        )
    return grid


def table(states: Sequence[ProviderState]) -> Table:
    """Returns the table of providers, each with its models below it. A percentage beside the circuit is the share of
    traffic that a recovering or degraded one gets."""
    grid = Table(
        Column("provider / model", Kind.NAME),
        *(Column(name) for name in ("status", "circuit", "errors", "response")),
        Column("why", Kind.SENTENCE),
    )
    for state in sorted(states, key=lambda each: (each.provider, each.model)):
        circuit = words(state.circuit) + (f" {state.ramp:.0%}" if 0 < state.ramp < 1 else "")
        reason = state.reason if state.mode == "automatic" else f"{state.mode}: {state.reason}"
        grid.add_row(
            _name(state),
            Text(state.status, _COLORS.get(state.status, "dim")),
            Text(circuit, "" if state.circuit == "closed" else "red"),
            Value(f"{state.error_rate:.0%} of {state.calls:,}", state.error_rate)
            if state.calls
            else Value("—", None),
            seconds_cell(state.response_time),
            Text(printable(reason)),
        )
    return grid


def _name(state: ProviderState) -> Value:
    if not state.model:
        return Value(Text(state.provider, "bold cyan"), state.provider)
    return Value(Text(f"{state.provider}\n  {state.model}"), f"{state.provider}/{state.model}")
