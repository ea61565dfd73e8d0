"""The wires that are not OpenAI's against their documented shapes, and what all have in common."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.simulator import Simulator, events, frames, running_simulator

PROMPT = "Write a product description for: Walnut Desk Organizer. Attributes: solid walnut, magnetic lid"
ANTHROPIC = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["c", "f"]}},
    "required": ["city"],
}


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": PROMPT}], **more}


def messages(**more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 500, "messages": [{"role": "user", "content": PROMPT}], **more}


def contents(**more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}], **more}


def converse(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"text": PROMPT}]}], **more}


def invoke(**more: Any) -> dict[str, Any]:
    return {
        "anthropic_version": "bedrock-2023-05-31",
        **{name: value for name, value in messages(**more).items() if name != "model"},
    }


async def post(simulator: Simulator, path: str, body: Any, headers: Any = None) -> httpx.Response:
    return await simulator.client.post(f"{simulator.url}{path}", json=body, headers=headers)


def dig(document: Any, *path: str | int) -> Any:
    for step in path:
        document = document[step]
    return document


async def test_every_wire_gives_the_same_text(simulator: Simulator) -> None:
    """One prompt, one text, on all wires and names, a system prompt included."""
    system = "You write for a store."
    both = {
        "model": "m",
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": PROMPT}],
    }
    part = [{"text": system}]
    calls: list[tuple[str, Any, list[str | int]]] = [
        ("/one/v1/chat/completions", both, ["choices", 0, "message", "content"]),
        ("/two/v1/messages", messages(system=system), ["content", 0, "text"]),
        (
            "/three/v1beta/models/g:generateContent",
            contents(systemInstruction={"parts": part}),
            ["candidates", 0, "content", "parts", 0, "text"],
        ),
        (
            "/four/v1/responses",
            {"model": "r", "instructions": system, "input": PROMPT},
            ["output", 0, "content", 0, "text"],
        ),
        ("/five/v2/chat", both, ["message", "content", 0, "text"]),
        ("/six/model/b/converse", converse(system=part), ["output", "message", "content", 0, "text"]),
        ("/seven/model/b/invoke", invoke(system=system), ["content", 0, "text"]),
        ("/eight/api/chat", {**both, "stream": False}, ["message", "content"]),
    ]
    texts = {
        dig((await post(simulator, path, body, ANTHROPIC)).json(), *place) for path, body, place in calls
    }
    assert len(texts) == 1


async def test_own_answer_and_seed_give_other_texts(simulator: Simulator) -> None:
    """`own_answer` and `seed` tell virtual providers apart."""
    await simulator.set("own", own_answer=True)
    await simulator.set("seeded", seed=7)
    texts = {
        (await post(simulator, f"/{name}/v1/chat/completions", chat())).json()["choices"][0]["message"][
            "content"
        ]
        for name in ("shared", "own", "seeded")
    }
    assert len(texts) == 3


async def test_anthropic_stream_has_the_documented_events(simulator: Simulator) -> None:
    """message_start with input usage, ping, deltas, stop reason with output usage, message_stop."""
    answer = await post(simulator, "/a/v1/messages", messages(stream=True), ANTHROPIC)
    whole = (await post(simulator, "/a/v1/messages", messages(), ANTHROPIC)).json()
    found = events(answer.text)
    names = [name for name, _ in found]
    assert all(name == data["type"] for name, data in found)
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert found[0][1]["message"]["usage"]["input_tokens"] == whole["usage"]["input_tokens"]
    assert found[-2][1]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert found[-2][1]["delta"]["stop_reason"] == "end_turn"
    text = "".join(data["delta"]["text"] for name, data in found if name == "content_block_delta")
    assert text == whole["content"][0]["text"]
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["anthropic-ratelimit-requests-reset"].endswith("Z")


async def test_anthropic_continues_a_prefill(simulator: Simulator) -> None:
    """The last assistant turn is continued, streamed and unary: both halves make the whole answer."""
    whole = (await post(simulator, "/a/v1/messages", messages(), ANTHROPIC)).json()["content"][0]["text"]
    half = whole[: len(whole) // 2].rstrip()
    turns = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": half}]
    rest = (await post(simulator, "/a/v1/messages", messages(messages=turns), ANTHROPIC)).json()
    assert half + rest["content"][0]["text"] == whole
    streamed = await post(simulator, "/a/v1/messages", messages(messages=turns, stream=True), ANTHROPIC)
    deltas = [data["delta"]["text"] for name, data in events(streamed.text) if name == "content_block_delta"]
    assert half + "".join(deltas) == whole


@pytest.mark.parametrize(
    ("body", "headers", "status", "said"),
    [
        (messages(), {"anthropic-version": "2023-06-01"}, 401, "invalid x-api-key"),
        (messages(), {"x-api-key": "k"}, 400, "anthropic-version: header is required"),
        (
            {"model": "m", "messages": [{"role": "user", "content": "x"}]},
            ANTHROPIC,
            400,
            "max_tokens: Field required",
        ),
        (messages(messages=[{"role": "system", "content": "x"}]), ANTHROPIC, 400, 'Unexpected role "system"'),
        (
            messages(messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "and "}]),
            ANTHROPIC,
            400,
            "trailing whitespace",
        ),
    ],
)
async def test_anthropic_refuses_what_the_real_one_refuses(
    simulator: Simulator, body: Any, headers: dict[str, str], status: int, said: str
) -> None:
    """No key, no version, no max_tokens, a system role, a prefill ending in a space."""
    answer = await post(simulator, "/a/v1/messages", body, headers)
    assert answer.status_code == status
    assert answer.json()["type"] == "error"
    assert said in answer.json()["error"]["message"]


async def test_anthropic_tool_use(simulator: Simulator) -> None:
    """`any` calls a tool with an object as input; its stream carries the JSON in parts."""
    body = messages(tools=[{"name": "weather", "input_schema": SCHEMA}], tool_choice={"type": "any"})
    whole = (await post(simulator, "/a/v1/messages", body, ANTHROPIC)).json()
    assert whole["stop_reason"] == "tool_use"
    assert whole["content"][0]["name"] == "weather"
    found = events((await post(simulator, "/a/v1/messages", {**body, "stream": True}, ANTHROPIC)).text)
    parts = [data["delta"]["partial_json"] for name, data in found if name == "content_block_delta"]
    assert json.loads("".join(parts)) == whole["content"][0]["input"]


async def test_gemini_unary_and_stream(simulator: Simulator) -> None:
    """Candidates, STOP, usageMetadata; the stream's last chunk carries finish reason and totals."""
    whole = (await post(simulator, "/g/v1beta/models/gem:generateContent", contents())).json()
    candidate = whole["candidates"][0]
    assert candidate["finishReason"] == "STOP"
    assert candidate["content"]["role"] == "model"
    usage = whole["usageMetadata"]
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    streamed = await post(simulator, "/g/v1beta/models/gem:streamGenerateContent?alt=sse", contents())
    chunks = [data for _, data in events(streamed.text)]
    parts = [
        part["text"]
        for chunk in chunks
        for part in chunk["candidates"][0].get("content", {}).get("parts", [])
    ]
    assert "".join(parts) == candidate["content"]["parts"][0]["text"]
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
    assert chunks[-1]["usageMetadata"] == usage
    array = await post(simulator, "/g/v1beta/models/gem:streamGenerateContent", contents())
    assert array.json()[-1]["candidates"][0]["finishReason"] == "STOP"


