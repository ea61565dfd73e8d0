"""`pointsman windows`: maintenance windows, in which a provider or a model is not called."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.text import Text

from cli import options as opt
from cli.addresses import find
from cli.control import call_control
from cli.failure import CliError, reporting
from cli.layout import Column, Kind, Table
from cli.loop import run
from cli.render import printable, seconds
from cli.terminal import console, write_json
from libs.client import MaintenanceWindow
from libs.clock import SystemClock
from libs.zones import load_zone

From = Annotated[str, typer.Option("--from", help="When it begins: an ISO date and time, or now.")]
Until = Annotated[str, typer.Option("--to", help="When it ends.", show_default=False)]
For = Annotated[str, typer.Option("--for", help="Or how long it lasts: 30m, 2h, 1d.", show_default=False)]
Zone = Annotated[str, typer.Option(help="The IANA time zone of --from and --to.")]
Weekly = Annotated[
    bool, typer.Option("--weekly", help="Every week at the same time, by the clocks of the zone.")
]
Drain = Annotated[str, typer.Option(help="No new calls for so long before, so that running ones end.")]
WindowId = Annotated[str, typer.Argument(help="The window's id, as `pointsman windows` shows it.")]
Provider = Annotated[str, typer.Argument(help="Only of this provider.", show_default=False)]


def build() -> typer.Typer:
    """Returns the command with its subcommands."""
    app = typer.Typer(help="Show, add and remove maintenance windows.", invoke_without_command=True)

    @app.callback()
    def every(
        context: typer.Context,
        timeout: opt.Timeout = 10.0,
        health: opt.Health = "",
        token: opt.Token = "",
        as_json: opt.Json = False,
    ) -> None:
        if context.invoked_subcommand is None:
            list_windows("", timeout, health, token, as_json)

    app.command("list")(list_windows)
    app.command("add")(add)
    app.command("remove")(remove)
    return app


def list_windows(
    provider: Provider = "",
    timeout: opt.Timeout = 10.0,
    health: opt.Health = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Show the windows that are not over, the next one first."""
    with reporting(as_json):
        endpoint = find("health", health, token)
    with reporting(as_json, str(endpoint)):
        found = run(call_control(endpoint, timeout, lambda c: c.list_windows(provider)))
    if as_json:
        write_json({"windows": [to_builtins(window) for window in found]})
    elif found:
        console().print(table(found))
    else:
        console().print("No windows.")


def add(
    target: opt.Target,
    reason: opt.Reason,
    starts: From = "now",
    ends: Until = "",
    duration: For = "",
    zone: Zone = "UTC",
    weekly: Weekly = False,
    drain: Drain = "0s",
    by: opt.By = "",
    timeout: opt.Timeout = 10.0,
    health: opt.Health = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Add a window: no new calls to a provider or a model from its begin to its end."""
    with reporting(as_json):
        provider, model = opt.split_target(target, "TARGET")
        window = _window(provider, model, reason, starts, ends, duration, zone, weekly, drain)
        who, endpoint = opt.author(by), find("health", health, token)
    with reporting(as_json, str(endpoint)):
        added, change = run(call_control(endpoint, timeout, lambda c: c.add_window(window, who)))
    if as_json:
        write_json({"window": to_builtins(added), "change": to_builtins(change)})
    else:
        console().print(table([added]))


def remove(
    window: WindowId,
    reason: opt.Reason,
    by: opt.By = "",
    timeout: opt.Timeout = 10.0,
    health: opt.Health = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Remove a window; one in force ends."""
    with reporting(as_json):
        who, endpoint = opt.author(by), find("health", health, token)
    with reporting(as_json, str(endpoint)):
        change = run(call_control(endpoint, timeout, lambda c: c.remove_window(window, who, reason)))
    if as_json:
        write_json({"change": to_builtins(change)})
    else:
        console().print("The window is removed.")


def _window(
    provider: str,
    model: str,
    reason: str,
    starts: str,
    ends: str,
    duration: str,
    zone: str,
    weekly: bool,
    drain: str,
) -> MaintenanceWindow:
    """Raises CliError."""
    place = load_zone(zone)
    if place is None:
        raise CliError(f"--zone: {zone!r} is no IANA time zone")
    if bool(ends) == bool(duration):
        raise CliError("say either --to or --for")
    now = SystemClock().now()
    begin = now if starts == "now" else _instant(starts, place, "--from")
    end = _instant(ends, place, "--to") if ends else begin + opt.parse_duration(duration, "--for")
    return MaintenanceWindow(
        provider, model, begin, end, reason, zone, weekly, opt.parse_duration(drain, "--drain")
    )


def _instant(text: str, zone: tzinfo, option: str) -> float:
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        raise CliError(f"{option}: {text!r} is no ISO date and time, such as 2027-01-31T22:00") from None


def table(found: Sequence[MaintenanceWindow]) -> Table:
    """Returns the table of windows, in the time zone of each."""
    grid = Table(
        Column("id", Kind.WHOLE),
        Column("provider / model", Kind.NAME),
        Column("from", Kind.WHOLE),
        Column("to", Kind.WHOLE),
        Column("drain"),
        Column("why", Kind.SENTENCE),
    )
    for window in found:
        zone = load_zone(window.time_zone) or UTC
        name = f"{window.provider}/{window.model}" if window.model else window.provider
        begin, end = (
            f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M}" for at in (window.starts, window.ends)
        )
        grid.add_row(
            Text(window.window_id, "cyan"),
            printable(name),
            f"{begin}{', weekly' if window.weekly else ''}",
            f"{end} {window.time_zone}",
            seconds(window.drain),
            printable(window.reason),
        )
    return grid
