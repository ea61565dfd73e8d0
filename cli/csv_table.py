"""Writes a table for people or, as CSV, for spreadsheets and programs."""

from __future__ import annotations

import csv
import sys
from typing import Any

from rich.text import Text

from cli.layout import Table
from cli.terminal import console, write_sentence

#: A spreadsheet would take a text that begins so for a formula. Labels are in callers' hands.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_table(table: Table, below: Text | None = None, *, as_csv: bool) -> None:
    """Writes the table, for people with a sentence below it. As CSV (RFC 4180, with a line of headings) it has the
    values: money in US dollars, durations in seconds, shares from 0 to 1, instants in ISO 8601, nothing where there
    is none; without the total, and with an apostrophe before texts that look like formulas."""
    if not as_csv:
        out = console()
        out.print(table)
        if below is not None:
            write_sentence(out, below)
        return
    rows = csv.writer(sys.stdout, lineterminator="\r\n")
    rows.writerow([column.name for column in table.columns])
    for values in table.values:
        rows.writerow([_harmless(value) for value in values])
    sys.stdout.flush()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