async def test_gemini_function_call(simulator: Simulator) -> None:
    """Mode ANY gives a functionCall, whole in the stream too."""
    body = contents(
        tools=[{"functionDeclarations": [{"name": "weather", "parameters": SCHEMA}]}],
        toolConfig={"functionCallingConfig": {"mode": "ANY"}},
    )
    for verb in ("generateContent", "streamGenerateContent?alt=sse"):
        answer = await post(simulator, f"/g/v1beta/models/gem:{verb}", body)
        last = events(answer.text)[-1][1] if "alt" in verb else answer.json()
        call = last["candidates"][0]["content"]["parts"][0]["functionCall"]
        assert call["name"] == "weather"
        assert isinstance(call["args"]["city"], str)


async def test_cohere_unary_and_stream(simulator: Simulator) -> None:
    """Content blocks, COMPLETE, billed units; the stream's event names, then [DONE]."""
    whole = (await post(simulator, "/c/v2/chat", chat())).json()
    assert whole["finish_reason"] == "COMPLETE"
    found = events((await post(simulator, "/c/v2/chat", chat(stream=True))).text)
    names = [name for name, _ in found]
    assert names[:2] == ["message-start", "content-start"]
    assert names[-3:] == ["content-end", "message-end", ""]
    text = "".join(
        data["delta"]["message"]["content"]["text"] for name, data in found if name == "content-delta"
    )
    assert text == whole["message"]["content"][0]["text"]
    assert found[-2][1]["delta"]["usage"] == whole["usage"]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    called = (await post(simulator, "/c/v2/chat", chat(tools=tools, tool_choice="REQUIRED"))).json()
    assert called["finish_reason"] == "TOOL_CALL"
    assert "city" in json.loads(called["message"]["tool_calls"][0]["function"]["arguments"])


