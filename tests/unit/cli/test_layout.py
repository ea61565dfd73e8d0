"""Every command's tables and texts at the width that there is."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text

from cli import alerts, costs, forecast, providers, quotas, select, terminal
from cli.layout import Column, Facts, Kind, Table, wrap
from cli.progress import BatchProgress
from cli.render import render_result
from cli.tally import ProviderTally, Run, Tally
from dev import screen
from dev.engines.child import Child
from dev.supervisor import MemberStatus
from libs.client import (
    Alert,
    Alternative,
    AmountBand,
    Attempt,
    CostGroup,
    CostInterval,
    CostRow,
    Costs,
    ForecastBacktest,
    ForecastGroup,
    ForecastLimit,
    ForecastMeasure,
    ForecastProjection,
    ForecastRow,
    ForecastTotal,
    HistoryTooShort,
    LimitForecast,
    ProviderState,
    QuotaForecast,
    QuotaState,
    Result,
    Selection,
    SelectionReason,
    SelectResult,
    SetAside,
    Silence,
)
from libs.client.operations import LearnedState
from libs.selection import Scores
from libs.types import ErrorClass, FinishReason, Usage
from tests.support.clock import ManualClock

WIDTHS = (40, 60, 80, 120)
MODEL = "anthropic.claude-haiku-4-5-20251001-v1:0"
QUOTA = QuotaState(
    *("tenant:northwind-traders-content-team", "tokens", "day", 20_000_000, 18_400_250, 48_553, 1_551_197),
    *(20_000_000, 1_312, 86_399.0, 0.0, "Europe/Vienna"),
    shadow=True,
    version=3,
    learned=LearnedState(12_345_678, 0.93, "headers", 0.0, 40),
    pace=True,
)
MONEY = QuotaState(
    *("global", "micro_usd", "month", 1_234_567_890, 48_553, 0, 1_234_519_337, 0, 0, None, None, "UTC"),
    shadow=False,
    version=0,
)
SPENT = CostRow(
    ("aws-bedrock-frankfurt", MODEL, "tenant-42"),
    *(1_782_856_800.0, 48_553, 1_000, 7, Usage(20_000_000, 1_234_567), 98_765, 43_210),
)
ANSWER = Result(
    request_id="req-0194f3a2-7b1c-7c55-9a0e-5d8f1c2b3a4d",
    text="A kettle that pours where you point it. Gooseneck, 0.9 l, 1,200 W, 40 to 100 °C.",
    selection=Selection(
        "aws-bedrock", MODEL, SelectionReason.COST, "cheapest of 12 that stay below $0.048553"
    ),
    attempts=(
        Attempt("1", "openai", "gpt", ErrorClass.RATE_LIMITED, http_status=429),
        Attempt("2", "aws-bedrock", MODEL),
    ),
    finish_reason=FinishReason.STOP,
    usage=Usage(20_000_000, 1_234, cache_read_tokens=1_000_000),
    cost_micro_usd=48_553,
    latency=61.0,
    time_to_first_token=0.25,
)


def selection() -> Table:
    """A choice, a fallback and one that may not be used."""
    scores = Scores(total=0.87)
    chosen = Selection(
        *("aws-bedrock", MODEL, SelectionReason.LOAD_BALANCE, "equals share within the tolerance of 5 %"),
        *(48_553, 61.0, 0.5, scores),
    )
    return select.table(
        SelectResult(chosen, (Alternative(chosen), Alternative(chosen, "context window of 8,192")))
    )


def health() -> Table:
    """A provider and a model of it that recovers."""
    part = ProviderState(
        provider="aws-bedrock",
        model=MODEL,
        status="healthy",
        circuit="closed",
        mode="automatic",
        reason="",
        error_rate=0.0,
        success_rate=1.0,
        calls=9,
        consecutive_failures=0,
        ramp=1.0,
        response_time=0.3,
        time_to_first_token=0.1,
        last_checked=None,
        open_until=None,
    )
    sick = replace(part, model="", status="degraded", circuit="half_open", error_rate=0.125, calls=1_234_567)
    whole = replace(sick, mode="maintenance", reason="until the certificate is renewed", ramp=0.25)
    return providers.table((whole, part))


def aside() -> Table:
    """A combination that is set aside."""
    name = f"shape:aws-bedrock/{MODEL}/json_schema+tools"
    item = SetAside(
        *(name, "shape", "aws-bedrock", MODEL, "", "", "", (), None),
        *("3 calls in a row: 400 unsupported response format", 0.0, 3_725.0, 1_024),
    )
    return providers.aside_table((item,), ManualClock())


def closing() -> RenderableType:
    """Returns the summary at the end of a batch."""
    tally = Tally(1_234_567, 89, 1_024, 3, 20_000_000, 98_765_432, 123_456_789_012)
    tally.providers["aws-bedrock-frankfurt"] = ProviderTally(1_234_567, 1_024, 20_000_000, 98_765_432, 48_553)
    tally.errors["ALL_PROVIDERS_FAILED"] = 89
    return Run(tally, 2_000_000, 100, 0, 3_725.0, "run-1", "out.jsonl").render()


class Alive(Child):
    """A process that runs, as far as the table can tell."""

    @property
    def pid(self) -> int:
        """Of nobody."""
        return 4_194_303

    @property
    def running(self) -> bool:
        """Always."""
        return True


class Member:
    """A member of the stack that serves."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.child = Alive(name, (), {}, Path(f".data/a-directory-with-a-long-name/logs/{name}.log"))

    async def start(self) -> None:
        """Does nothing."""

    async def stop(self, grace: float) -> None:
        """Does nothing."""


