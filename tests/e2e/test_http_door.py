"""The HTTP door of a running stack, asked by programs that know only OpenAI."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.e2e.catalogs import OPENAI_SECRET, TENANT_KEY
from tests.e2e.conftest import Shared
from tests.support.otlp import Span

MUG = "Describe a blue mug."
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": MUG}]}
SERVER, CLIENT = 2, 3


@pytest.fixture
async def client(shared: Shared) -> AsyncIterator[AsyncOpenAI]:
    """The official client, as its documentation shows it but for the base URL and the key."""
    url = f"http://{shared.stack.addresses['router http']}/v1"
    async with AsyncOpenAI(base_url=url, api_key=TENANT_KEY, max_retries=0, timeout=30) as connected:
        yield connected


async def read(
    stream: openai.AsyncStream[openai.types.chat.ChatCompletionChunk],
) -> tuple[str, dict[str, Any]]:
    """The text, and the account in the last chunk."""
    text = ""
    account: dict[str, Any] = {}
    async for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        account = (chunk.model_extra or {}).get("pointsman", account)
    return text, account


async def test_it_is_ready_and_lists_its_models(shared: Shared, client: AsyncOpenAI) -> None:
    """Ready under `dev up`; aliases first, then the catalog's models."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://{shared.stack.addresses['router http']}/readyz")
    assert answer.status_code == 200
    names = [model.id async for model in client.models.list()]
    assert names == [
        "auto",
        "pointsman/general",
        "pointsman/product_description",
        "openai/gpt-4.1-mini",
        "anthropic/claude-haiku-4-5",
        "gemini/gemini-2.5-flash",
    ]
    assert (await client.models.retrieve("openai/gpt-4.1-mini")).owned_by == "openai"


async def test_whole_streamed_and_as_a_response(shared: Shared, client: AsyncOpenAI) -> None:
    """The same prompt, the same text, and the cost that the ledger has."""
    raw = await client.chat.completions.with_raw_response.create(model="auto", **ASK)
    whole = raw.parse().choices[0].message.content
    streamed, account = await read(await client.chat.completions.create(model="auto", stream=True, **ASK))
    response = await client.responses.create(model="auto", input=MUG)
    assert whole == streamed == response.output_text
    assert raw.headers["x-pointsman-provider"] == account["provider"]
    for request_id, cost in (
        (raw.headers["x-request-id"], raw.headers["x-pointsman-cost-usd"]),
        (account["request_id"], account["cost_usd"]),
    ):
        (row,) = await shared.stack.settled_ledger(request_id, lambda found: len(found) == 1)
        assert row["cost_micro_usd"] == round(float(cost) * 1_000_000) > 0


@pytest.mark.parametrize("fallback", ["anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash"])
async def test_a_cut_stream_comes_whole(shared: Shared, client: AsyncOpenAI, fallback: str) -> None:
    """The provider hangs up in the middle of its answer; a client that can only append gets all of it, whether the
    next provider goes on from a prefill or says it all again."""
    chain: dict[str, Any] = {"model": "openai/gpt-4.1-mini", "extra_body": {"fallbacks": [fallback]}}
    expected = (await client.chat.completions.create(**chain, **ASK)).choices[0].message.content
    cut = [{"kind": "cut", "after_tokens": 20}]
    await shared.stack.simulator.set("openai", expect_key=OPENAI_SECRET, faults=cut, ms_per_token=2)
    text, account = await read(await client.chat.completions.create(**chain, **ASK, stream=True))
    assert text == expected
    assert account["failed"] == ["openai/gpt-4.1-mini: transport"]
    assert f"{account['provider']}/{account['model']}" == fallback


