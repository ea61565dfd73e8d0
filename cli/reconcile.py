"""`pointsman reconcile`: a provider's bill against the ledger."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.bill import MAX_BYTES, Bill, read_bill
from cli.csv_table import write_table
from cli.differences import Cause, Difference, Recorded, compare
from cli.failure import CliError, reporting
from cli.layout import Column, Kind, Table, Value
from cli.loop import run
from cli.question import parse_zone
from cli.render import money_cell
from cli.terminal import console, write_json, write_sentence
from libs.client import CostClient, CostGroup, CostInterval, CostRow

#: Days of a bill, at most, and those of one question: an answer has 10,000 rows at most.
MAX_DAYS, DAYS_AT_ONCE = 400, 31

File = Annotated[Path, typer.Argument(help="The usage or cost export (CSV) of the provider's console.")]
Provider = Annotated[str, typer.Argument(help="The provider's name in the catalog.")]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="BILL=LEDGER: the ledger's name of a model that the bill calls otherwise; repeat for more.",
        show_default=False,
    ),
]
Zone = Annotated[str, typer.Option(help="IANA time zone of the bill's days.")]
Everything = Annotated[bool, typer.Option("--all", help="Also days and models without a difference.")]


def reconcile(
    provider: Provider,
    file: File,
    model: Names = None,
    time_zone: Zone = "UTC",
    everything: Everything = False,
    timeout: opt.Timeout = 60.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_csv: opt.Csv = False,
    as_json: opt.Json = False,
) -> None:
    """Compare a provider's own usage export with the ledger, by day and model, with causes."""
    with reporting(as_json):
        opt.check_format(as_csv=as_csv, as_json=as_json)
        endpoint = find("analytics", analytics, token)
        names = dict(_name_pair(text) for text in model or ())
        zone = parse_zone(time_zone)
        bill = read_bill(_content(file), zone)
        if not bill.rows:
            raise CliError("the export has no row of a model")
        days = sorted({day for day, _ in bill.rows})
        if (days[-1] - days[0]).days >= MAX_DAYS:
            raise CliError(
                f"the export spans {(days[-1] - days[0]).days + 1} days, at most {MAX_DAYS} are compared"
            )
    with reporting(as_json, str(endpoint)):
        recorded = run(_recorded(endpoint, provider, days[0], days[-1], zone, timeout))
        found = compare(bill.rows, recorded, names)
        if as_json:
            rows = [_fields(row) for row in found]
            told = {"export": bill.kind, "time_zone": time_zone, "repeated_lines": bill.repeated}
            write_json({"provider": provider, **told, "rows": rows})
        elif as_csv:
            write_table(table(found), as_csv=True)
        else:
            _show(bill, found, time_zone, everything=everything)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise CliError(f"cannot read {file}: {error.strerror or error}") from None


def _name_pair(text: str) -> tuple[str, str]:
    theirs, separator, ours = text.partition("=")
    if not separator or not theirs or not ours:
        raise CliError(f"--model: {text!r} is not of the form BILL=LEDGER")
    return theirs, ours


async def _recorded(
    endpoint: Endpoint, provider: str, first: date, last: date, zone: ZoneInfo, timeout: float
) -> dict[tuple[date, str], Recorded]:
    """Returns what the ledger holds of the provider, by day and model."""
    rows: list[CostRow] = []
    async with client(CostClient, endpoint, timeout) as connected:
        while first <= last:
            following = min(first + timedelta(DAYS_AT_ONCE), last + timedelta(1))
            costs = await connected.get_costs(
                [CostGroup.MODEL],
                since=_midnight(first, zone),
                until=_midnight(following, zone),
                interval=CostInterval.DAY,
                time_zone=zone.key,
                provider=provider,
            )
            rows += costs.rows
            first = following
    found: dict[tuple[date, str], Recorded] = {}
    for row in rows:
        key = (
            datetime.fromtimestamp(row.bucket or 0, zone).date(),
            row.group[0].removeprefix(f"{provider}/"),
        )
        found[key] = found.get(key, Recorded()) + Recorded(
            row.attempts,
            row.usage.input_tokens,
            row.usage.output_tokens,
            row.usage.cache_read_tokens,
            row.usage.cache_write_tokens,
            row.usage.reasoning_tokens,
            row.cost_micro_usd,
            row.estimated_micro_usd + row.uncertain_micro_usd,
        )
    return found


def _midnight(day: date, zone: ZoneInfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def _show(bill: Bill, found: list[Difference], time_zone: str, *, everything: bool) -> None:
    shown = [row for row in found if everything or row.cause is not Cause.NONE]
    out = console()
    if shown:
        out.print(table(shown))
    same = len(found) - sum(row.cause is not Cause.NONE for row in found)
    write_sentence(out, f"{same} of {len(found)} days and models agree ({bill.kind}, days in {time_zone}).")
    if bill.repeated:
        write_sentence(
            out, f"{bill.repeated:,} lines of the export repeat earlier ones and were counted too."
        )


def table(rows: list[Difference]) -> Table:
    """Returns the table with one line per day and model."""
    grid = Table(
        Column("day"),
        Column("model", Kind.NAME),
        Column("billed", Kind.FIGURE),
        Column("ledger", Kind.FIGURE),
        Column("difference", Kind.FIGURE),
        Column("tokens", Kind.FIGURE),
        Column("cause", Kind.SENTENCE),
    )
    for row in rows:
        grid.add_row(
            row.day.isoformat(),
            Text(row.model, "cyan"),
            money_cell(None if row.billed is None else row.billed.cost_micro_usd),
            money_cell(None if row.recorded is None else row.recorded.cost_micro_usd),
            money_cell(row.cost_micro_usd),
            Value("—" if row.tokens is None else f"{row.tokens:+,}" if row.tokens else "0", row.tokens),
            Text(str(row.cause), "" if row.cause is Cause.NONE else "yellow"),
        )
    return grid


def _fields(row: Difference) -> dict[str, Any]:
    return {
        "day": row.day.isoformat(),
        "model": row.model,
        "cause": row.cause.name.lower(),
        "tokens_difference": row.tokens,
        "cost_difference_micro_usd": row.cost_micro_usd,
        "billed": None if row.billed is None else {n: getattr(row.billed, n) for n in row.billed.__slots__},
        "ledger": None
        if row.recorded is None
        else {n: getattr(row.recorded, n) for n in row.recorded.__slots__},
    }
