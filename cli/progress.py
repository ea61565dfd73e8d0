"""Progress of a batch on stderr: a bar on a terminal, plain lines elsewhere, nothing where it would disturb."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from cli.render import money
from cli.tally import Tally
from cli.terminal import write_sentence

#: The number of lines in all, about, where there is no terminal.
_LINES = 20


class BatchProgress:
    """Shows how far the rows are. `quiet`: shows nothing."""

    def __init__(self, console: Console, total: int, done: int, *, quiet: bool = False) -> None:
        self._console = console
        self._total = total
        self._done = done
        self._every = max(1, (total - done) // _LINES)
        self._quiet = quiet
        self._bar: Progress | None = None
        if console.is_terminal and not quiet:
            self._bar = Progress(
                BarColumn(bar_width=None),
                MofNCompleteColumn(table_column=Column(no_wrap=True)),
                TextColumn("{task.fields[figures]}", table_column=Column(overflow="fold")),
                TimeRemainingColumn(compact=True, elapsed_when_finished=True),
                console=console,
            )
            self._task = self._bar.add_task("", total=total, completed=done, figures="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, tally: Tally) -> None:
        """Shows one row more."""
        self._done += 1
        figures = f"{tally.failed} failed, {tally.failovers} failovers"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, figures=figures)
        elif not self._quiet and (self._done % self._every == 0 or self._done == self._total):
            self.print_line(f"{self._done}/{self._total} done, {figures}, {money(tally.cost_micro_usd)}")

    def print_line(self, message: str) -> None:
        """Prints a line of its own."""
        if not self._quiet:
            write_sentence(self._console, message)