async def test_a_failed_provider_is_not_seen(shared: Shared, client: AsyncOpenAI) -> None:
    """The head of a stream waits for the first content, so its headers name who answered, not who failed."""
    down = [{"kind": "status", "preset": "overloaded"}]
    await shared.stack.simulator.set("openai", expect_key=OPENAI_SECRET, faults=down)
    chain: dict[str, Any] = {
        "model": "openai/gpt-4.1-mini",
        "extra_body": {"models": ["gemini/gemini-2.5-flash"]},
    }
    async with client.chat.completions.with_streaming_response.create(**chain, **ASK, stream=True) as raw:
        assert raw.headers["x-pointsman-provider"] == "gemini"
        text, _ = await read(await raw.parse())
    assert text


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_goes_away_stops_the_provider(
    shared: Shared, client: AsyncOpenAI, streamed: bool
) -> None:
    """The router's work and the provider's call end with the connection; the simulator sees its caller leave."""
    simulator = shared.stack.simulator
    await simulator.set("gemini", tokens=2000, ms_per_token=20)
    asking = asyncio.ensure_future(
        client.chat.completions.create(
            model="gemini/gemini-2.5-flash", max_tokens=2000, stream=streamed, **ASK
        )
    )
    if streamed:
        stream = await asking
        assert isinstance(stream, openai.AsyncStream)
        await anext(aiter(stream))
        await stream.close()
    else:
        await simulator.wait_for("gemini", lambda report: report["counters"]["requests"] == 1)
        asking.cancel()
    report = await simulator.wait_for("gemini", lambda report: report["counters"]["cancelled_by_client"] == 1)
    assert report["counters"]["concurrent"] == 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_end_of_the_callers_time_has_one_code(
    shared: Shared, client: AsyncOpenAI, streamed: bool
) -> None:
    """Before the answer, and in the middle of it; it is the router that notices, wherever the time went."""
    await shared.stack.simulator.set("openai", expect_key=OPENAI_SECRET, tokens=2000, ms_per_token=20)
    ask: dict[str, Any] = {"model": "openai/gpt-4.1-mini", "max_tokens": 2000, **ASK}
    ask["extra_headers"] = {"x-pointsman-timeout": "1"}

    async def asked() -> None:
        answer = await client.chat.completions.create(**ask, stream=streamed)
        if isinstance(answer, openai.AsyncStream):
            await read(answer)

    with pytest.raises(openai.APIError) as caught:
        await asked()
    assert caught.value.code == "deadline_exceeded"
    assert streamed or isinstance(caught.value, openai.InternalServerError)


async def test_one_trace_through_it(shared: Shared, client: AsyncOpenAI) -> None:
    """The door's span is the child of the caller's and the parent of the provider's call, and carries the account."""
    trace_id, parent = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"traceparent": f"00-{trace_id}-{parent}-01"}
    await client.chat.completions.create(model="auto", **ASK, extra_headers=headers)

    def of_kind(spans: list[Span], kind: int) -> list[Span]:
        return [s for s in spans if s.kind == kind and s.service == "pointsman-router"]

    found = await shared.collector.wait_for(
        trace_id, lambda spans: bool(of_kind(spans, SERVER) and of_kind(spans, CLIENT))
    )
    (served,), called = of_kind(found, SERVER), of_kind(found, CLIENT)
    assert served.name == "POST /v1/chat/completions"
    assert served.parent_id == parent
    assert served.attributes["http.response.status_code"] == 200
    assert served.attributes["gen_ai.operation.name"] == "chat"
    assert {span.parent_id for span in called} == {served.span_id}


async def test_neither_keys_nor_prompts_are_logged(shared: Shared, client: AsyncOpenAI) -> None:
    """Not by a good request, nor by a bad one."""
    secret = f"secret-{secrets.token_hex(8)}"
    await client.chat.completions.create(model="auto", messages=[{"role": "user", "content": secret}])
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model="none", messages=[{"role": "user", "content": secret}])
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key=secret).chat.completions.create(model="auto", **ASK)
    log = (shared.stack.data / "logs" / "router.log").read_text()
    assert "serving" in log
    assert secret not in log
    assert TENANT_KEY not in log
