"""`pointsman alerts`: quotas, spend, errors and reliability that somebody should look at, and what is done about
them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from msgspec import to_builtins
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.csv_table import write_table
from cli.failure import CliError, reporting
from cli.layout import Column, Kind, Table, Value
from cli.loop import run
from cli.render import printable, seconds, words
from cli.terminal import console, write_json
from libs.client import Alert, AlertClient, Silence
from libs.clock import Clock, SystemClock

_Result = TypeVar("_Result")
KINDS = (
    *("budget_threshold", "burn_fast", "burn_slow", "exhaustion_likely", "exhausted"),
    *("reconciliation_difference", "spend_anomaly", "error_anomaly", "reliability_drop"),
)
SEVERITIES = ("info", "warning", "critical")
_FIGURES = (
    *("id", "kind", "severity", "subject", "sentence", "raised", "cleared", "standing", "amount", "unit"),
    *("expected", "high", "limit", "percent", "burn rate", "acknowledged by", "silenced"),
)
_STYLES = {"critical": "bold red", "warning": "yellow"}

Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="Only where the subject has this, e.g. tenant=acme; repeat for more.",
        show_default=False,
    ),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Only this kind, e.g. spend_anomaly; repeat for more.", show_default=False),
]
AtLeast = Annotated[
    str, typer.Option("--severity", help="At least this: info, warning, critical.", show_default=False)
]
Since = Annotated[
    str, typer.Option(help="Also those that are over, raised in this time: 7d, 12h, 30m.", show_default=False)
]
AlertId = Annotated[str, typer.Argument(help="The alert's id, as `pointsman alerts` shows it.")]
SilenceId = Annotated[str, typer.Argument(help="The silence's id, as `pointsman alerts silences` shows it.")]
Note = Annotated[str, typer.Option(help="A word for others.", show_default=False)]
Matchers = Annotated[
    list[str],
    typer.Argument(help="What alerts must have: tenant=acme, kind=burn_slow, severity=info, ..."),
]
For = Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d.")]
Reason = Annotated[str, typer.Option(help="Why.")]


def build() -> typer.Typer:
    """Returns the command with its subcommands."""
    app = typer.Typer(help="Show alerts, acknowledge and silence them.", invoke_without_command=True)
    app.callback()(alerts)
    app.command("ack")(acknowledge)
    for command in (silence, silences, unsilence):
        app.command()(command)
    return app


def alerts(
    context: typer.Context,
    where: Where = None,
    kind: Kinds = None,
    severity: AtLeast = "",
    since: Since = "",
    timeout: opt.Timeout = 10.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_csv: opt.Csv = False,
    as_json: opt.Json = False,
) -> None:
    """Show alerts that stand: quotas, spend, errors, reliability, and differences from the ledger."""
    if context.invoked_subcommand is not None:
        return
    clock = SystemClock()
    with reporting(as_json):
        opt.check_format(as_csv=as_csv, as_json=as_json)
        subject = _pairs(where or [], "--where")
        for name in kind or []:
            _check(name, KINDS, "--kind")
        if severity:
            _check(severity, SEVERITIES, "--severity")
        start = opt.parse_time(since, clock.now(), UTC, "--since") if since else None
        endpoint = find("analytics", analytics, token)
    with reporting(as_json, str(endpoint)):
        found = _call(
            endpoint,
            timeout,
            lambda c: c.list_alerts(subject, kinds=kind or (), severity=severity, since=start),
        )
        if as_json:
            write_json({"alerts": [to_builtins(alert) for alert in found]})
        elif as_csv:
            write_table(figures(found), as_csv=True)
        elif found:
            console().print(table(found, clock))
        else:
            console().print("No alerts.")


def acknowledge(
    alert: AlertId,
    note: Note = "",
    by: opt.By = "",
    timeout: opt.Timeout = 10.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Say that you look after an alert; the first word stands."""
    with reporting(as_json):
        endpoint = find("analytics", analytics, token)
    with reporting(as_json, str(endpoint)):
        found = _call(endpoint, timeout, lambda c: c.acknowledge(alert, opt.author(by), note))
        if as_json:
            write_json({"alert": to_builtins(found)})
        else:
            console().print(f"{printable(found.acknowledged_by)} looks after it: {printable(found.sentence)}")


