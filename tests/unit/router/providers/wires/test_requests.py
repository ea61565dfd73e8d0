"""Requests: addresses, keys, and every part of a prompt under the name its provider gives it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from libs.catalog.kinds import KINDS
from libs.conversation import Message, ReasoningEffort, ResponseFormat, Role, Tool, ToolCall
from libs.types import ErrorClass
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Prompt, ProviderFailure
from tests.unit.router.providers.wires.samples import WIRES

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
ASK = Message(Role.USER, "Weather in Bern?")
PLAIN = Prompt((Message(Role.SYSTEM, "Be brief."), ASK), 100)
FULL = Prompt(
    messages=(
        Message(Role.SYSTEM, "Be brief."),
        ASK,
        Message(
            Role.ASSISTANT, "", (ToolCall("a", "weather", '{"city":"Bern"}'), ToolCall("b", "time", "{}"))
        ),
        Message(Role.TOOL, "sunny", tool_call_id="a"),
        Message(Role.TOOL, '{"hour":9}', tool_call_id="b"),
    ),
    max_output_tokens=5000,
    temperature=0.5,
    top_p=0.9,
    seed=7,
    stop_sequences=("END",),
    response_format=ResponseFormat(json.dumps(SCHEMA), "weather"),
    tools=(Tool("weather", "Looks outside", json.dumps(SCHEMA)), Tool("time")),
    tool_choice="required",
    presence_penalty=0.1,
    frequency_penalty=0.2,
)


def send(
    kind: str,
    prompt: Prompt,
    *,
    stream: bool = False,
    base: str = "https://h/v1",
    model: str = "m-1",
    **options: str,
) -> tuple[HttpRequest, dict[str, Any]]:
    """The request and its decoded body."""
    request = WIRES[kind].request(prompt, Endpoint(base, model, "k-123", options), stream=stream)
    assert request.method == "POST"
    assert all(name == name.lower() for name in request.headers)
    assert request.headers["content-type"] == "application/json"
    assert "k-123" not in repr(request)
    return request, json.loads(request.body)


@pytest.mark.parametrize("kind", sorted(WIRES))
@pytest.mark.parametrize("stream", [False, True])
def test_every_wire_makes_a_request_of_a_full_prompt(kind: str, stream: bool) -> None:
    """Every wire accepts every part of a prompt, sends its texts and keeps the key out of the body."""
    model = "us.anthropic.claude-x" if kind == "bedrock_invoke" else "m-1"
    request, _ = send(kind, FULL, stream=stream, model=model, project="p")
    for text in ("Be brief.", "Weather in Bern?", "sunny", "Looks outside"):
        assert text in request.body.decode()
    assert b"k-123" not in request.body
    assert "k-123" in "".join(request.headers.values())


def test_every_kind_of_the_catalog_has_a_wire() -> None:
    """A provider that the catalog accepts can be called."""
    assert set(KINDS) <= set(WIRES)


def test_openai_chat() -> None:
    """The whole of a chat completion request."""
    request, body = send("openai", FULL, stream=True)
    assert request.url == "https://h/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k-123"
    assert body == {
        "model": "m-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather in Bern?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "a",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Bern"}'},
                    },
                    {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "content": "sunny", "tool_call_id": "a"},
            {"role": "tool", "content": '{"hour":9}', "tool_call_id": "b"},
        ],
        "max_completion_tokens": 5000,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "seed": 7,
        "stop": ["END"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True},
        },
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": "Looks outside", "parameters": SCHEMA},
            },
            {
                "type": "function",
                "function": {"name": "time", "parameters": {"type": "object", "properties": {}}},
            },
        ],
        "tool_choice": "required",
    }


def test_unset_is_not_sent() -> None:
    """Options that a caller leaves open are the provider's to decide."""
    _, body = send("openai", PLAIN)
    assert sorted(body) == ["max_completion_tokens", "messages", "model"]


def test_a_loose_schema_is_not_called_strict() -> None:
    """Strict mode refuses schemas with open objects or optional properties."""
    loose = json.dumps({"type": "object", "properties": {"a": {"type": "string"}}})
    _, body = send("openai", replace(PLAIN, response_format=ResponseFormat(loose)))
    assert body["response_format"]["json_schema"]["strict"] is False


