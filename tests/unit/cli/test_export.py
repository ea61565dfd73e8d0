"""`pointsman export` where it cannot begin."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli.app import main


def test_without_duckdb_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, and the status of a command that cannot be carried out; no traceback."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.setenv("POINTSMAN_ANALYTICS_POSTGRES_DSN", "postgresql://u:p@127.0.0.1:1/x")
    assert main(["export", str(tmp_path / "out")]) == 2
    assert "pip install 'pointsman[export]'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--table", "attempt", "--postgres-dsn", "postgresql://u@h/x"], "--table: 'attempt' is none of"),
        ([], "set POINTSMAN_ANALYTICS_POSTGRES_DSN"),
    ],
)
def test_wrong_use_is_told_before_anything_is_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    """The folder is not made."""
    for name in ("POINTSMAN_ANALYTICS_POSTGRES_DSN", "POINTSMAN_ANALYTICS_POSTGRES_READER_DSN"):
        monkeypatch.delenv(name, raising=False)
    assert main(["export", str(tmp_path / "out"), *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
