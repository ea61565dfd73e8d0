"""Fixtures for every test: one PostgreSQL and one Valkey per session, started when first asked for; and how a run by
several workers (`make test`) differs from one by a single process."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from dev.engines.guard import end_with_parent
from tests.support.engines import VARIABLE, containers_wanted
from tests.support.postgres import postgres_server
from tests.support.valkey import valkey_server

__all__ = ["postgres_server", "valkey_server"]

ROOT = Path(__file__).resolve().parents[1]
#: Workers take files in this order: those that take longest first, so that none is left with one at the end.
LONGEST_FIRST = ("tests/e2e/", "tests/integration/", "tests/contract/", "tests/unit/")
#: Files whose tests share the stack of tests/e2e/conftest.py.
ON_SHARED_STACK = frozenset(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "tests" / "e2e").glob("test_*.py")
    if "from tests.e2e.conftest import" in path.read_text()
)


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Gives whole files to workers, and those on the shared stack to one, which alone then starts it."""

    def _split_scope(self, nodeid: str) -> str:
        scope = str(super()._split_scope(nodeid))
        return "the shared stack" if scope in ON_SHARED_STACK else scope


def is_worker(config: pytest.Config) -> bool:
    """Returns True in a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """A worker ends with the process that started it, at once; else it would go on for seconds after a SIGKILL."""
    if is_worker(config):
        end_with_parent(signal.SIGTERM)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    """Returns what `--dist loadfile` means here."""
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files for workers."""
    if is_worker(config):
        items.sort(key=_position)


def pytest_collection_finish() -> None:
    """Keep what thousands of tests consist of out of every garbage collection and every walk over all objects."""
    gc.collect()
    gc.freeze()


def _position(item: pytest.Item) -> tuple[int, bool]:
    """Returns the place of an item's folder, and within one simulations first."""
    folders = enumerate(LONGEST_FIRST)
    folder = next((i for i, f in folders if item.nodeid.startswith(f)), len(LONGEST_FIRST))
    return folder, item.get_closest_marker("simulation") is None


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which engines there are, where somebody asked."""
    if VARIABLE not in os.environ:
        return None
    return f"engines: {'containers' if containers_wanted() else 'embedded, for want of a Docker engine'}"