def test_any_json_object() -> None:
    """Without a schema any object will do; DeepSeek knows nothing else."""
    _, body = send("openai", replace(PLAIN, response_format=ResponseFormat()))
    assert body["response_format"] == {"type": "json_object"}
    _, body = send("deepseek", replace(PLAIN, response_format=ResponseFormat(json.dumps(SCHEMA))))
    assert body["response_format"] == {"type": "json_object"}


def test_a_long_instruction_gets_a_cache_hint() -> None:
    """OpenAI gets a key that only depends on the instructions, Anthropic a mark on them; short ones get nothing."""
    long = replace(PLAIN, messages=(Message(Role.SYSTEM, "rule " * 1000), ASK))
    other = replace(long, messages=(*long.messages, Message(Role.USER, "And Basel?")))
    keys = {
        send(kind, prompt)[1]["prompt_cache_key"]
        for kind in ("openai", "openai_responses")
        for prompt in (long, other)
    }
    assert len(keys) == 1
    assert "cache_control" in send("anthropic", long)[1]["system"][0]
    assert "cache_control" not in send("anthropic", long, prompt_cache="off")[1]["system"][0]
    assert "cache_control" not in send("anthropic", PLAIN)[1]["system"][0]
    assert send("bedrock", long, prompt_cache="on")[1]["system"][1] == {"cachePoint": {"type": "default"}}


NAMES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("groq", {"seed": 7}, {"seed": 7, "max_completion_tokens": 100}),
    ("vllm", {"seed": 7}, {"seed": 7, "max_tokens": 100}),
    ("mistral", {"seed": 7}, {"random_seed": 7, "max_tokens": 100}),
    ("gemini", {"seed": 7}, {"generationConfig": {"maxOutputTokens": 100, "seed": 7}}),
    (
        "cohere",
        {"top_p": 0.5, "stop_sequences": ("x",)},
        {"p": 0.5, "stop_sequences": ["x"], "max_tokens": 100},
    ),
    ("ollama_native", {"seed": 7}, {"options": {"num_predict": 100, "seed": 7}, "stream": False}),
    ("bedrock", {"top_p": 0.5}, {"inferenceConfig": {"maxTokens": 100, "topP": 0.5}}),
    ("openai_responses", {}, {"max_output_tokens": 100, "store": False}),
    ("openai", {"reasoning_effort": ReasoningEffort.LOW}, {"reasoning_effort": "low"}),
    ("openrouter", {"reasoning_effort": ReasoningEffort.LOW}, {"reasoning": {"effort": "low"}}),
    (
        "deepseek",
        {"reasoning_effort": ReasoningEffort.LOW},
        {"thinking": {"type": "enabled"}, "reasoning_effort": "low"},
    ),
    ("zai", {"reasoning_effort": ReasoningEffort.LOW}, {"thinking": {"type": "enabled"}}),
    ("zai", {"reasoning_effort": ReasoningEffort.NONE}, {"thinking": {"type": "disabled"}}),
    ("openai_responses", {"reasoning_effort": ReasoningEffort.LOW}, {"reasoning": {"effort": "low"}}),
    ("cohere", {"reasoning_effort": ReasoningEffort.NONE}, {"thinking": {"type": "disabled"}}),
    ("ollama_native", {"reasoning_effort": ReasoningEffort.HIGH}, {"think": True}),
    (
        "gemini",
        {"reasoning_effort": ReasoningEffort.LOW},
        {"generationConfig": {"maxOutputTokens": 100}},
    ),
    (
        "gemini",
        {"reasoning_effort": ReasoningEffort.NONE},
        {"generationConfig": {"maxOutputTokens": 100, "thinkingConfig": {"thinkingBudget": 0}}},
    ),
]


@pytest.mark.parametrize(("kind", "change", "expected"), NAMES)
def test_each_provider_has_its_own_names(kind: str, change: dict[str, Any], expected: dict[str, Any]) -> None:
    """Token limits, seeds, effort and sampling under the names of each provider."""
    _, body = send(kind, replace(PLAIN, **change))
    assert {name: body.get(name) for name in expected} == expected


