"""Strict refusals on the wire: in the vendor's shape, recorded, and only where they are wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.simulator import Simulator, running_simulator

LONG = "x" * 41
CALL = {"id": LONG, "type": "function", "function": {"name": "f", "arguments": "{}"}}
HISTORY = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": LONG, "content": "done"},
]
BODY: dict[str, Any] = {"model": "m", "messages": HISTORY}


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running


async def test_a_refusal_is_the_vendors_own_and_is_recorded(simulator: Simulator) -> None:
    """Status, message, parameter and code; the attempt names the rule, and the counters count it."""
    url = f"{simulator.base('openai')}/v1/chat/completions"
    answer = await simulator.client.post(url, json=BODY)
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length"
        " 40, but got a string with length 41 instead.",
        "type": "invalid_request_error",
        "param": "messages[1].tool_calls[0].id",
        "code": "string_above_max_length",
    }
    report = await simulator.report("openai")
    assert report["attempts"][-1]["rule"] == "call id's length"
    assert report["attempts"][-1]["outcome"] == "rejected"
    assert report["counters"]["by_rule"] == {"call id's length": 1}


async def test_mistral_refuses_in_its_own_shape(simulator: Simulator) -> None:
    """An error object that stands by itself, and 422 with a list for fields it does not know."""
    url = f"{simulator.base('mistral')}/v1/chat/completions"
    error = (await simulator.client.post(url, json=BODY)).json()
    assert (error["object"], error["code"]) == ("error", "3280")
    answer = await simulator.client.post(url, json={**BODY, "seed": 1})
    assert answer.status_code == 422
    assert answer.json()["message"]["detail"][0]["loc"] == ["body", "seed"]


@pytest.mark.parametrize(
    ("vendor", "body", "error"),
    [
        (
            "xai",
            {"model": "grok-4", "messages": [{"role": "user", "content": "Hi"}], "stop": ["x"]},
            {"code": "invalid-argument", "error": "Model grok-4 does not support parameter stop."},
        ),
        (
            "cerebras",
            {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "store": False},
            {
                "message": "body.store: property 'body.store' is unsupported",
                "type": "invalid_request_error",
                "param": "validation_error",
                "code": "wrong_api_format",
            },
        ),
        (
            "perplexity",
            {"model": "sonar", "messages": [{"role": "user", "content": "Hi"}] * 2},
            {
                "error": {
                    "message": "After the (optional) system message(s), user and assistant roles should be"
                    " alternating.",
                    "type": "invalid_message",
                    "code": 400,
                }
            },
        ),
    ],
)
async def test_others_refuse_in_shapes_of_their_own(
    simulator: Simulator, vendor: str, body: dict[str, Any], error: dict[str, Any]
) -> None:
    """As each was recorded."""
    answer = await simulator.client.post(f"{simulator.base(vendor)}/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()) == (400, error)


async def test_strictness_is_a_matter_of_the_process_and_of_each_provider(simulator: Simulator) -> None:
    """On by default; off for all that say nothing of it; a provider's own word counts before."""
    url = f"{simulator.base('openai-two')}/v1/chat/completions"
    assert (await simulator.client.post(url, json=BODY)).status_code == 400
    await simulator.set("openai-two", strict=False)
    assert (await simulator.client.post(url, json=BODY)).status_code == 200
    await simulator.set("openai-two")
    await simulator.set_strict(False)
    try:
        assert (await simulator.client.post(url, json=BODY)).status_code == 200
        await simulator.set("openai-two", strict=True)
        assert (await simulator.client.post(url, json=BODY)).status_code == 400
    finally:
        await simulator.set_strict(True)


async def test_a_vendor_is_chosen_by_the_behaviour(simulator: Simulator) -> None:
    """Whatever the name of the virtual provider and of the model."""
    url = f"{simulator.base('somebody')}/v1/chat/completions"
    assert (await simulator.client.post(url, json=BODY)).status_code == 200
    await simulator.set("somebody", vendor="openai")
    assert (await simulator.client.post(url, json=BODY)).status_code == 400


async def test_half_of_a_surrogate_pair_is_no_json(simulator: Simulator) -> None:
    """Refused as a body that cannot be read."""
    url = f"{simulator.base('openai')}/v1/chat/completions"
    body = b'{"model":"m","messages":[{"role":"user","content":"\\ud83d"}]}'
    assert (await simulator.client.post(url, content=body)).status_code == 400


async def test_a_fault_comes_before_a_refusal(simulator: Simulator) -> None:
    """A broken edge answers before anything is read."""
    await simulator.set("openai-down", faults=[{"kind": "status", "status": 503}])
    url = f"{simulator.base('openai-down')}/v1/chat/completions"
    assert (await simulator.client.post(url, json=BODY)).status_code == 503
