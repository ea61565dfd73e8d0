"""Measures how long a person waits: from a fresh clone to the first answer, and from a restart to it.

python -m bench.first_run [--make "make PYTHON=python3.13"]

Clones this repository's HEAD into a temporary directory and types `make run ARGS=--once` there twice, with no virtual
environment, provider key or setting of ours in sight. The package index is whatever pip is configured for; what it
has cached stays cached. Not part of `make bench`, which needs no network. Prints JSON last: seconds from typing the
command to the first line of each stage, to the first answer's account, and to the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: The stages that are timed, each to the first output line that begins with these words.
STAGES = {
    "environment": "Making .venv",
    "packages": "Installing requirements",
    "protos": "Generating gen/",
    "first_engine": "valkey serves",
    "router": "router serves",
    "first_answer": "provider ",
}
#: Settings that a new user would not have.
_OURS = ("POINTSMAN_", "OTEL_", "PYTHON", "VIRTUAL_ENV", "GRPC_", "MAKE", "MFLAGS")


def run(checkout: Path, command: Sequence[str]) -> dict[str, float]:
    """Runs the command; returns the seconds to each stage that was seen, and to the end. Ends the process where the
    command fails."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(_OURS) and not k.endswith("_API_KEY")}
    env |= {"PYTHONUNBUFFERED": "1", "POINTSMAN_PORT_BASE": "0"}
    began = time.perf_counter()
    seen: dict[str, float] = {}
    with subprocess.Popen(
        command, cwd=checkout, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(f"{time.perf_counter() - began:6.1f}  {line}")
            for stage, words in STAGES.items():
                if stage not in seen and line.startswith(words):
                    seen[stage] = round(time.perf_counter() - began, 2)
    if process.returncode != 0 or "first_answer" not in seen:
        raise SystemExit(f"{shlex.join(command)} ended with status {process.returncode}: {seen}")
    return {**seen, "end": round(time.perf_counter() - began, 2)}


def main() -> None:
    """Runs both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--make", default="make", help="how make is called")
    command = [*shlex.split(parser.parse_args().make), "run", "ARGS=--once"]
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "pointsman"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
        first = run(checkout, command)
        again = run(checkout, command)
    figures = {
        "first_answer_seconds": first["first_answer"],
        "restart_to_answer_seconds": again["first_answer"],
        "first": first,
        "restart": again,
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
