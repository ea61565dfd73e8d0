"""The output of a batch as the memory of what is done."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from cli.failure import CliError
from cli.journal import Journal
from cli.rows import Row

ROWS = [Row(n, n + 1, f"p{n % 2}", f"prompt {n}") for n in range(4)]


def record(index: int, *, ok: bool = True, run_id: str = "run", **more: Any) -> dict[str, Any]:
    row = ROWS[index]
    return {
        "index": index,
        "id": row.id,
        "ok": ok,
        "run_id": run_id,
        "fingerprint": row.fingerprint,
        "text": "Überraschung",
    } | more


def opened(path: Path, *, retry_failed: bool = True) -> Journal:
    return Journal.open(path, ROWS, random.Random(1), retry_failed=retry_failed)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_new_file_gets_a_run_id_and_whole_lines(tmp_path: Path) -> None:
    """Every line is in the file at once, before close."""
    path = tmp_path / "out.jsonl"
    with opened(path) as journal:
        assert journal.done == frozenset()
        journal.append(record(2, run_id=journal.run_id))
        assert lines(path)[0]["text"] == "Überraschung"
        first = journal.run_id
    with opened(path) as again:
        assert (again.run_id, again.done) == (first, frozenset({2}))


def test_successes_are_skipped_and_failures_forgotten(tmp_path: Path) -> None:
    """A failed row is tried again, and in the end has one line."""
    path = tmp_path / "out.jsonl"
    with opened(path) as journal:
        journal.append(record(0))
        journal.append(record(1, ok=False))
    with opened(path) as journal:
        assert journal.done == {0}
        assert [r["index"] for r in lines(path)] == [0]
        journal.append(record(1))
    assert [(r["index"], r["ok"]) for r in lines(path)] == [(0, True), (1, True)]


def test_failures_may_be_kept(tmp_path: Path) -> None:
    """Failures count as done, and as failures, for a caller that does not retry them."""
    path = tmp_path / "out.jsonl"
    with opened(path) as journal:
        journal.append(record(1, ok=False))
    with opened(path, retry_failed=False) as journal:
        assert (journal.done, journal.kept_failures) == (frozenset({1}), 1)


@pytest.mark.parametrize("torn", [b'{"index": 1, "id', b"{", b"\x00\x00\x00"])
def test_a_torn_last_line_is_dropped(tmp_path: Path, torn: bytes) -> None:
    """A crash in the middle of a write costs that row only."""
    path = tmp_path / "out.jsonl"
    with opened(path) as journal:
        journal.append(record(0))
    with path.open("ab") as file:
        file.write(torn)
    with opened(path) as journal:
        assert journal.done == {0}
        journal.append(record(1))
    assert [r["index"] for r in lines(path)] == [0, 1]


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path: Path) -> None:
    """The next line does not run into it."""
    path = tmp_path / "out.jsonl"
    path.write_text(json.dumps(record(0)))
    with opened(path) as journal:
        assert journal.done == {0}
        journal.append(record(1))
    assert [r["index"] for r in lines(path)] == [0, 1]


def test_a_row_with_two_lines_keeps_the_success(tmp_path: Path) -> None:
    """At most one line per row, whatever the file went through."""
    path = tmp_path / "out.jsonl"
    many = [record(0, ok=False), record(0, text="kept"), record(0, text="late"), record(1, ok=False)]
    path.write_text("".join(json.dumps(r) + "\n" for r in many))
    with opened(path, retry_failed=False) as journal:
        assert journal.done == {0, 1}
    assert [(r["index"], r["text"]) for r in lines(path)] == [(0, "kept"), (1, "Überraschung")]


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(record(0) | {"fingerprint": "0" * 16}),
        json.dumps(record(0) | {"index": 99}),
        json.dumps(record(0) | {"index": -1}),
        json.dumps(record(0) | {"index": True}),
        json.dumps({"some": "thing"}),
        "not json",
        "",
    ],
)
def test_a_file_of_another_input_is_left_alone(tmp_path: Path, line: str) -> None:
    """Named with its line; not a byte is changed."""
    path = tmp_path / "out.jsonl"
    path.write_text(json.dumps(record(3)) + "\n" + line + "\n")
    before = path.read_bytes()
    with pytest.raises(CliError, match="line 2"):
        opened(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_two_runs_do_not_share_an_output(tmp_path: Path) -> None:
    """The second is refused, also after a repair put a new file in place, and let in when the first ends."""
    path = tmp_path / "out.jsonl"
    with opened(path), pytest.raises(CliError, match="another run"):
        opened(path)
    path.write_text(json.dumps(record(0, ok=False)) + "\n")
    with opened(path), pytest.raises(CliError, match="another run"):
        opened(path)
    opened(path).close()


def test_a_repair_keeps_mode_and_symlink(tmp_path: Path) -> None:
    """The file in place is the one the caller named, with its rights."""
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    real.write_text(json.dumps(record(0, ok=False)) + "\n")
    real.chmod(0o640)
    link.symlink_to(real)
    opened(link).close()
    assert link.is_symlink()
    assert (real.stat().st_mode & 0o777, real.read_bytes()) == (0o640, b"")


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A missing folder, a directory, a device."""
    with pytest.raises(CliError, match="No such file"):
        opened(tmp_path / "none" / "out.jsonl")
    with pytest.raises(CliError, match="regular file"):
        opened(tmp_path)
    with pytest.raises(CliError, match="regular file"):
        opened(Path("/dev/null"))
