"""The faults of the public failover benchmark (failoverbench) as it runs them: one caller meets one after the other
over HTTP, all at models of one provider, with the timeouts of the catalog's defaults. Its two stacks run at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from dev.catalog import PUBLISHED_HASH, PUBLISHED_KEY
from tests.e2e.test_failover_scenarios import FAULTS, PRIMARY_MS, PROMPT, TOKENS
from tests.support.edges import Answer, Http, Refused
from tests.support.stack import running_stack

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
FALLBACKS = ("wall/ok", "other/ok")


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


@dataclass(frozen=True, slots=True)
class Turns:
    """The answer of a fallback, and those to the faults in turn, by scenario."""

    whole: str
    answers: Mapping[str, Answer | Refused]


async def take_turns(directory: Path, fallback: str) -> Turns:
    """Meets one fault after the other on a stack of its own, which has learned nothing yet."""
    async with running_stack(directory, _catalog()) as stack:
        faults: list[dict[str, Any]] = [
            {**fault, "when": {**fault.get("when", {}), "model": name}}
            for name in EXPECTED
            for fault in FAULTS[name]
        ]
        await stack.simulator.set("wall", tokens=TOKENS, ms_per_token=PRIMARY_MS, faults=faults)
        await stack.simulator.set("other", tokens=TOKENS, ms_per_token=PRIMARY_MS)
        url = f"http://{stack.addresses['router http']}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=PUBLISHED_KEY, max_retries=0) as client:
            edge = Http(client)
            whole = (await edge.ask(PROMPT, [fallback], "turn-whole", stream=True)).text
            answers: dict[str, Answer | Refused] = {}
            for name in EXPECTED:
                try:
                    answers[name] = await edge.ask(
                        PROMPT, [f"wall/{name}", fallback], f"turn-{name}", stream=True
                    )
                except Refused as refused:
                    answers[name] = refused
            return Turns(whole, answers)


@pytest.fixture(scope="module")
async def turns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Turns]:
    """By fallback, which is at the same provider, or at another; both at once."""
    found = await asyncio.gather(*(take_turns(tmp_path_factory.mktemp("turns"), name) for name in FALLBACKS))
    return dict(zip(FALLBACKS, found, strict=True))


@pytest.mark.parametrize("fallback", FALLBACKS)
async def test_each_fault_in_turn_is_met_at_the_model_that_was_named(
    turns: dict[str, Turns], fallback: str
) -> None:
    """Named regression: after one silent model, callers who named another of its provider were sent to the fallback
    unasked for 15 s, so that a refusal of their content was routed around."""
    found = turns[fallback]
    for name, (failed, itself) in EXPECTED.items():
        primary, answer = f"wall/{name}", found.answers[name]
        if name == "s13":
            assert isinstance(answer, Refused), answer
            assert answer.reason == "CONTENT_REFUSED"
            continue
        assert isinstance(answer, Answer), f"{name}: {answer!r}"
        assert answer.text == found.whole, name
        allowed = [tuple(f"{primary}: {error}" for error in failed)]
        if name in AFTER_SILENCE:
            allowed.append((f"{primary}: cancelled",))
        assert answer.failed in allowed, name
        assert answer.model == (primary if itself else fallback), name
