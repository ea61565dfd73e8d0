"""`pointsman forecast`: spend, tokens or requests to come, and when limits will be outgrown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.console import Group, RenderableType
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.csv_table import write_table
from cli.failure import CliError, reporting
from cli.layout import Column, Kind, Table, Value
from cli.loop import run
from cli.question import parse_zone
from cli.render import count_cell, money, money_cell, seconds, words
from cli.terminal import console, write_json
from libs.client import (
    ForecastBacktest,
    ForecastClient,
    ForecastGroup,
    ForecastLimit,
    ForecastMeasure,
    ForecastPlan,
    ForecastQuestion,
    ForecastRow,
    Forecasts,
    LimitForecast,
    ModelReplacement,
    PlannedModel,
    QuotaClient,
    QuotaState,
)
from libs.clock import SystemClock
from libs.limits import Scope, ScopeKind, scope_of

Measure = Annotated[ForecastMeasure, typer.Option(help="The amount to forecast.", case_sensitive=False)]
By = Annotated[
    ForecastGroup | None,
    typer.Option(help="Also forecast each of these.", show_default=False, case_sensitive=False),
]
Until = Annotated[
    str,
    typer.Option(help="Until when, at most 92 days ahead: 2026-11-30.", show_default="the end of the month"),
]
Zone = Annotated[str, typer.Option(help="IANA time zone of days, months and dates.")]
Tenant = Annotated[str, typer.Option(help="Only this tenant.", show_default=False)]
Provider = Annotated[str, typer.Option(help="Only this provider.", show_default=False)]
Limits = Annotated[
    bool, typer.Option("--limits", help="Also say when each limit will be used up or outgrown.")
]
Growth = Annotated[
    float | None, typer.Option(help="What if all traffic grew by this factor?", show_default=False)
]
Without = Annotated[
    list[str] | None, typer.Option(help="What if this provider were lost? Repeatable.", show_default=False)
]
Price = Annotated[
    list[str] | None,
    typer.Option(
        help='What if prices changed by a factor? "provider/model=0.5", repeatable.', show_default=False
    ),
]
Replace = Annotated[
    list[str] | None,
    typer.Option(
        help='What if a model were replaced? "provider/model=provider/model", repeatable.', show_default=False
    ),
]
Ratelimit = Annotated[
    str, typer.Option(envvar="POINTSMAN_RATELIMIT", help="The rate limiter, host:port.", show_default=False)
]
_ABOUT_LIMITS = (
    "Limits: the highest peak so far; the chance that this day's or month's is used up, and in what time; the days "
    "until a peak first reaches it, with 10 to 90 %."
)
#: Limits of one question.
_MOST_LIMITS = 100


def forecast(
    measure: Measure = ForecastMeasure.COST,
    by: By = None,
    until: Until = "",
    time_zone: Zone = "UTC",
    tenant: Tenant = "",
    provider: Provider = "",
    limits: Limits = False,
    growth: Growth = None,
    without: Without = None,
    price: Price = None,
    replace: Replace = None,
    timeout: opt.Timeout = 60.0,
    analytics: opt.Analytics = "",
    ratelimit: Ratelimit = "",
    token: opt.Token = "",
    as_csv: opt.Csv = False,
    as_json: opt.Json = False,
) -> None:
    """Forecast spend, tokens or requests, with 80 % intervals, as things are or under a what-if."""
    with reporting(as_json):
        opt.check_format(as_csv=as_csv, as_json=as_json)
        endpoint = find("analytics", analytics, token)
        limiter = find("ratelimit", ratelimit, token) if limits else None
        zone = parse_zone(time_zone)
        end = opt.parse_time(until, SystemClock().now(), zone, "--until") if until else None
        plan = parse_plan(growth, without or [], price or [], replace or [])
    with reporting(as_json, str(endpoint)):
        question = ForecastQuestion(measure, by, tenant, provider, "", time_zone, end, (), plan)
        found = run(_call(endpoint, limiter, question, timeout))
        if as_json:
            write_json({"measure": measure, "by": by, **to_builtins(found)})
        else:
            rows = found.planned or found.rows
            if as_csv:
                chosen = limits_table(found.limits) if limits else table(rows, measure, by)
                write_table(chosen, as_csv=True)
            else:
                console().print(report(found, measure, by, zone))


async def _call(
    endpoint: Endpoint, limiter: Endpoint | None, question: ForecastQuestion, timeout: float
) -> Forecasts:
    if limiter is not None:
        async with client(QuotaClient, limiter, timeout) as quotas:
            limits = compared(await quotas.list_quotas(), question)
        question = ForecastQuestion(
            *(question.measure, question.by, question.tenant, question.provider, question.model),
            *(question.time_zone, question.until, limits, question.plan),
        )
    async with client(ForecastClient, endpoint, timeout) as connected:
        return await connected.get_forecast(question)


def compared(states: Iterable[QuotaState], question: ForecastQuestion) -> tuple[ForecastLimit, ...]:
    """Returns the limits that analytics can compare with use: not those of which the question's tenant or provider
    has a part only. Raises CliError where they are too many for a question."""
    found = tuple(
        ForecastLimit(state.scope, state.unit, state.period, state.limit, state.time_zone)
        for state in states
        if _is_whole(scope_of(state.scope), question) and state.period and state.limit > 0
    )
    if len(found) > _MOST_LIMITS:
        raise CliError(f"--limits: there are {len(found)} limits, at most {_MOST_LIMITS} can be compared")
    return found


def _is_whole(scope: Scope, question: ForecastQuestion) -> bool:
    if scope.kind is ScopeKind.TENANT:
        return question.tenant in ("", scope.name) and not question.provider
    if scope.kind is ScopeKind.PROVIDER:
        return question.provider in ("", scope.name) and not question.tenant
    of_provider = not question.provider or scope.name.startswith(f"{question.provider}/")
    return scope.kind is ScopeKind.MODEL and of_provider and not question.tenant


def parse_plan(
    growth: float | None, without: Sequence[str], prices: Sequence[str], replacements: Sequence[str]
) -> ForecastPlan | None:
    """Returns the what-if of the options; None: there is none. Raises CliError."""
    if growth is None and not (without or prices or replacements):
        return None
    factors = []
    for text in prices:
        name, _, factor = text.rpartition("=")
        try:
            factors.append((_model(name), float(factor)))
        except ValueError:
            raise CliError(f"--price: {text!r} is not provider/model=factor") from None
    moved = []
    for text in replacements:
        old, _, new = text.partition("=")
        try:
            moved.append(ModelReplacement(_model(old), _model(new, whole=True)))
        except ValueError:
            raise CliError(f"--replace: {text!r} is not provider/model=provider/model") from None
    return ForecastPlan(1.0 if growth is None else growth, tuple(without), tuple(factors), tuple(moved))


def _model(text: str, *, whole: bool = False) -> PlannedModel:
    """Reads "provider" or "provider/model", `whole`: the latter only. Raises ValueError."""
    provider, _, model = text.partition("/")
    if not provider or (whole and not model):
        raise ValueError(text)
    return PlannedModel(provider, model)


def report(
    found: Forecasts, measure: ForecastMeasure, by: ForecastGroup | None, zone: tzinfo
) -> RenderableType:
    """Returns the tables and what they are made from."""
    until, as_of = (datetime.fromtimestamp(at, zone) for at in (found.until, found.as_of))
    parts: list[RenderableType] = [table(found.rows, measure, by)]
    if found.planned:
        parts += [Text("what if", "bold"), table(found.planned, measure, by)]
    if found.limits:
        parts.append(limits_table(found.limits))
    notes = [
        f"{words(measure).capitalize()}, from {found.history_days} days of history up to {as_of:%Y-%m-%d %H:%M %Z}.",
        f"Used: since the month began. Low, expected, high: that and what comes until {until:%Y-%m-%d %H:%M %Z}; "
        "80 % of what comes is between low and high.",
        "Error: of such forecasts in the past, against the week before again; below 1 is better. Inside: the share "
        "of what then came that was between low and high.",
    ]
    if any(row.too_short is not None for row in (*found.rows, *found.planned)):
        notes.append("Days in place of amounts: how many there are of those that a forecast needs.")
    if found.planned:
        notes.append("What if: what was used stays, the rest changes.")
    if found.limits:
        notes.append(_ABOUT_LIMITS)
    parts += [Text(note, "dim") for note in notes]
    return Group(*parts)


def table(rows: Sequence[ForecastRow], measure: ForecastMeasure, by: ForecastGroup | None) -> Table:
    """Returns one line for everything and for each group."""
    grid = Table(
        Column(words(by) if by is not None else "", Kind.NAME),
        *(Column(name, Kind.FIGURE) for name in ("used", "low", "expected", "high", "error", "inside")),
    )
    for i, row in enumerate(rows):
        name = Text("everything", "bold") if not i else Text(row.group or f"{row.others} others", "cyan")
        used = _cell(row.used, measure)
        if row.projection is None:
            short = row.too_short
            why = f"{short.days} of {short.needed} days" if short is not None else "—"
            grid.add_row(name, used, "", why, "", "", "")
            continue
        last, made = row.projection.totals[-1].amount, row.projection.backtest
        grid.add_row(
            name,
            used,
            *(_cell(amount, measure) for amount in (last.p10, last.p50, last.p90)),
            _ratio(made),
            Value("—" if made.coverage is None else f"{made.coverage:.0%}", made.coverage),
        )
    return grid


def limits_table(limits: Sequence[LimitForecast]) -> Table:
    """Returns one line for each limit."""
    grid = Table(
        Column("scope", Kind.NAME),
        Column("limit", Kind.NAME),
        Column("peak", Kind.FIGURE),
        Column("used up", Kind.NAME),
        Column("outgrown in", Kind.NAME),
    )
    for item in limits:
        limit = item.limit
        measure = ForecastMeasure.COST if limit.unit == "micro_usd" else ForecastMeasure.TOKENS
        unit = "" if measure is ForecastMeasure.COST else f" {words(limit.unit)}"
        grid.add_row(
            Text(limit.scope, "cyan"),
            f"{_amount(limit.limit, measure)}{unit}/{limit.period}",
            Value(f"{item.peak / limit.limit:.0%}", item.peak / limit.limit),
            _used_up(item),
            _outgrown(item),
        )
    return grid


def _used_up(item: LimitForecast) -> str:
    if item.probability is None:
        return "—"
    when = f" in {seconds(item.exhausted_p50)}" if item.exhausted_p50 is not None else ""
    return f"{item.probability:.0%}{when}"


def _outgrown(item: LimitForecast) -> str:
    """Returns the days until it is, from the quickest tenth to the slowest."""
    if item.too_short is not None:
        return f"{item.too_short.days} of {item.too_short.needed} days"
    if item.outgrown_days_p50 is None:
        early = item.outgrown_days_p10
        return "more than a year" if early is None else f"perhaps {early} days"
    late = "later" if item.outgrown_days_p90 is None else item.outgrown_days_p90
    return f"{item.outgrown_days_p50} days ({item.outgrown_days_p10} to {late})"


def _ratio(made: ForecastBacktest) -> Value:
    if not made.naive_error:
        return Value("—", None)
    return Value(f"{made.error / made.naive_error:.2f}", made.error / made.naive_error)


def _cell(amount: float, measure: ForecastMeasure) -> Value:
    return money_cell(round(amount)) if measure is ForecastMeasure.COST else count_cell(round(amount))


def _amount(amount: float, measure: ForecastMeasure) -> str:
    return money(round(amount)) if measure is ForecastMeasure.COST else f"{round(amount):,}"
