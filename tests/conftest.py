"""Fixtures for every test: one PostgreSQL and one Valkey per session, started when first asked for; and how a run by
several workers (`make test`) differs from one by a single process."""

from __future__ import annotations

import os
import signal

import pytest

from dev.engines.guard import end_with_parent
from tests.support.engines import VARIABLE, containers_wanted
from tests.support.postgres import postgres_server
from tests.support.valkey import valkey_server

__all__ = ["postgres_server", "valkey_server"]

#: Workers take files in this order: those that take longest first, so that none is left with one at the end.
LONGEST_FIRST = ("tests/e2e/", "tests/integration/", "tests/contract/", "tests/unit/")


def is_worker(config: pytest.Config) -> bool:
    """Returns True in a worker of pytest-xdist."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """A worker ends with the process that started it, at once; else it would go on for seconds after a SIGKILL."""
    if is_worker(config):
        end_with_parent(signal.SIGTERM)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the files for workers."""
    if is_worker(config):
        items.sort(key=lambda item: _position(item.nodeid))


def _position(nodeid: str) -> int:
    return next(
        (i for i, folder in enumerate(LONGEST_FIRST) if nodeid.startswith(folder)), len(LONGEST_FIRST)
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which engines there are, where somebody asked."""
    if VARIABLE not in os.environ:
        return None
    return f"engines: {'containers' if containers_wanted() else 'embedded, for want of a Docker engine'}"