CHOICES: list[tuple[str, str, str, Any]] = [
    ("openai", "weather", "tool_choice", {"type": "function", "function": {"name": "weather"}}),
    ("mistral", "required", "tool_choice", "any"),
    ("openai_responses", "weather", "tool_choice", {"type": "function", "name": "weather"}),
    ("anthropic", "required", "tool_choice", {"type": "any"}),
    ("anthropic", "weather", "tool_choice", {"type": "tool", "name": "weather"}),
    ("gemini", "none", "toolConfig", {"functionCallingConfig": {"mode": "NONE"}}),
    (
        "gemini",
        "weather",
        "toolConfig",
        {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
    ),
    ("cohere", "required", "tool_choice", "REQUIRED"),
]


@pytest.mark.parametrize(("kind", "choice", "field", "expected"), CHOICES)
def test_tool_choice(kind: str, choice: str, field: str, expected: Any) -> None:
    """auto, none, required and one tool in each provider's words."""
    assert send(kind, replace(FULL, tool_choice=choice))[1][field] == expected


def test_a_schema_that_is_not_json_is_the_callers_fault() -> None:
    """No provider is bothered with it."""
    for kind in ("openai", "anthropic", "gemini", "bedrock", "cohere"):
        with pytest.raises(ProviderFailure) as caught:
            send(kind, replace(PLAIN, tools=(Tool("f", parameters_json="{"),)))
        assert caught.value.error_class is ErrorClass.INVALID_REQUEST


def test_anthropic_joins_tool_results_into_one_turn() -> None:
    """Both results follow the turn that asked for them, as one user message."""
    request, body = send("anthropic", FULL, base="https://h")
    assert request.url == "https://h/v1/messages"
    assert request.headers["x-api-key"] == "k-123"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert body["system"] == [{"type": "text", "text": "Be brief."}]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"][0]["input"] == {"city": "Bern"}
    assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == ["a", "b"]
    assert body["output_config"]["format"]["schema"] == SCHEMA
    assert body["temperature"] == 0.5
    assert "top_p" not in body


#: Changes to a prompt after which Claude takes no budget of thoughts.
NO_THINKING: tuple[dict[str, Any], ...] = (
    {"prefill": "It"},
    {"max_output_tokens": 1000},
    {"messages": FULL.messages},
    {"tools": FULL.tools, "tool_choice": "required"},
    {"tools": FULL.tools, "tool_choice": "time"},
)


def test_anthropic_thinking() -> None:
    """A budget within the token limit and no sampling parameters; none where it would be refused."""
    think = replace(PLAIN, reasoning_effort=ReasoningEffort.HIGH, max_output_tokens=10_000, temperature=0.5)
    _, body = send("anthropic", think)
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 5000}
    assert "temperature" not in body
    for change in NO_THINKING:
        assert "thinking" not in send("anthropic", replace(think, **change))[1]
    _, body = send("anthropic", think, thinking="adaptive")
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "high"})


@pytest.mark.parametrize(
    ("model", "adaptive"),
    [
        ("claude-3-7-sonnet-20250219", False),
        ("claude-sonnet-4-20250514", False),
        ("claude-opus-4-1-20250805", False),
        ("claude-haiku-4-5", False),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", False),
        ("claude-opus-4-6", True),
        ("global.anthropic.claude-opus-4-6-v1", True),
        ("claude-opus-4-10-20271231", True),
        ("claude-sonnet-5", True),
        ("anthropic.claude-fable-5-1", True),
        ("claude-mythos-preview", True),
    ],
)
def test_a_claude_model_thinks_as_its_version_does(model: str, adaptive: bool) -> None:
    """With an effort or a budget, by its name, on either platform, unless the catalog says otherwise; a demanded call
    leaves the effort."""
    think = replace(PLAIN, reasoning_effort=ReasoningEffort.HIGH, max_output_tokens=10_000)
    bodies = [send("anthropic", think, model=model)[1]]
    if "anthropic." in model:
        bodies.append(send("bedrock", think, model=model)[1]["additionalModelRequestFields"])
    for body in bodies:
        assert body["thinking"]["type"] == ("adaptive" if adaptive else "enabled")
        assert ("output_config" in body) is adaptive
    other = "budget" if adaptive else "adaptive"
    body = send("anthropic", think, model=model, thinking=other)[1]
    assert (body["thinking"]["type"] == "adaptive") is not adaptive
    forced = replace(think, tools=(Tool("f"),), tool_choice="required")
    body = send("anthropic", forced, model=model)[1]
    assert ("thinking" in body, "output_config" in body) == (False, adaptive)


