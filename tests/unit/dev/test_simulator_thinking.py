"""Thinking at the simulator: shown where it is asked for, wanted back where the vendor wants it back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.simulator import Simulator, events, frames, running_simulator

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
QUESTION = "How is the weather in Bern?"
ANTHROPIC = {"x-api-key": "k", "anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running


async def post(simulator: Simulator, path: str, body: Any, status: int = 200) -> Any:
    answer = await simulator.client.post(f"{simulator.url}/{path}", json=body, headers=ANTHROPIC)
    assert answer.status_code == status, answer.text
    return answer


def messages(*more: Any, **fields: Any) -> dict[str, Any]:
    return {
        "model": "claude-haiku-4-5",
        "max_tokens": 4000,
        "messages": [{"role": "user", "content": QUESTION}, *more],
        "tools": [{"name": "weather", "input_schema": SCHEMA}],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        **fields,
    }


async def test_anthropic_thinks_signs_and_wants_it_back(simulator: Simulator) -> None:
    """A call comes after its thinking; sent back as it came it is taken; left out or changed it is refused."""
    thought, call = (await post(simulator, "a/v1/messages", messages())).json()["content"]
    assert thought["type"] == "thinking"
    assert thought["thinking"]
    result = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "sunny"}],
    }
    whole = messages({"role": "assistant", "content": [thought, call]}, result)
    assert (await post(simulator, "a/v1/messages", whole)).json()["content"][-1]["type"] == "text"
    without = messages({"role": "assistant", "content": [call]}, result)
    refusal = (await post(simulator, "a/v1/messages", without, 400)).json()
    assert refusal["error"]["message"].startswith("messages.1.content.0.type: Expected `thinking`")
    changed = messages({"role": "assistant", "content": [{**thought, "thinking": "No."}, call]}, result)
    refusal = (await post(simulator, "a/v1/messages", changed, 400)).json()
    assert refusal["error"]["message"] == "messages.1.content.0: Invalid `signature` in `thinking` block"


async def test_anthropic_streams_its_thinking_with_a_signature(simulator: Simulator) -> None:
    """Deltas of thinking, then the signature, then the next block; the same as the whole answer has."""
    (thought, _) = (await post(simulator, "a/v1/messages", messages())).json()["content"]
    streamed = events((await post(simulator, "a/v1/messages", messages(stream=True))).text)
    deltas = [data["delta"] for name, data in streamed if name == "content_block_delta"]
    text = "".join(delta["thinking"] for delta in deltas if delta["type"] == "thinking_delta")
    signatures = [delta["signature"] for delta in deltas if delta["type"] == "signature_delta"]
    assert (text, signatures) == (thought["thinking"], [thought["signature"]])
    starts = [data["content_block"]["type"] for name, data in streamed if name == "content_block_start"]
    assert starts == ["thinking", "tool_use"]
    stops = [data["index"] for name, data in streamed if name == "content_block_stop"]
    assert stops == [0, 1]


async def test_bedrock_thinks_and_wants_it_back(simulator: Simulator) -> None:
    """In its own blocks and deltas, with Anthropic's signature."""
    spec = {"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}
    question = {"role": "user", "content": [{"text": QUESTION}]}
    more = {
        "toolConfig": {"tools": [spec]},
        "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2000}},
    }
    path = "b/model/anthropic.claude-sonnet-4-5/converse"
    answer = (await post(simulator, path, {"messages": [question], **more})).json()
    message = answer["output"]["message"]
    thought = message["content"][0]["reasoningContent"]["reasoningText"]
    call = message["content"][1]["toolUse"]
    result = {"toolResult": {"toolUseId": call["toolUseId"], "content": [{"text": "sunny"}]}}
    back = [question, message, {"role": "user", "content": [result]}]
    await post(simulator, path, {"messages": back, **more})
    back[1] = {"role": "assistant", "content": message["content"][1:]}
    await post(simulator, path, {"messages": back, **more}, 400)
    streamed = frames((await post(simulator, path + "-stream", {"messages": [question], **more})).content)
    deltas = [
        payload["delta"] for headers, payload in streamed if headers[":event-type"] == "contentBlockDelta"
    ]
    reasoning = [delta["reasoningContent"] for delta in deltas if "reasoningContent" in delta]
    assert "".join(delta.get("text", "") for delta in reasoning) == thought["text"]
    assert reasoning[-1]["signature"] == thought["signature"]


@pytest.mark.parametrize("stream", [False, True])
async def test_gemini_signs_its_calls_and_wants_that_back(simulator: Simulator, stream: bool) -> None:
    """Thoughts are parts of their own where they are to be included; a third-generation model refuses a call that
    comes back without its signature."""
    question = {"role": "user", "parts": [{"text": QUESTION}]}
    body = {
        "contents": [question],
        "tools": [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": SCHEMA}]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    }
    path = "g/v1beta/models/gemini-3-pro-preview:generateContent"
    if stream:
        verb = "streamGenerateContent?alt=sse"
        answer = await post(simulator, path.replace("generateContent", verb), body)
        chunks = [data for _, data in events(answer.text.replace("\r\n", "\n"))]
        parts = [
            part for chunk in chunks for part in chunk["candidates"][0].get("content", {}).get("parts", ())
        ]
    else:
        parts = (await post(simulator, path, body)).json()["candidates"][0]["content"]["parts"]
    assert all(part["thought"] for part in parts[:-1])
    assert parts[-1]["functionCall"]["name"] == "weather"
    result = {
        "role": "user",
        "parts": [{"functionResponse": {"name": "weather", "response": {"is": "sunny"}}}],
    }
    back = {**body, "contents": [question, {"role": "model", "parts": parts[-1:]}, result]}
    await post(simulator, path, back)
    del parts[-1]["thoughtSignature"]
    refusal = (await post(simulator, path, back, 400)).json()
    assert "thought_signature" in refusal["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_keep_their_reasoning_encrypted(simulator: Simulator, stream: bool) -> None:
    """An item of its own before the call; sent back encrypted it is taken, without that it is not found."""
    question = {"role": "user", "content": QUESTION}
    tool = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}
    more = {
        "model": "gpt-5-mini",
        "store": False,
        "tools": [tool],
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }
    answer = await post(simulator, "r/v1/responses", {"input": [question], "stream": stream, **more})
    if stream:
        seen = events(answer.text)
        output = [data["item"] for name, data in seen if name == "response.output_item.done"]
        deltas = [data["delta"] for name, data in seen if name == "response.reasoning_summary_text.delta"]
        assert "".join(deltas) == output[0]["summary"][0]["text"]
        assert output == seen[-1][1]["response"]["output"]
    else:
        output = answer.json()["output"]
    assert [item["type"] for item in output] == ["reasoning", "function_call"]
    result = {"type": "function_call_output", "call_id": output[1]["call_id"], "output": "sunny"}
    await post(simulator, "r/v1/responses", {"input": [question, *output, result], **more})
    del output[0]["encrypted_content"]
    refusal = (
        await post(simulator, "r/v1/responses", {"input": [question, *output, result], **more}, 404)
    ).json()
    assert refusal["error"]["param"] == "input"


async def test_deepseek_wants_its_reasoning_back(simulator: Simulator) -> None:
    """`reasoning_content` comes with a call, and is missed in the turn after it."""
    question = {"role": "user", "content": QUESTION}
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    body = {"model": "deepseek-reasoner", "messages": [question], "tools": [tool]}
    message = (await post(simulator, "deepseek/chat/completions", body)).json()["choices"][0]["message"]
    assert message["reasoning_content"]
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "sunny"}
    back = {key: message[key] for key in ("role", "content", "tool_calls", "reasoning_content")}
    await post(simulator, "deepseek/chat/completions", {**body, "messages": [question, back, result]})
    del back["reasoning_content"]
    await post(simulator, "deepseek/chat/completions", {**body, "messages": [question, back, result]}, 400)
    streamed = events((await post(simulator, "deepseek/chat/completions", {**body, "stream": True})).text)
    deltas = [data["choices"][0]["delta"] for _, data in streamed[:-1]]
    text = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    assert text == message["reasoning_content"]


async def test_cohere_and_ollama_think_where_it_is_asked_for(simulator: Simulator) -> None:
    """As content of its own, and as a field of the message."""
    body = {"model": "m", "messages": [{"role": "user", "content": QUESTION}]}
    answer = await post(simulator, "c/v2/chat", {**body, "thinking": {"type": "enabled"}})
    assert [part["type"] for part in answer.json()["message"]["content"]] == ["thinking", "text"]
    lines = (await post(simulator, "o/api/chat", {**body, "think": True})).text.splitlines()
    told = [json.loads(line)["message"] for line in lines]
    assert "".join(message.get("thinking", "") for message in told)


async def test_reasoning_text_comes_as_a_content_part_on_demand(simulator: Simulator) -> None:
    """As from models with open weights: parts of type `reasoning_text` in an item of type `reasoning`."""
    await simulator.set("open", faults=[{"kind": "thinks"}])
    answer = await post(simulator, "open/v1/responses", {"model": "m", "input": QUESTION, "stream": True})
    seen = events(answer.text)
    parts = [data["part"]["type"] for name, data in seen if name == "response.content_part.done"]
    assert parts == ["reasoning_text", "output_text"]
    output = seen[-1][1]["response"]["output"]
    assert output[0]["content"][0]["type"] == "reasoning_text"


ODD: dict[str, Callable[[dict[str, Any]], bool]] = {
    "none": lambda call: "id" not in call,
    "empty": lambda call: call["id"] == "",
    "repeated": lambda call: call["id"] == "call_0",
    "long": lambda call: len(call["id"]) == 65,
    "dotted": lambda call: call["id"] == "functions.weather:0",
}


@pytest.mark.parametrize("ids", ODD)
async def test_calls_are_odd_on_demand(simulator: Simulator, ids: str) -> None:
    """With odd ids, without arguments, ended with `stop`; whole and streamed alike."""
    await simulator.set(
        "odd", faults=[{"kind": "odd_calls", "ids": ids, "finish": "stop", "no_arguments": True}]
    )
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    body = {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "tools": [tool]}
    choice = (await post(simulator, "odd/v1/chat/completions", body)).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], call["function"]["arguments"]) == ("stop", "")
    assert ODD[ids](call)
    streamed = events((await post(simulator, "odd/v1/chat/completions", {**body, "stream": True})).text)[:-1]
    choices = [data["choices"][0] for _, data in streamed]
    (begun,) = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    assert ODD[ids](begun)
    assert (choices[-1]["finish_reason"], begun["function"]["arguments"]) == ("stop", "")


