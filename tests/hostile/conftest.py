"""One stack for all attacks; outages and restarts have their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import HealthCheck, settings

from libs.client import Client
from tests.hostile.ground import CALM, PROVIDER_KEY, Ground, catalog
from tests.support.stack import running_stack

#: Of random attacks; the same one gives the same attacks.
SEED = int(os.environ.get("POINTSMAN_HOSTILE_SEED", "1"))
#: How many random attacks of one kind.
EXAMPLES = 20
settings.register_profile(
    "hostile",
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    # An example is a call of real processes: shrinking one would take minutes.
    phases=[phase for phase in settings().phases if phase.name in ("explicit", "generate")],
    suppress_health_check=list(HealthCheck),
)
_story: list[str] = []


def pytest_report_header() -> str:
    """Names the seed."""
    return f"hostile: POINTSMAN_HOSTILE_SEED={SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with stacks of their own come first: they keep every core busy, and `ground`'s processes are watched."""
    items.sort(key=lambda item: "ground" in getattr(item, "fixturenames", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells what every attack cost: the longest go of a loop, and how much memory grew."""
    for line in _story:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    directory = tmp_path_factory.mktemp("hostile")
    (directory / "provider.key").write_text(PROVIDER_KEY + "\n")
    environment = {"POINTSMAN_HEALTH_PROBE": "false"}
    async with (
        running_stack(directory, catalog(), environment) as stack,
        Client(stack.addresses["router"]) as client,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        await stack.simulator.set("backup", **CALM)
        ground = Ground(stack, client, http, story=_story)
        await ground.calm()
        yield ground
        for guard in ground.guards.values():
            await guard.stop()
