"""One tenant's provocations, and an operator's mending, on the whole stack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from libs.client import Client
from libs.errors import PointsmanError, Unavailable
from tests.e2e.catalogs import ANTHROPIC_SECRET, CAREFUL_KEY, OPENAI_SECRET
from tests.e2e.conftest import MODELS, Shared

ANTHROPIC = "anthropic/claude-haiku-4-5"
KEYS = {"openai": OPENAI_SECRET, "anthropic": ANTHROPIC_SECRET, "gemini": None}
#: Attacks on each model in a row, and how often: more than it takes to open a circuit.
BURST, BURSTS = 4, 4
STREAMED = {"when": {"streaming": True}}
PROVOKED: dict[str, dict[str, Any]] = {
    # A refusal that repeats the name of the caller's tool.
    "echo": {
        "kind": "status",
        "status": 400,
        "body": {
            "error": {
                "message": "Invalid schema for function 'get_overdue_invoices': array schema missing items.",
                "type": "invalid_request_error",
                "param": "tools[0].function.parameters",
                "code": "invalid_function_parameters",
            }
        },
    },
    "quota": {"kind": "status", "preset": "quota"},
    "key": {"kind": "status", "preset": "authentication"},
    "fault": {"kind": "status", "preset": "server_error"},
    "rate": {"kind": "status", "preset": "rate_limited", "retry_after": 30, "retry_after_as": "seconds"},
    "too long": {"kind": "status", "preset": "context_length"},
}


@pytest.mark.parametrize("provoked", PROVOKED)
async def test_regression_what_one_tenant_provokes_costs_another_no_answer(
    shared: Shared, provoked: str
) -> None:
    """Named regression: nine refusals on three models turned another tenant's steady traffic into 113 of 113. One
    tenant streams, which every provider fails at; the other does not, and every call of it is answered."""
    for name, key in KEYS.items():
        expected = {"expect_key": key} if key else {}
        await shared.stack.simulator.set(name, faults=[PROVOKED[provoked] | STREAMED], **expected)
    async with shared.client() as good, shared.stack.client(CAREFUL_KEY) as evil:
        for model in MODELS:
            await good.generate("Describe a kettle.", models=[model])
        for number in range(BURSTS):
            for model in MODELS:
                for _ in range(BURST):
                    await attack(evil, f"{number}", model)
            for model in MODELS:
                answer = await good.generate(f"Describe kettle {number}.", models=[model])
                assert answer.attempts[-1].provider == model.partition("/")[0]


async def attack(client: Client, text: str, model: str) -> None:
    """Fails, as it is meant to."""
    with pytest.raises(PointsmanError):
        async for _ in client.stream(text, models=[model]):
            pass


@pytest.fixture
async def key_file(shared: Shared) -> AsyncIterator[Path]:
    """Anthropic's, as it was again afterwards."""
    path = shared.stack.data.parent / "anthropic.key"
    yield path
    replace(path, ANTHROPIC_SECRET)


def replace(path: Path, key: str) -> None:
    """As Kubernetes replaces a secret: in one go."""
    new = path.with_suffix(".new")
    new.write_text(key + "\n")
    new.rename(path)


async def test_regression_a_key_replaced_in_its_file_serves_at_once(shared: Shared, key_file: Path) -> None:
    """Named regression: it served again after 329 s. The refusals before say what is wrong, and no time; nothing but
    the file has to be touched."""
    await shared.stack.simulator.set("anthropic", expect_key="the next key")
    reasons = []
    async with shared.client() as client:
        for number in range(8):
            with pytest.raises(Unavailable) as caught:
                await client.generate(f"Describe kettle {number}.", models=[ANTHROPIC])
            reasons.append((caught.value.reason, caught.value.retry_after is None))
        assert reasons[0] == ("PROVIDER_KEY_REFUSED", True)
        assert (await shared.stack.simulator.counters("anthropic"))["requests"] < len(reasons)
        replace(key_file, "the next key")
        loop = asyncio.get_running_loop()
        replaced = loop.time()
        async with asyncio.timeout(10):
            while True:
                try:
                    await client.generate("Describe a kettle.", models=[ANTHROPIC])
                except Unavailable:
                    await asyncio.sleep(0.02)
                else:
                    break
    print(f"served again {loop.time() - replaced:.2f} s after its key was replaced")


async def test_a_key_replaced_while_calls_run_is_not_blamed_for_them(shared: Shared, key_file: Path) -> None:
    """Calls that were made with the old key and are refused after the new one has come say nothing about it: it
    serves at once, every call."""
    simulator = shared.stack.simulator
    refused = {"kind": "status", "preset": "authentication", "delay_ms": 2000}
    await simulator.set("anthropic", faults=[refused])
    async with shared.client() as client:
        running = [
            asyncio.create_task(client.generate(f"Describe kettle {number}.", models=[ANTHROPIC]))
            for number in range(12)
        ]
        await simulator.wait_for("anthropic", lambda found: found["counters"]["concurrent"] == len(running))
        replace(key_file, "the next key")
        await simulator.set("anthropic", expect_key="the next key")
        assert not any(task.done() for task in running)
        ended = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(error, Unavailable) for error in ended), ended
        for number in range(5):
            await client.generate(f"Describe lamp {number}.", models=[ANTHROPIC])
