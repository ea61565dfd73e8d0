"""`make bench` runs every benchmark with its defaults, the router's last."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHES = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if path.stem != "__init__")


def would_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `make bench` dry. It may print the making of what it needs, and does nothing."""
    command = ["make", "--dry-run", "bench", *arguments]
    # `make test ARGS=…` hands its own arguments on to every make below it.
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "ARGS"
    }
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


def test_every_benchmark_is_run_and_the_routers_ratio_comes_last() -> None:
    """A new file in bench/ is picked up by itself; the one that takes minutes to load is run by its own command."""
    names = re.search(r"for name in ([\w ]+);", would_run().stdout)
    assert names is not None
    *others, last = names[1].split()
    assert last == "generate"
    assert sorted([*others, last, "analytics"]) == BENCHES


def test_one_benchmark_takes_arguments() -> None:
    """They go to it alone: each has options of its own."""
    assert "for name in limits;" in (output := would_run("BENCH=limits", "ARGS=--seconds 1").stdout)
    assert '-m "bench.$name" --seconds 1' in output


def test_arguments_without_a_benchmark_are_refused() -> None:
    """Before anything runs, with the names there are."""
    done = would_run("ARGS=--calls 1")
    assert done.returncode == 2
    assert "BENCH=<name>" in done.stderr
    assert "bench.$name" not in done.stdout


@pytest.mark.parametrize("name", [*BENCHES, "first_run"])
def test_every_benchmark_explains_itself(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--help says how it is called."""
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    # Another test may have imported it.
    monkeypatch.delitem(sys.modules, f"bench.{name}", raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"bench.{name}", run_name="__main__")
    assert ended.value.code == 0
    assert f"python -m bench.{name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--seconds", "0"], ["--seconds", "-1"], ["--seconds", "nan"], ["--tenants", "0"]]
)
def test_the_limits_benchmark_refuses_what_it_cannot_measure(arguments: list[str]) -> None:
    """With a sentence that names the bound, before any server starts."""
    command = [sys.executable, "-m", "bench.limits", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"argument {arguments[0]}: must be at least" in ended.stderr
    assert "Traceback" not in ended.stderr
