"""The failure of a command: one clear sentence (or one JSON object) on stderr, and an exit status that scripts can
use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.text import Text

from cli.terminal import console, write_json, write_sentence
from libs.errors import InvalidArgument, PointsmanError, ResourceExhausted

#: A call, or a row of a batch, failed.
FAILED = 1
#: The command cannot be carried out as given; nothing was sent.
BAD_USE = 2
#: Ended by Ctrl-C (128 + SIGINT).
INTERRUPTED = 130


class CliError(Exception):
    """The command cannot go on. `problems` are shown one per line below the message."""

    def __init__(self, message: str, *, code: int = BAD_USE, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.problems = problems


def error_fields(error: PointsmanError) -> dict[str, Any]:
    """Returns the JSON shape of an error. `retry_after` in seconds, null where unknown; `violations` by field or by
    quota dimension."""
    fields: dict[str, Any] = {
        "type": type(error).__name__,
        "reason": error.reason,
        "message": error.message,
        "retry_after": error.retry_after,
    }
    if error.metadata:
        fields["metadata"] = error.metadata
    if isinstance(error, InvalidArgument):
        fields["violations"] = [{"field": v.field, "description": v.description} for v in error.violations]
    if isinstance(error, ResourceExhausted):
        fields["violations"] = [
            {"subject": v.subject, "description": v.description, "limit": v.limit} for v in error.violations
        ]
    return fields


def show_error(message: str, details: tuple[str, ...] = ()) -> None:
    """Writes a failure for a person to stderr."""
    out = console(sys.stderr)
    write_sentence(out, Text.assemble(("error: ", "bold red"), message))
    for line in details:
        write_sentence(out, f"  {line}")


def show_json_error(fields: dict[str, Any], code: int) -> None:
    """Writes a failure for a program to stderr: `{"error": {…}, "exit_code": n}`."""
    write_json({"error": fields, "exit_code": code}, sys.stderr)


@contextmanager
def reporting(as_json: bool, server: str = "") -> Iterator[None]:
    """Turns every expected failure of a command into its report and exit status. `server` names the service that was
    called, for the sentence on how to start it."""
    try:
        yield
    except KeyboardInterrupt:
        if as_json:
            show_json_error({"type": "Interrupted", "reason": "INTERRUPTED", "message": "interrupted"}, 130)
        raise typer.Exit(INTERRUPTED) from None
    except CliError as error:
        _show_bad_use(error, as_json=as_json)
        raise typer.Exit(error.code) from None
    except UnicodeEncodeError:
        # Python gives bytes of the command line that are no text as half characters, which no message can hold.
        wrong = CliError("an option has bytes that are no text in UTF-8")
        _show_bad_use(wrong, as_json=as_json)
        raise typer.Exit(wrong.code) from None
    except PointsmanError as error:
        if as_json:
            show_json_error(error_fields(error), FAILED)
        else:
            show_error(*describe(error, server))
        raise typer.Exit(FAILED) from None


def _show_bad_use(error: CliError, *, as_json: bool) -> None:
    if not as_json:
        show_error(error.message, error.problems)
        return
    fields: dict[str, Any] = {"type": "CliError", "reason": "BAD_USE", "message": error.message}
    if error.problems:
        fields["problems"] = list(error.problems)
    show_json_error(fields, error.code)


def describe(error: PointsmanError, server: str = "") -> tuple[str, tuple[str, ...]]:
    """Returns an error as a sentence and details for a person."""
    if error.reason in {"TRANSPORT_UNAVAILABLE", "UNREACHABLE"} and server:
        return f"{server} does not answer; start the local stack with `make run`", (error.message,)
    details = [f"reason: {error.reason}"]
    if error.retry_after is not None:
        details.append(f"may be tried again in {error.retry_after:.3g} s")
    if isinstance(error, InvalidArgument):
        return "the request is wrong", (*(f"{v.field}: {v.description}" for v in error.violations), *details)
    if isinstance(error, ResourceExhausted):
        details += [f"{v.subject}: {v.description}" for v in error.violations]
    return error.message, tuple(details)
