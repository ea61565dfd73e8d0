"""What the person at the terminal sees: a live table there, plain lines anywhere else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dev.supervisor import Life

_STYLES = {"serving": "green", "restarting": "yellow", "starting": "yellow", "stopped": "dim"}


class Screen:
    """Prints sentences, and once told to keeps a table of the members below them."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live: Live | None = None

    def say(self, sentence: str) -> None:
        """One line."""
        self._console.print(Text(sentence), soft_wrap=True)

    def print(self, what: RenderableType) -> None:
        """Anything rich can render."""
        self._console.print(what)

    def write(self, text: str) -> None:
        """Text without a line end, as it comes in."""
        self._console.print(Text(text), end="", soft_wrap=True)

    async def live(self, lives: Sequence[Life]) -> None:
        """For ever: keep the table current where a person looks on; elsewhere the sentences have said it all."""
        if not self._console.is_terminal:
            await asyncio.Event().wait()
        with Live(table(lives), console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(table(lives), refresh=True)
                    await asyncio.sleep(0.5)
            finally:
                live.update(Text(""), refresh=True)


def table(lives: Sequence[Life]) -> Table:
    """One row per member."""
    grid = Table(box=None, padding=(0, 2), title="Pointsman · Ctrl-C stops everything", title_justify="left")
    for column in ("", "address", "state", "restarts", "pid", "log"):
        grid.add_column(column, style="dim" if column in {"pid", "log"} else "")
    for life in lives:
        member = life.member
        grid.add_row(
            member.name,
            member.address,
            Text(life.state, _STYLES.get(life.state, "")),
            str(life.restarts or ""),
            str(member.child.pid) if member.child.running else "",
            os.path.relpath(member.child.log),
        )
    return grid