def test_bedrock_lets_claude_think_as_anthropic_does() -> None:
    """Converse gives Claude the same budget, and none in the cases in which Anthropic's own API gives none."""
    think = replace(PLAIN, reasoning_effort=ReasoningEffort.HIGH, max_output_tokens=10_000, temperature=0.5)
    model = "eu.anthropic.claude-x"
    body = send("bedrock", think, model=model)[1]
    assert body["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": 5000}}
    assert body["inferenceConfig"] == {"maxTokens": 10_000}
    for change in NO_THINKING:
        body = send("bedrock", replace(think, **change), model=model)[1]
        assert "additionalModelRequestFields" not in body
        assert body["inferenceConfig"]["temperature"] == 0.5


def test_gemini_names_the_call_before_a_result_where_ids_repeat() -> None:
    """A result bears the name of the last call with its id before it, not of a later turn's."""
    turns = [
        message
        for name in ("weather", "time")
        for message in (
            Message(Role.ASSISTANT, "", (ToolCall("call_0", name, "{}"),)),
            Message(Role.TOOL, "it is so", tool_call_id="call_0"),
        )
    ]
    contents = send("gemini", Prompt((ASK, *turns), 100))[1]["contents"]
    parts = [part for turn in contents for part in turn["parts"]]
    answered = [part["functionResponse"]["name"] for part in parts if "functionResponse" in part]
    assert answered == ["weather", "time"]


def test_thoughts_leave_room_for_the_answer() -> None:
    """Half of what may be written at most, as for Anthropic; Gemini takes no budget below 512."""
    think = replace(PLAIN, reasoning_effort=ReasoningEffort.HIGH, max_output_tokens=4000)
    budget: dict[str, Callable[[dict[str, Any]], Any]] = {
        "gemini": lambda body: body["generationConfig"].get("thinkingConfig", {}).get("thinkingBudget"),
        "vertex": lambda body: body["generationConfig"].get("thinkingConfig", {}).get("thinkingBudget"),
        "cohere": lambda body: body["thinking"]["token_budget"],
    }
    for kind, read in budget.items():
        assert read(send(kind, think, project="p")[1]) == 2000
        assert read(send(kind, replace(think, max_output_tokens=100_000), project="p")[1]) in (16_384, 24_576)
    short = replace(think, max_output_tokens=100)
    assert [read(send(kind, short, project="p")[1]) for kind, read in budget.items()] == [None, None, 50]
    assert send("cohere", replace(think, max_output_tokens=1))[1]["thinking"]["token_budget"] == 1


def test_gemini_names_the_function_that_a_result_answers() -> None:
    """Results carry the function's name, found by the call's id; Gemini 3 is told that it gets no signature."""
    request, body = send("gemini", FULL, base="https://h", model="gemini-3-pro", stream=True)
    assert request.url == "https://h/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"
    assert request.headers["x-goog-api-key"] == "k-123"
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]
    signed, plain = body["contents"][1]["parts"]
    assert "thoughtSignature" in signed
    assert "thoughtSignature" not in plain
    answers = [part["functionResponse"] for part in body["contents"][2]["parts"]]
    assert answers == [
        {"name": "weather", "response": {"result": "sunny"}},
        {"name": "time", "response": {"hour": 9}},
    ]