async def test_anthropic_streams_a_call_without_arguments_as_a_block_alone(simulator: Simulator) -> None:
    """A start and a stop with no delta between."""
    await simulator.set("odd", faults=[{"kind": "odd_calls", "no_arguments": True}])
    body = {**messages(stream=True), "thinking": {"type": "disabled"}}
    seen = events((await post(simulator, "odd/v1/messages", body)).text)
    assert [name for name, _ in seen if name.startswith("content_block")] == [
        "content_block_start",
        "content_block_stop",
    ]


async def test_an_emoji_comes_in_halves_on_demand(simulator: Simulator) -> None:
    """Each half escaped in a delta of its own; together they are one character."""
    await simulator.set("halves", faults=[{"kind": "split_emoji"}])
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    raw = (await post(simulator, "halves/v1/chat/completions", body)).text
    assert '"content":"\\ud83d"' in raw
    assert '"content":"\\ude00"' in raw
    whole = (await post(simulator, "halves/v1/chat/completions", {**body, "stream": False})).json()
    assert whole["choices"][0]["message"]["content"].endswith("\U0001f600")


async def test_one_tool_at_a_time_where_no_more_are_allowed(simulator: Simulator) -> None:
    """`parallel_tool_calls: false` and its like."""
    tools = [
        {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("weather", "news")
    ]
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "The weather and the news"}],
        "tools": tools,
    }
    answer = (await post(simulator, "p/v1/chat/completions", body)).json()
    assert len(answer["choices"][0]["message"]["tool_calls"]) == 2
    answer = (await post(simulator, "p/v1/chat/completions", {**body, "parallel_tool_calls": False})).json()
    assert len(answer["choices"][0]["message"]["tool_calls"]) == 1
