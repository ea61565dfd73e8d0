"""A request that one model does not support is served by another, and the refusal learned, on the whole stack."""

from __future__ import annotations

import openai
import pytest

from libs.client import SetAsideClient
from libs.errors import FailedPrecondition
from libs.types import ErrorClass
from tests.e2e.catalogs import ANTHROPIC_SECRET, OPENAI_SECRET, TENANT_KEY
from tests.e2e.conftest import Shared

OPENAI, ANTHROPIC = "openai/gpt-4.1-mini", "anthropic/claude-haiku-4-5"
REFUSAL = {
    "error": {
        "message": "Unsupported parameter: 'temperature' is not supported with this model.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "unsupported_parameter",
    }
}


async def test_what_a_model_does_not_support_goes_elsewhere_and_is_learned(shared: Shared) -> None:
    """Named regression: the refusal ended a request that the fallback would have served. The fallback answers; after
    two refusals the model is not called with that parameter any more, which operators see, and is called without it
    all the time; where nobody else may serve, the caller hears that and what is not supported."""
    simulator = shared.stack.simulator
    fault = {"kind": "status", "status": 400, "body": REFUSAL, "when": {"contains": '"temperature"'}}
    await simulator.set("openai", faults=[fault], expect_key=OPENAI_SECRET)
    await simulator.set("anthropic", expect_key=ANTHROPIC_SECRET)
    token = shared.stack.addresses["service_token"]
    both = [OPENAI, ANTHROPIC]
    async with (
        shared.client() as client,
        SetAsideClient(shared.stack.addresses["router"], token, timeout=10) as operator,
    ):
        for number in range(4):
            answer = await client.generate(f"Describe kettle {number}.", models=both, temperature=0.5)
            refused = [ErrorClass.UNSUPPORTED_HERE] if number < 2 else []
            assert [a.error_class for a in answer.attempts] == [*refused, None]
            assert answer.attempts[-1].provider == "anthropic"
            plain = await client.generate(f"Describe kettle {number}.", models=both)
            assert [a.provider for a in plain.attempts] == ["openai"]
        assert (await simulator.counters("openai"))["requests"] == 2 + 4
        [learned] = [entry for entry in await operator.list_set_aside() if entry.kind == "feature"]
        assert (learned.provider, learned.features) == ("openai", ("sampling",))
        assert learned.error_class is ErrorClass.UNSUPPORTED_HERE
        with pytest.raises(FailedPrecondition) as alone:
            await client.generate("Describe a kettle.", models=[OPENAI], temperature=0.5)
        assert alone.value.reason == "UNSUPPORTED_HERE"
        assert "'temperature' is not supported" in alone.value.message
        await operator.clear_set_aside(learned.name)
    url = f"http://{shared.stack.addresses['router http']}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=TENANT_KEY, max_retries=0) as official:
        with pytest.raises(openai.BadRequestError) as refused_there:
            await official.chat.completions.create(
                model=OPENAI, messages=[{"role": "user", "content": "hi"}], temperature=0.5
            )
    assert refused_there.value.code == "unsupported_parameter"
