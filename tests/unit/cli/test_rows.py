"""The input of a batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.failure import CliError
from cli.rows import MAX_PROBLEMS, read_rows
from cli.template import Template

ROOT = Path(__file__).parents[3]
PRODUCTS = ROOT.parent / "shared" / "data" / "ecommerce" / "products.jsonl"


def write(path: Path, *lines: str | bytes) -> Path:
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


def test_rows_keep_their_order_and_repeated_ids(tmp_path: Path) -> None:
    """The index is a row's identity; blank lines, a byte order mark and CRLF do not count."""
    path = write(
        tmp_path / "in.jsonl",
        b'\xef\xbb\xbf{"id": "a", "prompt": "one"}\r',
        "",
        '{"id": "a", "prompt": "two\\u2028x", "content_type": "blog"}',
        '{"id": 7, "name": "Mug"}',
        '{"prompt": "four"}',
    )
    rows = read_rows(path)
    assert [(r.index, r.line, r.id, r.content_type) for r in rows] == [
        (0, 1, "a", ""),
        (1, 3, "a", "blog"),
        (2, 4, "7", "product_description"),
        (3, 5, "3", ""),
    ]
    assert rows[1].prompt == "two\u2028x"
    assert len({r.fingerprint for r in rows}) == 4


def test_an_option_sets_the_content_type_and_a_row_overrides_it(tmp_path: Path) -> None:
    """Row, option, kind of row: in this order."""
    path = write(tmp_path / "in.jsonl", '{"prompt": "x", "content_type": "blog"}', '{"name": "Mug"}')
    assert [r.content_type for r in read_rows(path, content_type="seo")] == ["blog", "seo"]


def test_every_wrong_line_is_named(tmp_path: Path) -> None:
    """All at once, by line number, and nothing is read twice."""
    path = write(
        tmp_path / "in.jsonl",
        '{"prompt": "fine"}',
        "{",
        "[1]",
        '{"prompt": "  "}',
        '{"prompt": 5}',
        '{"id": true, "prompt": "x"}',
        '{"name": {}}',
        b'{"prompt": "\xff"}',
        '{"prompt": "\\ud800"}',
        "[" * 100_000,
        '{"prompt": "x", "content_type": 1}',
        '{"id": "\\ud800", "prompt": "x"}',
    )
    with pytest.raises(CliError) as caught:
        read_rows(path)
    assert [p.split(":")[0] for p in caught.value.problems] == [f"line {n}" for n in range(2, 13)]
    assert "11 lines" in caught.value.message


def test_very_many_wrong_lines_are_counted(tmp_path: Path) -> None:
    """A file of another kind does not flood the terminal."""
    with pytest.raises(CliError) as caught:
        read_rows(write(tmp_path / "in.jsonl", *["no"] * 100))
    assert len(caught.value.problems) == MAX_PROBLEMS + 1
    assert caught.value.problems[-1] == "and 80 more"


def test_a_template_that_names_a_missing_field_names_the_line(tmp_path: Path) -> None:
    """Found before anything is sent."""
    path = write(tmp_path / "in.jsonl", '{"name": "a", "brand": "x"}', '{"name": "b"}', '{"brand": ""}')
    with pytest.raises(CliError) as caught:
        read_rows(path, Template("{brand}"))
    assert [p.split(":")[0] for p in caught.value.problems] == ["line 2", "line 3"]


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_is_a_mistake(tmp_path: Path, content: bytes) -> None:
    """Nothing to do is said, not done."""
    (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises(CliError, match="no rows"):
        read_rows(tmp_path / "in.jsonl")


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    """With the operating system's reason."""
    with pytest.raises(CliError, match="No such file"):
        read_rows(tmp_path / "none.jsonl")
    with pytest.raises(CliError, match="directory"):
        read_rows(tmp_path)


@pytest.mark.real_data
def test_every_real_product_makes_a_prompt() -> None:
    """No product is left out, and none shows its reference description."""
    if not PRODUCTS.is_file():
        pytest.skip("../shared/data/ecommerce is not there")
    with PRODUCTS.open(encoding="utf-8") as file:
        products = [json.loads(line) for line in file]
    rows = read_rows(PRODUCTS)
    assert [r.id for r in rows] == [str(p["id"]) for p in products]
    for row, product in zip(rows, products, strict=True):
        texts = [t for t in product.get("reference_description", {}).values() if len(t) > 40]
        assert not any(text in row.prompt for text in texts)
