"""The faults of the public failover benchmark (failoverbench) as it runs them: one caller meets one after the other
over HTTP, all at models of one provider, with the timeouts of the catalog's defaults."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from dev.catalog import PUBLISHED_HASH, PUBLISHED_KEY
from tests.e2e.test_failover_scenarios import FAULTS, PRIMARY_MS, PROMPT, TOKENS
from tests.support.edges import Http, Refused
from tests.support.stack import RunningStack, running_stack

#: Scenario → the failed attempts at its model, and True where the model itself gives the answer in the end.
EXPECTED: dict[str, tuple[tuple[str, ...], bool]] = {
    "s01": (("rate_limited",), True),
    "s02": (("rate_limited",), False),
    "s03": (("server_error",), True),
    "s04": (("overloaded",), False),
    "s05": (("transport",), True),
    "s06": (("timeout",), False),
    "s07": (("timeout",), False),
    "s08": (("transport",), False),
    "s09": (("stalled",), False),
    "s10": (("malformed",), False),
    "s11": ((), True),
    "s12": (("context_too_long",), False),
    "s13": (("content_refused",), False),
    "s16": (("overloaded",), False),
}
#: These may be called beside the fallback, where nothing of their provider has answered since the silence.
AFTER_SILENCE = ("s07", "s08", "s09", "s10")


def _catalog() -> str:
    url = "${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}"
    model = {
        "context_window": 100_000,
        "max_output_tokens": 4096,
        "capabilities": ["streaming", "system", "stop"],
        "price": {"input": 1, "output": 2},
    }
    names = [f"wall/{name}" for name in (*EXPECTED, "ok")] + ["other/ok"]
    catalog = {
        "version": 1,
        "domain": "turns",
        "providers": {
            name: {"kind": "openai", "base_url": f"{url}/{name}/v1", "api_key_env": ""}
            for name in ("wall", "other")
        },
        "models": dict.fromkeys(names, model),
        # A provider's Retry-After is waited for in place.
        "policies": {"default": {"tiers": [["other/ok"]], "max_retry_after": 5}},
        "content_types": {"general": {"max_output_tokens": 200}},
        "tenants": {"demo": {"key_sha256": [PUBLISHED_HASH]}},
    }
    # JSON is YAML.
    return json.dumps(catalog)


@pytest.fixture(params=["wall/ok", "other/ok"])
async def asked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[RunningStack, Http, str]]:
    """A stack of its own, which has learned nothing yet; the fallback is at the same provider, or at another."""
    async with running_stack(tmp_path_factory.mktemp("turns"), _catalog()) as stack:
        faults: list[dict[str, Any]] = [
            {**fault, "when": {**fault.get("when", {}), "model": name}}
            for name in EXPECTED
            for fault in FAULTS[name]
        ]
        await stack.simulator.set("wall", tokens=TOKENS, ms_per_token=PRIMARY_MS, faults=faults)
        await stack.simulator.set("other", tokens=TOKENS, ms_per_token=PRIMARY_MS)
        url = f"http://{stack.addresses['router http']}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=PUBLISHED_KEY, max_retries=0) as client:
            yield stack, Http(client), str(request.param)


async def test_each_fault_in_turn_is_met_at_the_model_that_was_named(
    asked: tuple[RunningStack, Http, str],
) -> None:
    """Named regression: after one silent model, callers who named another of its provider were sent to the fallback
    unasked for 15 s, so that a refusal of their content was routed around."""
    _, edge, fallback = asked
    whole = (await edge.ask(PROMPT, [fallback], "turn-whole", stream=True)).text
    for name, (failed, itself) in EXPECTED.items():
        primary = f"wall/{name}"
        if name == "s13":
            with pytest.raises(Refused) as caught:
                await edge.ask(PROMPT, [primary, fallback], f"turn-{name}", stream=True)
            assert caught.value.reason == "CONTENT_REFUSED"
            continue
        answer = await edge.ask(PROMPT, [primary, fallback], f"turn-{name}", stream=True)
        assert answer.text == whole, name
        allowed = [tuple(f"{primary}: {error}" for error in failed)]
        if name in AFTER_SILENCE:
            allowed.append((f"{primary}: cancelled",))
        assert answer.failed in allowed, name
        assert answer.model == (primary if itself else fallback), name