def members() -> Table:
    """Returns the table that `dev up` keeps current."""
    statuses = [
        MemberStatus(Member(name, f"127.0.0.1:1{port}"), "restarting", 12)
        for name, port in (("router", 7700),)
    ]
    return screen.table([*statuses, MemberStatus(Member("ratelimit", "127.0.0.1:15321"), "serving")])


def spent(by: list[CostGroup], interval: CostInterval | None) -> Table:
    """Two rows and their total."""
    row = CostRow(SPENT.group[: len(by)], *[getattr(SPENT, name) for name in SPENT.__slots__[1:]])
    return costs.table(Costs((row, row), row), by, interval, ZoneInfo("Europe/Vienna"))


FORECAST = QuotaForecast(QUOTA, 12.0, 0.73, 1.0, 3_725.0, 9.0)
ALERT = Alert(
    alert_id="0123456789abcdef0123",
    kind="spend_anomaly",
    severity="critical",
    subject={"tenant": "acme"},
    sentence="tenant acme: the last hour cost $31.00 where $9.00 is usual; model openai/gpt-4o is 100 % of the rise",
    raised=1_799_996_400.0,
    cleared=1_799_998_200.0,
    standing=False,
    as_of=1_799_998_200.0,
    amount=31_000_000,
    unit="micro_usd",
    span=3600.0,
    expected=9_000_000,
    high=18_000_000,
    movers=(),
    limit=None,
    window_start=None,
    percent=0,
    burn_rate=None,
    probability=None,
    acknowledged_by="ann",
    acknowledged_at=1_799_997_000.0,
    note="",
    silenced=True,
)
SILENCE = Silence(
    "t1800000000000000000abcdef012345", {"tenant": "acme"}, 1.8e9, 1.8e9 + 7200, "ann", "a planned load test"
)
BAND = AmountBand(1_234_567_890.0, 2_345_678_901.0, 13_456_789_012.0)
BACKTEST = ForecastBacktest(14, 12.0, 13.0, 0.79)
FORECASTS = [
    ForecastRow(
        name,
        0,
        987_654_321.0,
        ForecastProjection((ForecastTotal(0.0, BAND),), "levels", BACKTEST, (BAND,) * 24, "blend", BACKTEST),
        None,
    )
    for name in (None, "anthropic/claude-sonnet-4-5")
] + [ForecastRow(None, 17, 12_345.0, None, HistoryTooShort(3, 8))]
LIMIT = ForecastLimit("tenant:northwind-traders-content-team", "micro_usd", "month", 20_000_000_000)
OUTGROWN = [
    LimitForecast(LIMIT, 1.0, 19_000_000_000.0, 0.29, 3_725.0, 1.02, 3, 17, 140, None),
    LimitForecast(LIMIT, 1.0, 19_000_000_000.0, None, None, None, None, None, None, HistoryTooShort(9, 14)),
    LimitForecast(LIMIT, 1.0, 19_000_000_000.0, 0.0, None, 1.0, 12, None, None, None),
]
TABLES: dict[str, RenderableType] = {
    "quotas": quotas.table([QUOTA, MONEY], ManualClock()),
    "quotas --forecast": quotas.table(
        [QUOTA, MONEY], ManualClock(), {(QUOTA.scope, QUOTA.unit, QUOTA.period): FORECAST}
    ),
    "alerts": alerts.table([ALERT], ManualClock()),
    "alerts silences": alerts.silence_table([SILENCE]),
    "costs": spent([CostGroup.PROVIDER], None),
    "forecast": forecast.table(FORECASTS, ForecastMeasure.COST, ForecastGroup.MODEL),
    "forecast --limits": forecast.limits_table(OUTGROWN),
    "costs by three": spent([CostGroup.PROVIDER, CostGroup.MODEL, CostGroup.TENANT], CostInterval.HOUR),
    "select": selection(),
    "providers": health(),
    "set aside": aside(),
    "generate": render_result(ANSWER),
    "generate --input": closing(),
    "dev up": members(),
}