async def test_bedrock_converse_and_its_binary_stream(simulator: Simulator) -> None:
    """Converse's JSON; the stream's frames have valid checksums and the documented event types."""
    whole = (await post(simulator, "/b/model/us.amazon.nova-lite-v1%3A0/converse", converse())).json()
    assert whole["stopReason"] == "end_turn"
    assert whole["usage"]["totalTokens"] == whole["usage"]["inputTokens"] + whole["usage"]["outputTokens"]
    answer = await post(simulator, "/b/model/us.amazon.nova-lite-v1%3A0/converse-stream", converse())
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    found = frames(answer.content)
    kinds = [headers[":event-type"] for headers, _ in found]
    assert kinds[0] == "messageStart"
    assert kinds[-3:] == ["contentBlockStop", "messageStop", "metadata"]
    text = "".join(
        data["delta"]["text"] for head, data in found if head[":event-type"] == "contentBlockDelta"
    )
    assert text == whole["output"]["message"]["content"][0]["text"]
    assert found[-1][1]["usage"] == whole["usage"]
    assert (await simulator.report("b"))["attempts"][-1]["model"] == "us.amazon.nova-lite-v1:0"


async def test_bedrock_tool_use(simulator: Simulator) -> None:
    """A named tool is called, with its input in parts in the stream."""
    tools = {
        "tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}],
        "toolChoice": {"tool": {"name": "weather"}},
    }
    whole = (await post(simulator, "/b/model/x/converse", converse(toolConfig=tools))).json()
    use = whole["output"]["message"]["content"][0]["toolUse"]
    found = frames((await post(simulator, "/b/model/x/converse-stream", converse(toolConfig=tools))).content)
    parts = [d["delta"]["toolUse"]["input"] for h, d in found if h[":event-type"] == "contentBlockDelta"]
    assert json.loads("".join(parts)) == use["input"]


