"""One stack for the tests that leave it as they found it, with a collector of its traces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from pointsman.health.v1 import health_pb2_grpc

from libs.client import Client
from libs.rpc.channel import connect
from tests.e2e.catalogs import ANTHROPIC_SECRET, OPENAI_SECRET, PRIVATE, TENANT_KEY
from tests.support.otlp import Collector, running_collector
from tests.support.recovery import Recovery
from tests.support.simulator import Simulator
from tests.support.stack import RunningStack, running_stack

#: Of `PRIVATE`, in the order of its policy.
MODELS = ("openai/gpt-4.1-mini", "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash")


@dataclass(frozen=True, slots=True)
class Shared:
    """A running stack and what it exports."""

    stack: RunningStack
    collector: Collector
    recovery: Recovery

    def client(self) -> Client:
        """As the tenant."""
        return self.stack.client(TENANT_KEY)


@pytest.fixture(scope="package")
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
        async with (
            running_stack(data, PRIVATE, environment) as stack,
            stack.client(TENANT_KEY) as client,
            connect(stack.addresses["health"]) as channel,
        ):
            health = health_pb2_grpc.ProviderHealthStub(channel)
            yield Shared(stack, collector, Recovery(stack, client, health, MODELS))


@pytest.fixture
async def shared(session_stack: Shared) -> Shared:
    """The stack with providers that answer at once, have not been called, and accept our keys alone. Nothing that
    another test did to them is held against them."""
    await behave(session_stack.stack.simulator)
    await session_stack.recovery.complete()
    await behave(session_stack.stack.simulator)
    return session_stack


async def behave(simulator: Simulator) -> None:
    """All providers do, and their counters start again."""
    await simulator.set("openai", expect_key=OPENAI_SECRET)
    await simulator.set("anthropic", expect_key=ANTHROPIC_SECRET)
    await simulator.set("gemini")