def silence(
    matchers: Matchers,
    duration: For = "2h",
    reason: Reason = "",
    by: opt.By = "",
    timeout: opt.Timeout = 10.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Keep alerts from being sent for a time; they are shown all the same."""
    clock = SystemClock()
    with reporting(as_json):
        wanted = _pairs(matchers, "MATCHERS")
        now = clock.now()
        until = 2 * now - opt.parse_time(duration, now, UTC, "--for")
        if not reason:
            raise CliError("--reason: say why, for those who come later")
        endpoint = find("analytics", analytics, token)
    with reporting(as_json, str(endpoint)):
        made = _call(endpoint, timeout, lambda c: c.silence(wanted, until, opt.author(by), reason))
        if as_json:
            write_json({"silence": to_builtins(made)})
        else:
            console().print(silence_table([made]))


def silences(
    timeout: opt.Timeout = 10.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_csv: opt.Csv = False,
    as_json: opt.Json = False,
) -> None:
    """Show the silences that are in force or to come."""
    with reporting(as_json):
        opt.check_format(as_csv=as_csv, as_json=as_json)
        endpoint = find("analytics", analytics, token)
    with reporting(as_json, str(endpoint)):
        found = _call(endpoint, timeout, lambda c: c.silences())
        if as_json:
            write_json({"silences": [to_builtins(one) for one in found]})
        elif as_csv:
            write_table(silence_table(found), as_csv=True)
        elif found:
            console().print(silence_table(found))
        else:
            console().print("No silences.")


def unsilence(
    silence_id: SilenceId,
    timeout: opt.Timeout = 10.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """End a silence."""
    with reporting(as_json):
        endpoint = find("analytics", analytics, token)
    with reporting(as_json, str(endpoint)):
        _call(endpoint, timeout, lambda c: c.delete_silence(silence_id))
        if as_json:
            write_json({"ended": silence_id})
        else:
            console().print("The silence has ended.")


def _call(endpoint: Endpoint, timeout: float, ask: Callable[[AlertClient], Awaitable[_Result]]) -> _Result:
    async def work() -> _Result:
        async with client(AlertClient, endpoint, timeout) as connected:
            return await ask(connected)

    return run(work())


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Returns name=value pairs. Raises CliError for what is none."""
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise CliError(f"{option}: {text!r} is not like tenant=acme")
        if name in found:
            raise CliError(f"{option}: {name!r} is given twice")
        found[name] = value
    return found


def _check(word: str, known: Sequence[str], option: str) -> None:
    if word not in known:
        raise CliError(f"{option}: {word!r} is none of {', '.join(known)}")


def table(found: Sequence[Alert], clock: Clock) -> Table:
    """Returns the table of alerts; those that stand have the colour of their severity."""
    grid = Table(
        Column("id", Kind.WHOLE),
        Column("severity", Kind.WHOLE),
        Column("alert", Kind.SENTENCE),
        Column("raised", Kind.SENTENCE),
    )
    for alert in found:
        grid.add_row(
            Text(alert.alert_id, "cyan"),
            Text(words(alert.severity), _STYLES.get(alert.severity, "") if alert.standing else "dim"),
            printable(alert.sentence),
            printable(_raised(alert, clock.now())),
        )
    return grid


def figures(found: Sequence[Alert]) -> Table:
    """Returns the table of alerts for programs, with a column for each of their figures."""
    grid = Table(*map(Column, _FIGURES))
    for alert in found:
        grid.add_row(
            *(alert.alert_id, alert.kind, alert.severity),
            " ".join([f"{name}={value}" for name, value in sorted(alert.subject.items())]),
            alert.sentence,
            *map(_instant, (alert.raised, alert.cleared)),
            Value("", int(alert.standing)),
            *(Value("", alert.amount), alert.unit),
            *(Value("", amount) for amount in (alert.expected, alert.high)),
            *(Value("", amount) for amount in (alert.limit, alert.percent or None, alert.burn_rate)),
            alert.acknowledged_by,
            Value("", int(alert.silenced)),
        )
    return grid


def _instant(at: float | None) -> Value:
    return Value("", None if at is None else datetime.fromtimestamp(at, UTC).isoformat())


def _raised(alert: Alert, now: float) -> str:
    parts = [f"{seconds(max(0.0, now - alert.raised))} ago"]
    if alert.cleared is not None:
        parts.append(f"over after {seconds(alert.cleared - alert.raised)}")
    elif not alert.standing:
        parts.append("over with its window")
    if alert.acknowledged_by:
        parts.append(f"{alert.acknowledged_by} looks after it")
    if alert.silenced:
        parts.append("silenced")
    return ", ".join(parts)


def silence_table(found: Sequence[Silence]) -> Table:
    """Returns the table of silences."""
    grid = Table(
        Column("id", Kind.NAME),
        Column("alerts", Kind.NAME),
        Column("until", Kind.WHOLE),
        Column("by", Kind.NAME),
        Column("why", Kind.SENTENCE),
    )
    for one in found:
        grid.add_row(
            Text(one.silence_id, "cyan"),
            printable(" ".join([f"{name}={value}" for name, value in sorted(one.matchers.items())])),
            Value(f"{datetime.fromtimestamp(one.until, UTC):%Y-%m-%d %H:%M} UTC", _instant(one.until).value),
            printable(one.by),
            printable(one.reason),
        )
    return grid