async def test_bedrock_invoke_wraps_the_vendors_events(simulator: Simulator) -> None:
    """Anthropic's answer as it is; its events base64 in frames, the last one with Bedrock's own counts."""
    whole = (await post(simulator, "/i/model/us.anthropic.claude-x/invoke", invoke())).json()
    assert (whole["type"], whole["stop_reason"]) == ("message", "end_turn")
    path = "/i/model/us.anthropic.claude-x/invoke-with-response-stream"
    answer = await post(simulator, path, invoke())
    assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
    found = frames(answer.content)
    assert {headers[":event-type"] for headers, _ in found} == {"chunk"}
    said = [json.loads(b64decode(data["bytes"])) for _, data in found]
    assert said[0]["type"] == "message_start"
    assert [event["type"] for event in said[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    text = "".join(event["delta"]["text"] for event in said if event["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]
    counts = said[-1]["amazon-bedrock-invocationMetrics"]
    assert counts["outputTokenCount"] == whole["usage"]["output_tokens"]
    assert (await simulator.report("i"))["attempts"][-1]["model"] == "us.anthropic.claude-x"


async def test_ollama_speaks_in_lines(simulator: Simulator) -> None:
    """A stream unless told otherwise; the line that is done has reason and counts; its list has tags."""
    answer = await post(simulator, "/o/api/chat", chat())
    assert answer.headers["content-type"] == "application/x-ndjson"
    said = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["done"] for line in said] == [False] * (len(said) - 1) + [True]
    whole = (await post(simulator, "/o/api/chat", chat(stream=False))).json()
    assert "".join(line["message"]["content"] for line in said) == whole["message"]["content"]
    assert whole["done_reason"] == "stop"
    assert whole["eval_count"] == said[-1]["eval_count"] == len(said) - 1
    short = chat(stream=False, options={"num_predict": 5})
    cut = (await post(simulator, "/o/api/chat", short)).json()
    assert (cut["done_reason"], cut["eval_count"]) == ("length", 5)
    tags = (await simulator.client.get(simulator.base("o") + "/api/tags")).json()
    assert tags["models"][0]["model"] == "simulated-large"


async def test_model_lists(simulator: Simulator) -> None:
    """Each wire's own list; a name that is not served is not found, on lists and in requests."""
    await simulator.set("lists", models=["big", "small"])
    get = simulator.client.get
    base = simulator.base("lists")
    assert [row["id"] for row in (await get(base + "/v1/models")).json()["data"]] == ["big", "small"]
    assert (await get(base + "/v1/models", headers=ANTHROPIC)).json()["first_id"] == "big"
    assert (await get(base + "/v1beta/models")).json()["models"][0]["name"] == "models/big"
    assert (await get(base + "/v1/models/big")).json()["id"] == "big"
    assert (await get(base + "/v1/models/other")).status_code == 404
    answer = await post(simulator, "/lists/v1/chat/completions", chat())
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_reported_usage_follows_each_wires_convention(simulator: Simulator) -> None:
    """Cached input is inside OpenAI's and Gemini's prompt tokens, outside Anthropic's; reasoning likewise."""
    usage = {"cache_read_tokens": 10, "reasoning_tokens": 7}
    for name in ("u1", "u2", "u3"):
        await simulator.set(name, tokens=20, usage=usage)
    total = -(-len(PROMPT) // 4)
    openai = (await post(simulator, "/u1/v1/chat/completions", chat())).json()["usage"]
    assert (openai["prompt_tokens"], openai["prompt_tokens_details"]["cached_tokens"]) == (total, 10)
    assert (openai["completion_tokens"], openai["completion_tokens_details"]["reasoning_tokens"]) == (27, 7)
    anthropic = (await post(simulator, "/u2/v1/messages", messages(), ANTHROPIC)).json()["usage"]
    assert (anthropic["input_tokens"], anthropic["cache_read_input_tokens"]) == (total - 10, 10)
    gemini = (await post(simulator, "/u3/v1beta/models/g:generateContent", contents())).json()[
        "usageMetadata"
    ]
    assert (gemini["promptTokenCount"], gemini["cachedContentTokenCount"]) == (total, 10)
    assert (gemini["candidatesTokenCount"], gemini["thoughtsTokenCount"]) == (20, 7)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/bad/v1/chat/completions", {"model": "m", "messages": []}),
        ("/bad/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("/bad/v1/chat/completions", chat(max_tokens=0)),
        ("/bad/v1/responses", {"model": "m"}),
        ("/bad/v1/responses", {"model": "m", "input": "x", "response_format": {}}),
        ("/bad/v1beta/models/g:generateContent", {"contents": [{"role": "user"}]}),
        ("/bad/v2/chat", {"messages": [{"role": "user", "content": "x"}]}),
        ("/bad/model/b/converse", {"messages": [{"role": "user", "content": "text"}]}),
        ("/bad/v1/chat/completions", [1, 2]),
        ("/bad/model/b/invoke", converse(max_tokens=5)),
        ("/bad/model/b/invoke", {**invoke(), "model": "m"}),
        ("/bad/model/b/invoke", {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5}),
        ("/bad/api/chat", {"messages": [{"role": "user", "content": "x"}]}),
        ("/bad/api/chat", {"model": "m", "messages": "x"}),
        ("/bad/api/chat", chat(options={"num_predict": 0})),
    ],
)
async def test_malformed_requests_are_refused(simulator: Simulator, path: str, body: Any) -> None:
    """A request that the vendor would not accept is a 400 with its error shape, not a guess."""
    answer = await post(simulator, path, body)
    assert answer.status_code == 400
    assert {"message", "error"} & set(answer.json())