def shown(what: RenderableType, width: int) -> str:
    """Returns the text that a file gets, at that width."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(what)
    return out.getvalue()


def tokens(text: str) -> Counter[str]:
    """Words and figures. A figure keeps its separators: `20,000,000`, `0.048553`, `08:00`."""
    return Counter(re.findall(r"\d[\d.,:]*\d|\d|[^\W\d_]+", text))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", TABLES)
def test_nothing_is_cut_at_any_width(name: str, width: int) -> None:
    """Every word and figure that is there at 400 columns is there, whole; no line is longer than the terminal."""
    narrow, wide = shown(TABLES[name], width), shown(TABLES[name], 400)
    assert max(map(cell_len, narrow.splitlines())) <= width
    assert not tokens(wide) - tokens(narrow)
    assert "…" not in narrow


@pytest.mark.parametrize("width", WIDTHS)
def test_progress_of_a_batch_shows_all_its_figures(width: int) -> None:
    """The bar gives way, and the sentence wraps."""
    out = io.StringIO()
    to = Console(file=out, force_terminal=True, width=width, color_system=None)
    with BatchProgress(to, 100_000, 12_344) as progress:
        progress.advance(Tally(failed=1_234, failovers=5_678))
    last = out.getvalue().rpartition("\x1b[2K")[2]
    for figure in ("12345/100000", " 1234 ", " 5678 "):
        assert figure in last


@pytest.mark.parametrize("name", TABLES)
def test_a_pipe_gets_grids_of_lines(name: str) -> None:
    """At its width the headings stand in one line, so that rows can be compared."""
    table = TABLES[name]
    if isinstance(table, Table) and name not in {"costs by three", "quotas --forecast"}:
        lines = shown(table, terminal.PIPE_WIDTH).splitlines()
        assert any("─" in line for line in lines)


@given(st.lists(st.lists(st.text(max_size=40), min_size=3, max_size=3), max_size=4), st.integers(20, 130))
def test_no_character_is_lost_whatever_is_in_a_table(rows: list[list[str]], width: int) -> None:
    """Not in wide, combining or unbreakable texts either."""
    table = Table(Column("name", Kind.NAME), Column("said", Kind.SENTENCE), Column("n", Kind.NAME))
    for row in rows:
        table.add_row(*row)
    out = shown(table, width)
    assert all(cell_len(line) <= width for line in out.splitlines())
    given_characters = Counter(c for row in rows for cell in row for c in Text(cell).plain if not c.isspace())
    assert not given_characters - Counter(out)


def lines(texts: Iterable[Text]) -> list[str]:
    """Without style."""
    return [text.plain for text in texts]


def test_words_are_broken_after_separators_only_where_a_line_cannot_hold_them() -> None:
    """Never between two digits; a piece that is longer than a line is cut."""
    assert lines(wrap(Text("pay for gpt-4.1-mini"), 12)) == ["pay for", "gpt-4.1-mini"]
    assert lines(wrap(Text("pay for gpt-4.1-mini"), 9)) == ["pay for", "gpt-4.1-", "mini"]
    assert lines(wrap(Text("20,000,000 tokens/day"), 12)) == ["20,000,000", "tokens/day"]
    assert lines(wrap(Text("abcdefgh"), 3)) == ["abc", "def", "gh"]
    assert lines(wrap(Text("a\n\n b"), 9)) == ["a", "", " b"]
    assert lines(wrap(Text(""), 9)) == [""]


def test_a_table_that_does_not_fit_folds_into_one_block_a_row() -> None:
    """Names on the left, a line a column; empty cells are left out."""
    table = Table(Column("scope", Kind.NAME), Column("used", Kind.FIGURE), Column("in flight", Kind.FIGURE))
    table.add_row("tenant:acme", "20,000,000", "")
    table.add_row("global", "7", "1")
    folded = "scope  tenant:acme\nused   20,000,000\n\nscope      global\nused       7\nin flight  1\n"
    assert shown(table, 24) == folded


def test_figures_of_facts_stand_below_each_other() -> None:
    """As in a column."""
    facts = Facts(right=True)
    facts.add("failed", "7")
    facts.add("tokens in", "20,000")
    assert shown(facts, 40) == "failed          7\ntokens in  20,000\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_stream_is_broken_between_words_however_it_comes(size: int) -> None:
    """In parts of any size, as a whole; its own line ends stay, its spaces do not begin a line."""
    text = "A kettle that pours where you point it.\nGooseneck, 1,200 W."
    flow = terminal.StreamWrap(12)
    out = "".join(flow.feed(text[i : i + size]) for i in range(0, len(text), size)) + flow.flush()
    expected = ["A kettle", "that pours", "where you", "point it.", "Gooseneck,", "1,200 W."]
    assert [line.rstrip() for line in out.split("\n")] == expected


@pytest.mark.parametrize(
    ("person", "expected"), [(True, ["  no room", "  for it"]), (False, ["  no room for it"])]
)
def test_a_sentence_is_broken_for_a_person_only(person: bool, expected: list[str]) -> None:
    """Below its own indent; a file has it in one line, where a program may look for it."""
    out = io.StringIO()
    terminal.write_sentence(
        Console(file=out, force_terminal=person, width=10, color_system=None), "  no room for it"
    )
    assert out.getvalue().splitlines() == expected


def ascii_stream() -> io.TextIOWrapper:
    """Returns a stream as PYTHONIOENCODING=ascii gives it and `settle` leaves it."""
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=terminal.SIMILAR)


@pytest.mark.parametrize("name", TABLES)
def test_an_ascii_terminal_shows_every_table(name: str) -> None:
    """With the figures of any other, and columns in line."""
    stream = ascii_stream()
    Console(file=stream, width=80, highlight=False).print(TABLES[name])
    stream.flush()
    out = stream.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert [len(line) for line in out.splitlines()] == [
        cell_len(line) for line in shown(TABLES[name], 80).splitlines()
    ]
    figures = re.compile(r"\d[\d.,:]*\d|\d")
    assert figures.findall(out) == figures.findall(shown(TABLES[name], 80))


def test_json_is_whole_on_an_ascii_stream() -> None:
    """Characters that the stream cannot show are escaped, not replaced."""
    stream = ascii_stream()
    terminal.write_json({"text": "Kännchen → 你好"}, stream)
    assert json.loads(stream.buffer.getvalue()) == {"text": "Kännchen → 你好"}  # type: ignore[attr-defined]


def test_a_character_is_replaced_by_one_as_wide() -> None:
    """A letter by itself without its accent where there is such."""
    assert terminal.to_ascii("é — → 你 e\u0301 ½") == "e - > ?? e ?"
