"""`pointsman quotas`: every limit and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.csv_table import write_table
from cli.failure import reporting
from cli.layout import Column, Kind, Table, Value
from cli.loop import run
from cli.render import count_cell, money, money_cell, seconds, seconds_cell, words
from cli.terminal import write_json
from libs.client import QuotaClient, QuotaForecast, QuotaState
from libs.clock import Clock, SystemClock

Scopes = Annotated[
    list[str] | None,
    typer.Argument(help='Only these scopes, e.g. "tenant:acme" "provider:openai".', show_default=False),
]
Ratelimit = Annotated[
    str, typer.Option(envvar="POINTSMAN_RATELIMIT", help="The rate limiter, host:port.", show_default=False)
]


Forecast = Annotated[
    bool,
    typer.Option(
        "--forecast", help="Also say whether each limit will be used up before it resets, and when."
    ),
]


def quotas(
    scopes: Scopes = None,
    forecast: Forecast = False,
    timeout: opt.Timeout = 10.0,
    ratelimit: Ratelimit = "",
    token: opt.Token = "",
    as_csv: opt.Csv = False,
    as_json: opt.Json = False,
) -> None:
    """Show every limit with its present use."""
    with reporting(as_json):
        opt.check_format(as_csv=as_csv, as_json=as_json)
        endpoint = find("ratelimit", ratelimit, token)
    with reporting(as_json, str(endpoint)):
        states, coming = run(_call(endpoint, scopes or [], timeout, forecast=forecast))
        if as_json:
            fields: dict[str, object] = {"quotas": [to_builtins(state) for state in states]}
            if forecast:
                fields["forecasts"] = [to_builtins(found) for found in coming.values()]
            write_json(fields)
        else:
            write_table(table(states, SystemClock(), coming if forecast else None), as_csv=as_csv)


_ABBREVIATED = {"second": "s", "minute": "min", "hour": "h"}


Forecasts = Mapping[tuple[str, str, str], QuotaForecast]


async def _call(
    endpoint: Endpoint, scopes: Sequence[str], timeout: float, *, forecast: bool
) -> tuple[tuple[QuotaState, ...], Forecasts]:
    async with client(QuotaClient, endpoint, timeout) as connected:
        states = await connected.list_quotas(scopes)
        found = {
            (s.scope, s.unit, s.period): await connected.forecast(s.scope, s.unit, s.period)
            for s in states
            # Slots come and go; a limit that is only learned is none that could be forecast.
            if forecast and s.period and s.learned is None
        }
        return states, found


def table(states: Sequence[QuotaState], clock: Clock, coming: Forecasts | None = None) -> Table:
    """Returns the table of limits: money as dollars, reset as time from now. `coming`: forecasts, None: not asked
    for."""
    learned = (Column("learned", Kind.SENTENCE),) if any(state.learned for state in states) else ()
    grid = Table(
        Column("scope", Kind.NAME),
        Column("limit", Kind.NAME),
        *(Column(name, Kind.FIGURE) for name in ("used", "in flight", "left")),
        Column("whole in"),
        *learned,
        *(() if coming is None else (Column("used up"),)),
    )
    for state in states:
        left = _cell(state, state.remaining)
        low = not state.shadow and state.limit > 0 and state.remaining * 10 < state.limit
        grid.add_row(
            Text(state.scope, "cyan"),
            _limit(state),
            _cell(state, state.used),
            _cell(state, state.outstanding),
            Value(Text(_amount(state, state.remaining), "red" if low else "green"), left.value),
            seconds_cell(max(0.0, state.reset - clock.now()) if state.reset is not None else None),
            *(_learned(state, clock) for _ in learned),
            *(() if coming is None else (_forecast(coming.get((state.scope, state.unit, state.period))),)),
        )
    return grid


def _forecast(found: QuotaForecast | None) -> str:
    """Returns the probability that it will be used up, and the time until then."""
    if found is None:
        return ""
    when = f" in {seconds(found.p50)}" if found.p50 is not None else ""
    return f"{found.probability:.0%}{when}"


def _cell(state: QuotaState, value: int) -> Value:
    return money_cell(value) if state.unit == "micro_usd" else count_cell(value)


def _amount(state: QuotaState, value: int) -> str:
    return money(value) if state.unit == "micro_usd" else f"{value:,}"


def _learned(state: QuotaState, clock: Clock) -> str:
    """Returns the limit that the provider states, its source, the confidence in it and its age."""
    learned = state.learned
    if learned is None:
        return ""
    ago = seconds(max(0.0, clock.now() - learned.seen))
    return f"{_amount(state, learned.limit)} by {learned.source}, {learned.confidence:.0%}, {ago} ago"


def _limit(state: QuotaState) -> str:
    unit = "" if state.unit == "micro_usd" else f" {words(state.unit)}"
    period = f"/{_ABBREVIATED.get(state.period, state.period)}" if state.period else ""
    marks = [word for word, is_so in (("shadow", state.shadow), ("paced", state.pace)) if is_so]
    return f"{_amount(state, state.limit)}{unit}{period}" + (f" ({', '.join(marks)})" if marks else "")