ADDRESSES: list[tuple[str, str, dict[str, str], str]] = [
    (
        "azure_openai",
        "https://r.openai.azure.com",
        {},
        "https://r.openai.azure.com/openai/v1/chat/completions",
    ),
    (
        "azure_openai",
        "https://r.openai.azure.com/openai",
        {"api_version": "2024-10-21"},
        "https://r.openai.azure.com/openai/deployments/m-1/chat/completions?api-version=2024-10-21",
    ),
    ("azure_responses", "https://r.openai.azure.com", {}, "https://r.openai.azure.com/openai/v1/responses"),
    (
        "azure_ai",
        "https://r.services.ai.azure.com",
        {},
        "https://r.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
    ),
    (
        "vertex",
        "https://europe-west4-aiplatform.googleapis.com",
        {"project": "p"},
        "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/publishers/google/models/m-1:generateContent",
    ),
    (
        "vertex",
        "https://global-aiplatform.googleapis.com",
        {"project": "p", "region": "global"},
        "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google/models/m-1:generateContent",
    ),
    ("cohere", "https://api.cohere.com", {}, "https://api.cohere.com/v2/chat"),
    ("writer", "https://api.writer.com/v1", {}, "https://api.writer.com/v1/chat"),
    ("ollama_native", "http://127.0.0.1:11434", {}, "http://127.0.0.1:11434/api/chat"),
    ("bedrock", "https://h", {}, "https://h/model/m-1/converse"),
]


@pytest.mark.parametrize(("kind", "base", "options", "url"), ADDRESSES)
def test_addresses(kind: str, base: str, options: dict[str, str], url: str) -> None:
    """Every provider is called at its address."""
    endpoint = Endpoint(base, "m-1", "k-123", options)
    assert WIRES[kind].request(PLAIN, endpoint, stream=False).url == url


def test_prefill() -> None:
    """Text the assistant has said already ends the conversation, marked as each provider wants it."""
    prompt = replace(PLAIN, prefill="It is ")
    assert send("together", prompt)[1]["messages"][-1] == {"role": "assistant", "content": "It is "}
    assert send("mistral", prompt)[1]["messages"][-1]["prefix"] is True
    request, body = send("deepseek", prompt, base="https://api.deepseek.com")
    assert request.url == "https://api.deepseek.com/beta/chat/completions"
    assert body["messages"][-1]["prefix"] is True
    assert send("vllm", prompt)[1]["continue_final_message"] is True
    assert send("anthropic", prompt)[1]["messages"][-1] == {
        "role": "assistant",
        "content": [{"type": "text", "text": "It is"}],
    }
    assert send("gemini", prompt)[1]["contents"][-1] == {"role": "model", "parts": [{"text": "It is "}]}


def test_bedrock_signs_or_carries_a_key() -> None:
    """A Bedrock API key is a bearer token; an access key signs, with the session token where there is one."""
    base = "https://bedrock-runtime.eu-west-1.amazonaws.com"
    request, body = send("bedrock", FULL, base=base, model="anthropic.claude-x-v1:0", stream=True)
    assert request.url == f"{base}/model/anthropic.claude-x-v1:0/converse-stream"
    assert request.headers["authorization"] == "Bearer k-123"
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["toolConfig"]["toolChoice"] == {"any": {}}
    signed = WIRES["bedrock"].request(PLAIN, Endpoint(base, "m-1", "AKID:secret:token", {}), stream=False)
    assert "/eu-west-1/bedrock/aws4_request" in signed.headers["authorization"]
    assert signed.headers["x-amz-security-token"] == "token"
    assert "secret" not in str(signed.headers)


def test_names_of_parameters_that_anthropic_refuses_are_renamed_and_come_back() -> None:
    """In the schema, in what it requires, and in earlier calls; none takes the name of another."""
    schema = {
        "type": "object",
        "properties": {"$top": {}, "_top": {}, "a b": {}},
        "required": ["$top", "_top"],
    }
    called = Message(Role.ASSISTANT, "", (ToolCall("1", "f", '{"$top": 1, "_top": 2}'),))
    messages = (*PLAIN.messages, called, Message(Role.TOOL, "x", tool_call_id="1"))
    tools = (
        Tool("f", parameters_json=json.dumps(schema)),
        Tool("g", parameters_json='{"properties":{"a":{}}}'),
    )
    request, body = send("anthropic", replace(PLAIN, messages=messages, tools=tools))
    sent = body["tools"][0]["input_schema"]
    top, plain, *_ = sent["properties"]
    assert sent["required"] == [top, plain]
    assert plain == "_top"
    assert re.fullmatch("[a-zA-Z0-9_.-]{1,64}", top)
    (block,) = [b for m in body["messages"] for b in m["content"] if b["type"] == "tool_use"]
    assert block["input"] == {top: 1, plain: 2}
    assert request.inverse.keys["f"][top] == "$top"
    assert "g" not in request.inverse.keys
