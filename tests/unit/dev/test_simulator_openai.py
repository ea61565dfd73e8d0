"""The OpenAI wires (chat completions, responses, Azure) against their documented shapes, checked by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.simulator import Simulator, events, running_simulator

PROMPT = "Write a product description for: Walnut Desk Organizer. Attributes: solid walnut, magnetic lid"
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


async def post(simulator: Simulator, path: str, body: Any, headers: Any = None) -> httpx.Response:
    return await simulator.client.post(f"{simulator.url}{path}", json=body, headers=headers)


async def test_chat_completion_has_the_documented_shape(simulator: Simulator) -> None:
    """A unary chat completion: message, finish reason, usage that adds up, request id and rate-limit headers."""
    answer = await post(simulator, "/chat/v1/chat/completions", chat())
    body = answer.json()
    assert answer.status_code == 200
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    choice = body["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["role"] == "assistant"
    assert "Walnut Desk Organizer" in choice["message"]["content"]
    usage = body["usage"]
    assert usage["prompt_tokens"] == -(-len(PROMPT) // 4)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert answer.headers["x-request-id"].startswith("req_")
    assert int(answer.headers["x-ratelimit-remaining-requests"]) > 0
    assert answer.headers["x-ratelimit-reset-requests"].endswith("s")


async def test_chat_stream_ends_with_finish_usage_and_done(simulator: Simulator) -> None:
    """Role first, one delta a token, then the finish reason, the usage chunk without choices, and [DONE]."""
    body = chat(stream=True, stream_options={"include_usage": True})
    answer = await post(simulator, "/chat/v1/chat/completions", body)
    whole = (await post(simulator, "/chat/v1/chat/completions", chat())).json()
    found = events(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert found[-1] == ("", "[DONE]")
    chunks = [data for _, data in found[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[1:-2]]
    assert "".join(deltas) == whole["choices"][0]["message"]["content"]
    assert len(deltas) == whole["usage"]["completion_tokens"]


async def test_usage_may_come_with_the_finish(simulator: Simulator) -> None:
    """As Mistral does: unasked, in the finishing chunk."""
    await simulator.set("mistral", usage={"with_finish": True})
    answer = await post(simulator, "/mistral/v1/chat/completions", chat(stream=True))
    chunks = [data for _, data in events(answer.text)[:-1]]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk.get("usage")] == ["stop"]


async def test_chat_stream_without_include_usage_has_none(simulator: Simulator) -> None:
    """Usage comes only where it was asked for."""
    answer = await post(simulator, "/chat/v1/chat/completions", chat(stream=True))
    assert all("usage" not in data for _, data in events(answer.text)[:-1])


async def test_tool_call_is_made_when_forced(simulator: Simulator) -> None:
    """`required` calls the first tool, a name calls that one; arguments satisfy the schema; streamed in parts."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    answer = await post(simulator, "/tool/v1/chat/completions", chat(tools=tools, tool_choice="required"))
    choice = answer.json()["choices"][0]
    call = choice["message"]["tool_calls"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert call["function"]["name"] == "weather"
    arguments = json.loads(call["function"]["arguments"])
    assert isinstance(arguments["city"], str)
    assert arguments["unit"] == "c"
    assert arguments["days"] == 1
    named = {"type": "function", "function": {"name": "weather"}}
    body = chat(tools=tools, tool_choice=named, stream=True)
    chunks = [
        data for _, data in events((await post(simulator, "/tool/v1/chat/completions", body)).text)[:-1]
    ]
    parts = [chunk["choices"][0]["delta"].get("tool_calls") for chunk in chunks]
    assert parts[0][0]["function"]["name"] == "weather"
    streamed = "".join(part[0]["function"]["arguments"] for part in parts if part)
    assert json.loads(streamed) == arguments


async def test_tools_that_need_not_be_called_are_not(simulator: Simulator) -> None:
    """With tool_choice auto the answer is text."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    answer = await post(simulator, "/tool/v1/chat/completions", chat(tools=tools))
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


async def test_response_format_gives_json(simulator: Simulator) -> None:
    """json_object gives an object, json_schema one that satisfies the schema."""
    free = await post(simulator, "/j/v1/chat/completions", chat(response_format={"type": "json_object"}))
    assert "description" in json.loads(free.json()["choices"][0]["message"]["content"])
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    strict = await post(simulator, "/j/v1/chat/completions", chat(response_format=wanted))
    assert set(json.loads(strict.json()["choices"][0]["message"]["content"])) == {"city", "days", "unit"}


async def test_max_tokens_and_stop_cut_the_answer(simulator: Simulator) -> None:
    """max_tokens ends with `length` after exactly as many tokens; a stop sequence ends before it."""
    short = (await post(simulator, "/cut/v1/chat/completions", chat(max_tokens=5))).json()
    assert short["choices"][0]["finish_reason"] == "length"
    assert short["usage"]["completion_tokens"] == 5
    stopped = (await post(simulator, "/cut/v1/chat/completions", chat(stop=["."]))).json()["choices"][0]
    assert stopped["finish_reason"] == "stop"
    assert "." not in stopped["message"]["content"]


async def test_responses_events_come_in_order(simulator: Simulator) -> None:
    """The responses API's event names, its sequence numbers, and the final response with usage."""
    answer = await post(simulator, "/r/v1/responses", {"model": "m", "input": PROMPT, "stream": True})
    found = events(answer.text)
    names = [name for name, _ in found]
    assert all(name == data["type"] for name, data in found)
    assert names[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert names[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    text = "".join(data["delta"] for name, data in found if name == "response.output_text.delta")
    final = found[-1][1]["response"]
    assert final["output"][0]["content"][0]["text"] == text
    assert final["status"] == "completed"
    assert final["usage"]["total_tokens"] == final["usage"]["input_tokens"] + final["usage"]["output_tokens"]


async def test_responses_tool_call_and_truncation(simulator: Simulator) -> None:
    """A forced function call is an output item of its own; a short limit ends incomplete."""
    tools = [{"type": "function", "name": "weather", "parameters": SCHEMA}]
    body = {
        "model": "m",
        "input": PROMPT,
        "tools": tools,
        "tool_choice": {"type": "function", "name": "weather"},
    }
    item = (await post(simulator, "/r/v1/responses", body)).json()["output"][0]
    assert item["type"] == "function_call"
    assert "city" in json.loads(item["arguments"])
    found = events((await post(simulator, "/r/v1/responses", {**body, "stream": True})).text)
    assert "response.function_call_arguments.done" in [name for name, _ in found]
    short = {"model": "m", "input": PROMPT, "max_output_tokens": 16}
    cut = (await post(simulator, "/r/v1/responses", short)).json()
    assert cut["status"] == "incomplete"
    assert cut["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_azure_annotates_and_wants_an_api_version(simulator: Simulator) -> None:
    """A first chunk without choices, content-filter results on each; without api-version there is no resource."""
    path = "/az/openai/deployments/dep/chat/completions"
    body = {"messages": [{"role": "user", "content": PROMPT}], "stream": True}
    found = events((await post(simulator, path + "?api-version=2024-10-21", body)).text)
    assert found[0][1]["choices"] == []
    assert "prompt_filter_results" in found[0][1]
    assert "content_filter_results" in found[2][1]["choices"][0]
    assert found[2][1]["model"] == "dep"
    missing = await post(simulator, path, body)
    assert missing.status_code == 404
    assert missing.json() == {"error": {"code": "404", "message": "Resource not found"}}
