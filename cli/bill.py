"""A provider's own account of what was used, read from the CSV that its console exports.

Exports differ in the names of their columns and in what they count: some give all prompt tokens and the cached ones
among them, others count each kind apart. A `_Layout` says so once for each export; which one a file has is told by
its heading. Rows of one day and model, of whatever key or project, are added up.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from cli.failure import CliError

#: Bytes and rows of an export, at most.
MAX_BYTES = 64 * 2**20
MAX_ROWS = 1_000_000
#: No provider bills more than this in a row; larger numbers are a column taken for another.
MAX_AMOUNT = 10**15


@dataclass(frozen=True, slots=True)
class Billed:
    """A provider's figures of one day and model. `input_tokens` are all of the prompt's, cached ones among them;
    money in micro-USD. None: the export does not say."""

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_micro_usd: int | None = None

    def __add__(self, other: Billed) -> Billed:
        return Billed(*(_sum(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Bill:
    """An export: its kind, and what it says by (day in UTC, the provider's name of the model)."""

    kind: str
    rows: Mapping[tuple[date, str], Billed]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns of one export. Of `day` and `model` the first that the file has counts; of the others all that it
    has are added up. `cached_apart`: prompt tokens are counted without the cached ones."""

    kind: str
    day: Sequence[str]
    model: Sequence[str]
    requests: Sequence[str] = ()
    input: Sequence[str] = ()
    output: Sequence[str] = ()
    cache_read: Sequence[str] = ()
    cache_write: Sequence[str] = ()
    cost: Sequence[str] = ()
    cached_apart: bool = False

    @property
    def counted(self) -> tuple[str, ...]:
        """Returns the columns that are added up."""
        return (
            *self.requests,
            *self.input,
            *self.output,
            *self.cache_read,
            *self.cache_write,
            *self.cost,
        )


#: In order: the first whose day, model and one of whose counts a heading has is the one.
_LAYOUTS = (
    _Layout(
        "Anthropic usage",
        day=("usage_date_utc",),
        model=("model_version", "model"),
        input=("usage_input_tokens_no_cache",),
        output=("usage_output_tokens",),
        cache_read=("usage_input_tokens_cache_read",),
        cache_write=(
            "usage_input_tokens_cache_write",
            "usage_input_tokens_cache_write_5m",
            "usage_input_tokens_cache_write_1h",
        ),
        cached_apart=True,
    ),
    _Layout("Anthropic costs", day=("usage_date_utc",), model=("model_version", "model"), cost=("cost_usd",)),
    _Layout(
        "OpenAI costs",
        day=("start_time_iso", "start_time"),
        model=("line_item",),
        cost=("amount_value",),
    ),
    _Layout(
        "OpenAI usage",
        day=("start_time_iso", "start_time"),
        model=("model",),
        requests=("num_model_requests",),
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read=("input_cached_tokens",),
    ),
    _Layout(
        "OpenAI activity",
        day=("start_time", "usage_date", "date", "timestamp"),
        model=("model",),
        requests=("n_requests", "num_requests"),
        input=("n_context_tokens_total", "context_tokens"),
        output=("n_generated_tokens_total", "generated_tokens"),
        cache_read=("n_cached_context_tokens_total", "cached_context_tokens"),
        cost=("amount",),
    ),
    _Layout(
        "usage with input_tokens apart from cached ones",
        day=("date", "day", "usage_date", "timestamp"),
        model=("model",),
        requests=("requests", "request_count", "num_requests"),
        input=("input_tokens",),
        output=("output_tokens",),
        cache_read=("cache_read_input_tokens",),
        cache_write=("cache_creation_input_tokens",),
        cost=("cost_usd", "cost", "amount_usd", "amount"),
        cached_apart=True,
    ),
)
#: The same names without cached tokens of their own, or with those among the prompt's.
_PLAIN = _Layout(
    "usage",
    day=("date", "day", "usage_date", "timestamp", "created", "start_time"),
    model=("model",),
    requests=("requests", "request_count", "num_requests"),
    input=("input_tokens", "prompt_tokens"),
    output=("output_tokens", "completion_tokens"),
    cache_read=("cache_read_tokens", "cached_tokens", "input_cached_tokens"),
    cache_write=("cache_write_tokens",),
    cost=("cost_usd", "cost", "amount_usd", "amount"),
)


def read_bill(content: bytes) -> Bill:
    """Reads an export. Raises CliError for one that is too large, is no CSV, has columns that tell too little, or a
    row that is wrong."""
    if len(content) > MAX_BYTES:
        raise CliError(f"the export has {len(content)} bytes, at most {MAX_BYTES} are read")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CliError("the export is not UTF-8 text") from None
    heading, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=heading.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        names = {name.strip().lower(): name for name in reader.fieldnames or () if name}
        layout = _layout_of(names)
        day, model = (next(names[n] for n in found if n in names) for found in (layout.day, layout.model))
        rows: dict[tuple[date, str], Billed] = {}
        for number, row in enumerate(reader, 1):
            if number > MAX_ROWS:
                raise CliError(f"the export has more than {MAX_ROWS:,} rows")
            where = f"line {reader.line_num}"
            name = (row.get(model) or "").strip()
            if layout.kind == "OpenAI costs":
                # "gpt-4o-2024-08-06, input": a line for each kind of token.
                name = name.partition(",")[0].strip()
            if not name:
                # Days on which nothing was used have rows without a model.
                continue
            key = (_day(row.get(day) or "", where), name)
            rows[key] = rows.get(key, Billed()) + _billed(layout, names, row, where)
    except csv.Error as error:
        raise CliError(f"the export is no CSV: {error}") from None
    return Bill(layout.kind, rows)


def _layout_of(names: Mapping[str, str]) -> _Layout:
    for layout in (*_LAYOUTS, _PLAIN):
        cached = not layout.cached_apart or any(
            name in names for name in (*layout.cache_read, *layout.cache_write)
        )
        if (
            cached
            and any(name in names for name in layout.day)
            and any(name in names for name in layout.model)
            and any(name in names for name in layout.counted)
        ):
            return layout
    raise CliError(
        "the export's columns are not known: it needs one with the day (date), one with the model, and at least one "
        "of input_tokens, output_tokens, requests, cost_usd",
        problems=tuple(sorted(names)[:20]),
    )


def _billed(layout: _Layout, names: Mapping[str, str], row: Mapping[str, str | None], where: str) -> Billed:
    def total(columns: Sequence[str], scale: int = 1) -> int | None:
        found = [names[name] for name in columns if name in names]
        if not found:
            return None
        return sum(_amount(row.get(name) or "0", name, where, scale) for name in found)

    cache_read, cache_write = total(layout.cache_read), total(layout.cache_write)
    prompt = total(layout.input)
    if layout.cached_apart and prompt is not None:
        prompt += (cache_read or 0) + (cache_write or 0)
    return Billed(
        total(layout.requests),
        prompt,
        total(layout.output),
        cache_read,
        cache_write,
        total(layout.cost, 1_000_000),
    )


def _amount(text: str, column: str, where: str, scale: int) -> int:
    cleaned = text.strip().replace(",", "").removeprefix("$") or "0"
    try:
        amount = Decimal(cleaned) * scale
        if not abs(amount) <= MAX_AMOUNT:
            raise InvalidOperation
        return round(amount)
    except InvalidOperation:
        raise CliError(f"{where}: {column} is not a number: {text.strip()[:40]!r}") from None


def _day(text: str, where: str) -> date:
    """Returns the day in UTC of a date, an instant, or seconds since the epoch."""
    text = text.strip()
    try:
        if text.isascii() and text.isdigit() and len(text) > 8:
            return datetime.fromtimestamp(int(text), UTC).date()
        found = datetime.fromisoformat(text)
        return (found.astimezone(UTC) if found.tzinfo is not None else found).date()
    except (ValueError, OverflowError, OSError):
        raise CliError(f"{where}: {text[:40]!r} is not a date such as 2026-11-30") from None


def _sum(a: int | None, b: int | None) -> int | None:
    if a is None:
        return b
    return a if b is None else a + b
