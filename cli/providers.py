"""`pointsman providers`: who can be trusted with a call now."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.failure import reporting
from cli.render import out_console, plain_table, printable, seconds, words
from libs.client import HealthClient, ProviderState

_COLORS = {"healthy": "green", "degraded": "yellow", "down": "red", "maintenance": "blue"}

Name = Annotated[str, typer.Argument(help="Only this provider.", show_default=False)]
Health = Annotated[
    str, typer.Option(envvar="POINTSMAN_HEALTH", help="The health monitor, host:port.", show_default=False)
]


def providers(
    provider: Name = "",
    timeout: opt.Timeout = 10.0,
    health: Health = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Show the health of every provider and model."""
    with reporting(as_json):
        endpoint = find("health", health, token)
    with reporting(as_json, str(endpoint)):
        states = asyncio.run(_call(endpoint, provider, timeout))
        if as_json:
            fields = {"providers": [asdict(state) for state in states]}
            sys.stdout.write(json.dumps(fields, ensure_ascii=False) + "\n")
        else:
            out_console().print(table(states))


async def _call(endpoint: Endpoint, provider: str, timeout: float) -> tuple[ProviderState, ...]:
    async with client(HealthClient, endpoint, timeout) as connected:
        return await connected.list_providers(provider)


def table(states: Sequence[ProviderState]) -> Table:
    """One line per provider, its models below it. A percentage beside the circuit is the share of traffic that a
    recovering one gets."""
    made = plain_table("provider / model", "status", "circuit", "errors", "response", "why", wrap={"why"})
    for state in sorted(states, key=lambda each: (each.provider, each.model)):
        circuit = words(state.circuit) + (f" {state.ramp:.0%}" if 0 < state.ramp < 1 else "")
        reason = state.reason if state.mode == "automatic" else f"{state.mode}: {state.reason}"
        made.add_row(
            Text(f"{state.provider}\n  {state.model}") if state.model else Text(state.provider, "bold cyan"),
            Text(state.status, _COLORS.get(state.status, "dim")),
            Text(circuit, "" if state.circuit == "closed" else "red"),
            f"{state.error_rate:.0%} of {state.calls:,}" if state.calls else "—",
            seconds(state.response_time),
            Text(printable(reason)),
        )
    return made
