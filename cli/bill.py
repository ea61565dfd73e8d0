"""A provider's own account of what was used, read from the CSV that its console exports.

Exports differ in the names of their columns and in what they count: some give all prompt tokens and the cached ones
among them, others count each kind apart. A `Layout` says so once for each export; which one a file has is told by its
heading. Rows of one day and model, of whatever key or project, are added up. How numbers are written is
`cli.amounts`' matter.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, tzinfo

from cli.amounts import DecimalMark, decimal_mark, read_amount
from cli.bill_layouts import LAYOUTS, PLAIN, Layout, Names
from cli.failure import CliError

#: Bytes and rows of an export, at most.
MAX_BYTES = 256 * 2**20
MAX_ROWS = 1_000_000
#: Years of a day of use.
_YEARS = range(1970, 2200)


@dataclass(frozen=True, slots=True)
class Billed:
    """A provider's figures of one day and model. `input_tokens` are all of the prompt's, cached ones among them;
    money in micro-USD, `credits_micro_usd` the part of the cost that is below 0. None: the export does not say."""

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_micro_usd: int | None = None
    credits_micro_usd: int | None = None

    def __add__(self, other: Billed) -> Billed:
        return Billed(*(_sum(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Bill:
    """An export: its kind, and what it says by (day, the provider's name of the model). `repeated`: lines that stand
    in it word for word more than once; they count as often."""

    kind: str
    rows: Mapping[tuple[date, str], Billed]
    repeated: int = 0


_CURRENCIES = ("amountcurrency", "currency", "currencycode")
#: The name of a model in that of an article of Google's: "Gemini 2.5 Flash Lite Text Input - Predictions".
_GEMINI = re.compile(r"gemini (\d+(?:\.\d+)?) (pro|flash|ultra|nano)(?: (lite|8b))?\b")
NO_MODEL = "(no model)"


def read_bill(content: bytes, zone: tzinfo = UTC) -> Bill:
    """Reads an export; `zone`: in which instants have their day. Raises CliError for one that is too large, is no
    CSV, has columns that tell too little, or a row that is wrong."""
    if len(content) > MAX_BYTES:
        raise CliError(f"the export has {len(content)} bytes or more, at most {MAX_BYTES} are read")
    try:
        return _read(_Sheet(content), zone)
    except UnicodeDecodeError:
        raise CliError("the export is not UTF-8 text") from None
    except csv.Error as error:
        raise CliError(f"the export is no CSV: {error}") from None


class _Sheet:
    """The lines of a CSV file, from the heading on, as often as they are asked for."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        self._encoding = "utf-16" if wide else "utf-8-sig"
        #: Lines before the heading: empty ones, and the one that tells a spreadsheet the delimiter.
        self._before = 0
        first = ""
        for line in self._lines():
            first = line
            if line.strip() and not line.lower().startswith("sep="):
                break
            self._before += 1
        self.delimiter = max(",;\t", key=first.count)

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """Yields the cells of each line that has some, and where it is."""
        lines = self._lines()
        for _ in range(self._before):
            next(lines)
        reader = csv.reader(lines, delimiter=self.delimiter)
        for cells in reader:
            if cells:
                yield f"line {self._before + reader.line_num}", cells

    def _lines(self) -> Iterator[str]:
        return iter(io.TextIOWrapper(io.BytesIO(self._content), self._encoding, newline=""))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The places of a layout's columns in a file. `figures`: those of each figure of `Layout.counted`; None: the file
    has none."""

    layout: Layout
    day: int
    model: int
    figures: tuple[tuple[int, ...] | None, ...]
    currency: int | None
    mark: DecimalMark

    def billed(self, cells: Sequence[str], where: str) -> Billed:
        """Returns the figures of a row. Raises CliError."""
        found: list[int | None] = []
        for places in self.figures:
            scale = 1_000_000 if len(found) == len(self.figures) - 1 else 1
            found.append(
                None
                if places is None
                else sum(read_amount(cells[place], self.mark, scale, where) for place in places)
            )
        requests, prompt, output, read, write, cost = found
        if self.layout.cached_apart and prompt is not None:
            prompt += (read or 0) + (write or 0)
        credit = cost if cost is not None and cost < 0 else None
        if cost and self.currency is not None:
            currency = cells[self.currency].strip()
            if currency.lower() not in ("", "usd", "$"):
                raise CliError(f"{where}: the cost is in {currency[:8]!r}, the ledger's in US dollars")
        return Billed(requests, prompt, output, read, write, cost, credit)


def _read(sheet: _Sheet, zone: tzinfo) -> Bill:
    lines = sheet.rows()
    _, heading = next(lines, ("", []))
    columns = _columns(heading, sheet)
    rows: dict[tuple[date, str], Billed] = {}
    seen: set[int] = set()
    repeated = 0
    for number, (where, found) in enumerate(lines, 1):
        if number > MAX_ROWS:
            raise CliError(f"the export has more than {MAX_ROWS:,} rows")
        if any(cell.strip() for cell in found[len(heading) :]):
            raise CliError(
                f"{where}: it has more cells than the heading; are numbers with commas not quoted?"
            )
        cells = [*found, *[""] * (len(heading) - len(found))]
        billed = columns.billed(cells, where)
        name = _model(columns.layout, cells[columns.model])
        if not name and not any(getattr(billed, f.name) for f in fields(billed)):
            # Days on which nothing was used have rows without a model.
            continue
        line = hash(tuple(cells))
        repeated += line in seen
        seen.add(line)
        key = (_day(cells[columns.day], where, zone), name or NO_MODEL)
        rows[key] = rows[key] + billed if key in rows else billed
    return Bill(columns.layout.kind, rows, repeated)


def _columns(heading: Sequence[str], sheet: _Sheet) -> _Columns:
    names = [re.sub(r"[\s_.()\[\]$-]", "", name.lower()) for name in heading]
    layout = _layout_of(names)
    chosen = [next(name for name in wanted if name in names) for wanted in (layout.day, layout.model)]
    figures = [_chosen(wanted, names) for wanted in layout.counted]
    used = [*chosen, *(name for found in figures for name in found or ())]
    twice = [name for name, times in Counter(names).items() if times > 1 and name in used]
    if twice:
        raise CliError(f"the export has two columns {heading[names.index(twice[0])].strip()!r}")
    places = [None if found is None else tuple(map(names.index, found)) for found in figures]
    whole = [place for found in places[:-1] for place in found or ()]
    rows = sheet.rows()
    next(rows)
    return _Columns(
        layout,
        names.index(chosen[0]),
        names.index(chosen[1]),
        tuple(places),
        next((names.index(name) for name in _CURRENCIES if name in names), None),
        decimal_mark((cells for _, cells in rows), whole, places[-1] or (), sheet.delimiter),
    )


def _chosen(wanted: Names, names: Sequence[str]) -> tuple[str, ...] | None:
    """Returns the columns whose sum is the figure; None: the file has none."""
    for one in wanted:
        found = tuple(name for name in ((one,) if isinstance(one, str) else one) if name in names)
        if found:
            return found
    return None


def _layout_of(names: Sequence[str]) -> Layout:
    for layout in (*LAYOUTS, PLAIN):
        cached = _chosen(layout.cache_read, names) or _chosen(layout.cache_write, names)
        if (
            (cached or not layout.cached_apart)
            and (not layout.mark or layout.mark in names)
            and any(name in names for name in layout.day)
            and any(name in names for name in layout.model)
            and any(_chosen(wanted, names) for wanted in layout.counted)
        ):
            return layout
    raise CliError(
        "the export's columns are not known: it needs one with the day (date), one with the model, and at least one "
        "of input_tokens, output_tokens, requests, cost_usd",
        problems=tuple(sorted(names)[:20]),
    )


def _model(layout: Layout, text: str) -> str:
    if layout.kind == "OpenAI costs":
        # "gpt-4o-2024-08-06, input": a line for each kind of token.
        return text.partition(",")[0].strip()
    if layout.kind == "Google Cloud costs" and (found := _GEMINI.search(text.lower().replace("-", " "))):
        return "-".join(["gemini", *filter(None, found.groups())])
    return text.strip()


def _day(text: str, where: str, zone: tzinfo) -> date:
    """Returns the day of a date, an instant, or seconds or milliseconds since the epoch."""
    text = text.strip()
    try:
        if text.isascii() and text.isdigit() and len(text) > 8:
            seconds = int(text) / (1000 if len(text) > 11 else 1)
            day = datetime.fromtimestamp(seconds, zone).date()
        else:
            found = datetime.fromisoformat(text)
            day = (found.astimezone(zone) if found.tzinfo is not None else found).date()
    except (ValueError, OverflowError, OSError):
        day = date.min
    if day.year not in _YEARS:
        raise CliError(f"{where}: {text[:40]!r} is not a date such as 2026-11-30")
    return day


def _sum(a: int | None, b: int | None) -> int | None:
    if a is None:
        return b
    return a if b is None else a + b
