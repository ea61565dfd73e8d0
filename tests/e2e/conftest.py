"""One stack for the tests that leave it as they found it, with a collector of its traces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from libs.client import Client
from tests.e2e.catalogs import ANTHROPIC_SECRET, OPENAI_SECRET, PRIVATE, TENANT_KEY
from tests.support.otlp import Collector, running_collector
from tests.support.stack import RunningStack, running_stack


@dataclass(frozen=True, slots=True)
class Shared:
    """A running stack and what it exports."""

    stack: RunningStack
    collector: Collector

    def client(self) -> Client:
        """As the tenant."""
        return self.stack.client(TENANT_KEY)


@pytest.fixture(scope="session")
async def session_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shared]:
    """The stack itself; tests take `shared`."""
    data = tmp_path_factory.mktemp("shared")
    (data / "anthropic.key").write_text(ANTHROPIC_SECRET + "\n")
    async with running_collector() as collector:
        environment = {
            "E2E_OPENAI_KEY": OPENAI_SECRET,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        async with running_stack(data, PRIVATE, environment) as stack:
            yield Shared(stack, collector)


@pytest.fixture
async def shared(session_stack: Shared) -> Shared:
    """The stack with providers that answer at once, have not been called, and accept our keys alone."""
    simulator = session_stack.stack.simulator
    await simulator.set("openai", expect_key=OPENAI_SECRET)
    await simulator.set("anthropic", expect_key=ANTHROPIC_SECRET)
    await simulator.set("gemini")
    return session_stack
