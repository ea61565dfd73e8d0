"""`pointsman history` and `pointsman undo`: what operators have changed, and taking it back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from msgspec import to_builtins
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.control import call_control
from cli.failure import reporting
from cli.layout import Column, Kind, Table
from cli.loop import run
from cli.render import printable, words
from cli.terminal import console, write_json
from libs.change import Change
from libs.client import HistoryClient
from libs.clock import SystemClock

#: Seconds between two looks of --watch, and how far back each reaches: changes arrive a moment late.
_LOOK, _REACH = 1.0, 600.0
#: Changes that are shown.
_MOST = 1000

Name = Annotated[str, typer.Argument(help="Only of this provider, or provider/model.", show_default=False)]
OfKind = Annotated[
    str,
    typer.Option("--kind", help="Only this: mode, windows, failovers, limit, set_aside.", show_default=False),
]
Since = Annotated[str, typer.Option(help="From then on: 7d, 12h, 30m ago, or an ISO date.")]
Watch = Annotated[bool, typer.Option("--watch", help="Go on with what is changed from now on.")]
ChangeId = Annotated[str, typer.Argument(help="The change's id, as `pointsman history` shows it.")]


def history(
    name: Name = "",
    kind: OfKind = "",
    since: Since = "30d",
    watch: Watch = False,
    timeout: opt.Timeout = 10.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Show what operators, and rules in their name, have changed: who, when, why, before and after."""
    clock = SystemClock()
    with reporting(as_json):
        start = opt.parse_time(since, clock.now(), UTC, "--since")
        endpoint = find("analytics", analytics, token)
    with reporting(as_json, str(endpoint)):
        found = run(_list(endpoint, timeout, kind, name, start))
        if watch:
            _write_lines(found[::-1], as_json)
            run(_watch(endpoint, timeout, kind, name, {change.change_id for change in found}, as_json))
        elif as_json:
            write_json({"changes": [fields(change) for change in found]})
        elif found:
            console().print(table(found))
        else:
            console().print("No changes.")


def undo(
    change: ChangeId,
    reason: opt.Reason,
    by: opt.By = "",
    timeout: opt.Timeout = 10.0,
    health: opt.Health = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Take a change back, unless the thing was changed since; this is a change too."""
    with reporting(as_json):
        who, endpoint = opt.author(by), find("health", health, token)
    with reporting(as_json, str(endpoint)):
        made = run(call_control(endpoint, timeout, lambda c: c.undo(change, who, reason)))
    if as_json:
        write_json({"change": fields(made)})
    else:
        console().print(table([made]))


async def _list(endpoint: Endpoint, timeout: float, kind: str, name: str, since: float) -> tuple[Change, ...]:
    async with client(HistoryClient, endpoint, timeout) as connected:
        return await connected.list_changes(kind=kind, name=name, since=since, most=_MOST)


async def _watch(
    endpoint: Endpoint, timeout: float, kind: str, name: str, shown: set[str], as_json: bool
) -> None:
    """Writes each new change once, until interrupted."""
    async with client(HistoryClient, endpoint, timeout) as connected:
        while True:
            await asyncio.sleep(_LOOK)
            since = SystemClock().now() - _REACH
            found = await connected.list_changes(kind=kind, name=name, since=since, most=_MOST)
            _write_lines([each for each in found[::-1] if each.change_id not in shown], as_json)
            shown |= {each.change_id for each in found}


def _write_lines(found: Sequence[Change], as_json: bool) -> None:
    for change in found:
        if as_json:
            write_json(fields(change))
        else:
            when = f"{datetime.fromtimestamp(change.at, UTC):%Y-%m-%d %H:%M:%S}"
            console().print(
                printable(
                    f"{when} {change.author}: {_thing(change)} {_steps(change)} ({change.reason}) {change.change_id}"
                )
            )


def fields(change: Change) -> dict[str, Any]:
    """Returns the change for programs: what was before and after as objects, null where there was nothing."""
    before, after = (json.loads(text) if text else None for text in (change.before, change.after))
    return {**to_builtins(change), "before": before, "after": after}


def table(found: Sequence[Change]) -> Table:
    """Returns the table of changes."""
    grid = Table(
        Column("id", Kind.WHOLE),
        Column("when (UTC)", Kind.WHOLE),
        Column("who", Kind.NAME),
        Column("what", Kind.NAME),
        Column("change", Kind.SENTENCE),
        Column("why", Kind.SENTENCE),
    )
    for change in found:
        grid.add_row(
            Text(change.change_id, "cyan"),
            f"{datetime.fromtimestamp(change.at, UTC):%Y-%m-%d %H:%M:%S}",
            printable(change.author),
            printable(_thing(change)),
            _steps(change),
            printable(f"undoes {change.undoes}: {change.reason}" if change.undoes else change.reason),
        )
    return grid


def _thing(change: Change) -> str:
    return f"{words(change.kind)} of {change.name}"


def _steps(change: Change) -> str:
    return f"{_words(change, change.before)} → {_words(change, change.after)}"


def _words(change: Change, text: str) -> str:
    """Returns a setting in few words; of one that is not known here its JSON."""
    setting = json.loads(text) if text else {}
    match change.kind:
        case "mode":
            share = f" at {setting['share']:.0%}" if "share" in setting else ""
            return f"{setting.get('mode', 'automatic')}{share}"
        case "windows" | "failovers":
            count = len(setting.get(change.kind, ()))
            return f"{count or 'no'} {change.kind.removesuffix('s') if count == 1 else change.kind}"
        case _:
            return printable(text or "nothing")
