"""Every table as CSV."""

from __future__ import annotations

import csv
import io

import pytest

from cli.csv_table import write_table
from cli.layout import Column, Kind, Table, Value
from cli.render import count_cell, money_cell, seconds_cell, share_cell
from tests.unit.cli.test_layout import TABLES


def written(table: Table, capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    write_table(table, as_csv=True)
    return list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))


#: Tables of commands that write no CSV.
WITHOUT = {"alerts", "dev up"}


@pytest.mark.parametrize(
    "name", [name for name, table in TABLES.items() if isinstance(table, Table) and name not in WITHOUT]
)
def test_every_table_is_a_grid_of_values(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of headings, then each row with a cell a column, none broken and none in a person's form of money."""
    table = TABLES[name]
    assert isinstance(table, Table)
    head, *rows = written(table, capsys)
    assert head == [column.name for column in table.columns]
    assert len(rows) == len(table.rows)
    for row in rows:
        for column, cell in zip(table.columns, row, strict=True):
            if column.kind is Kind.FIGURE:
                assert not any(character in cell for character in "$—,"), (column.name, cell)


def test_figures_are_exact(capsys: pytest.CaptureFixture[str]) -> None:
    """Money to the millionth of a dollar however much it is, durations in seconds, shares of 1; nothing is empty."""
    table = Table(*(Column(name, Kind.FIGURE) for name in "abcdefg"))
    table.add_row(
        *(money_cell(9_007_199_254_740_993), money_cell(-1), money_cell(None)),
        *(count_cell(1_234_567), seconds_cell(61.25), share_cell(0.99996), share_cell(None)),
    )
    assert written(table, capsys)[1] == [
        *("9007199254.740993", "-0.000001", "", "1234567", "61.25", "0.99996", ""),
    ]


@pytest.mark.parametrize(
    "text", ['=HYPERLINK("http://evil")', "+1", "-1", "@SUM(A1)", "\t=1", "a,b", 'a"b', "a\nb"]
)
def test_texts_are_whole_and_no_formulas(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A caller's label comes back as it was, behind an apostrophe where a spreadsheet would run it."""
    table = Table(Column("label", Kind.NAME), Column("n", Kind.FIGURE))
    table.add_row(Value("shown otherwise", text), count_cell(-5))
    (_, row) = written(table, capsys)
    assert row == [text if text[0] == "a" else f"'{text}", "-5"]


def test_a_percentage_is_whole_only_where_nothing_is_missing() -> None:
    """Five nines are not told as 100 %, nor one error in a million as none."""
    assert [str(share_cell(value).shown) for value in (1.0, 0.99999, 0.5, 0.0, 0.00001)] == [
        *("100%", "> 99.99%", "50.00%", "0.00%", "< 0.01%"),
    ]
