"""The screen of the stack: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cli.layout import Column, Kind, Table
from cli.terminal import Flow, console, write_sentence
from dev.supervisor import MemberStatus

_STYLES = {"serving": "green", "restarting": "yellow", "starting": "yellow", "stopped": "dim"}


class Screen:
    """Prints sentences, and from `live` on keeps a table of the members below them."""

    def __init__(self, to: Console | None = None) -> None:
        self._console = to or console()

    def write_sentence(self, sentence: str) -> None:
        """Writes one line."""
        write_sentence(self._console, sentence)

    def print(self, what: RenderableType) -> None:
        """Prints anything that rich can render."""
        self._console.print(what)

    def flow(self) -> Flow:
        """Returns a writer of a text that comes in by parts."""
        return Flow(self._console)

    async def live(self, statuses: Sequence[MemberStatus]) -> None:
        """Keeps the table current on a terminal; elsewhere the sentences are enough. Never returns."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            await asyncio.Event().wait()
        with Live(_picture(statuses), console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(_picture(statuses), refresh=True)
                    await asyncio.sleep(0.5)
            finally:
                live.update(Text(""), refresh=True)


def _picture(statuses: Sequence[MemberStatus]) -> Group:
    return Group(Text("Pointsman · Ctrl-C stops everything", "italic"), table(statuses))


def table(statuses: Sequence[MemberStatus]) -> Table:
    """Returns the table with one row per member."""
    grid = Table(
        Column(""),
        *(Column(name) for name in ("address", "state")),
        *(Column(name, Kind.FIGURE) for name in ("restarts", "pid")),
        Column("log", Kind.NAME),
    )
    for status in statuses:
        member = status.member
        grid.add_row(
            member.name,
            member.address,
            Text(status.state, _STYLES.get(status.state, "")),
            str(status.restarts or ""),
            Text(str(member.child.pid) if member.child.running else "", "dim"),
            Text(os.path.relpath(member.child.log), "dim"),
        )
    return grid
