"""The batch half of `pointsman generate`: read, check, run, sum up."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

from cli.addresses import Endpoint, client
from cli.batch import GRACE, Batch, Pace
from cli.failure import FAILED, INTERRUPTED, CliError
from cli.journal import Journal
from cli.progress import BatchProgress
from cli.record import Outcome
from cli.rows import Row, read_rows
from cli.tally import Run, Tally
from cli.template import Template, TemplateError
from cli.terminal import console, write_json, write_sentence
from libs.client import Client, Options
from libs.clock import Clock, SystemClock
from libs.errors import PointsmanError


def generate_many(
    *,
    endpoint: Endpoint,
    input_file: Path,
    output: Path,
    template: str,
    image_field: str,
    options: Options,
    concurrency: int,
    timeout: float,
    max_wait: float,
    retry_failed: bool,
    as_json: bool,
    rng: random.Random,
    clock: Clock | None = None,
) -> int:
    """Generates every row of the input that the output does not hold yet. Returns the exit status. Everything that
    can be wrong with files and options is found before anything is sent. Raises CliError and PointsmanError."""
    rows = read_rows(input_file, _template(template), options.get("content_type", ""), image_field)
    if output.exists() and os.path.samefile(input_file, output):
        raise CliError("--input and --output are the same file")
    connected = client(Client, endpoint, timeout)
    pace = Pace(concurrency, timeout, max_wait)
    with Journal.open(output, rows, rng, retry_failed=retry_failed) as journal:
        clock = clock or SystemClock()
        started = clock.monotonic()
        tally = Tally()
        stopped, failure = False, None
        try:
            stopped = asyncio.run(_run(connected, journal, rows, options, pace, rng, tally, as_json))
        except (PointsmanError, CliError) as error:
            failure = error
        run = Run(
            tally=tally,
            rows=len(rows),
            skipped=len(journal.done),
            kept_failures=journal.kept_failures,
            elapsed=clock.monotonic() - started,
            run_id=journal.run_id,
            output=str(output),
        )
    return _conclude(run, stopped, failure, as_json)


def _conclude(run: Run, stopped: bool, failure: Exception | None, as_json: bool) -> int:
    """Shows the closing table. Returns the exit status, or raises what ended the run."""
    if as_json:
        write_json(run.to_json())
    elif run.tally.succeeded or run.tally.failed or failure is None:
        console().print(run.render())
    if run.remaining and not as_json and (stopped or run.skipped or run.tally.succeeded or run.tally.failed):
        left = f"{run.remaining} of {run.rows} rows are left. Run the same command again to go on."
        write_sentence(console(sys.stderr), left)
    if failure is not None:
        raise failure
    if stopped and run.remaining:
        return INTERRUPTED
    return FAILED if run.tally.failed or run.kept_failures else 0


async def _run(
    connected: Client,
    journal: Journal,
    rows: list[Row],
    options: Options,
    pace: Pace,
    rng: random.Random,
    tally: Tally,
    as_json: bool,
) -> bool:
    """Runs the batch with its progress shown. Returns True if it was stopped early."""
    if len(journal.done) == len(rows):
        return False
    progress = BatchProgress(console(sys.stderr), len(rows), len(journal.done), quiet=as_json)

    def on_done(outcome: Outcome) -> None:
        tally.add(outcome)
        progress.advance(tally)

    async with connected:
        await connected.ready(pace.ready)
        batch = Batch(connected, journal, options, pace, rng, on_done)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            if not batch.stopped:
                progress.print_line(f"Stopping: rows under way get {GRACE:g} s; Ctrl-C again drops them.")
            batch.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            with progress:
                if journal.done:
                    progress.print_line(
                        f"Going on: {len(journal.done)} of {len(rows)} rows were done before."
                    )
                await batch.run(rows)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return batch.stopped


def _template(argument: str) -> Template | None:
    """Returns the template given, or that of the file it names. Raises CliError."""
    if not argument:
        return None
    text = argument
    if "{" not in argument or (len(argument) < 4096 and Path(argument).is_file()):
        try:
            text = Path(argument).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CliError(
                f"--template: neither a text with {{fields}} nor a readable file: {error}"
            ) from None
    try:
        return Template(text)
    except TemplateError as error:
        raise CliError(f"--template: {error}") from None
