"""A conversation that began at one vendor goes on at every other: each pair of wires, on the strict simulator.

The vendors' refusals are the simulator's, which shares no code with the wires.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from libs.catalog.model import Model, Provider
from libs.catalog.secrets import Keys
from libs.clock import SystemClock
from libs.conversation import (
    Image,
    Message,
    Reasoning,
    ReasoningEffort,
    ResponseFormat,
    Role,
    Text,
    Tool,
    ToolCall,
)
from libs.types import FinishReason
from services.router.providers.http_transport import HttpTransport
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.provider_client import ProviderClient
from services.router.providers.timeouts import AttemptTimeouts
from services.router.providers.wires.wires import wires
from services.router.request.generation import Completion, Prompt
from services.router.request.usage import ToldUsage
from tests.support.pictures import png
from tests.support.simulator import Simulator, running_simulator
from tests.unit.router.providers.wires.samples import told

MODELS = {
    "openai": "gpt-4o",
    "openai_responses": "gpt-5-mini",
    "azure_openai": "gpt-4o",
    "anthropic": "claude-opus-4-6",
    "gemini": "gemini-2.5-flash",
    "vertex": "gemini-3-pro-preview",
    "bedrock": "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "bedrock_invoke": "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "cohere": "command-a-03-2025",
    "mistral": "mistral-large-latest",
    "groq": "llama-3.3-70b-versatile",
    "deepseek": "deepseek-chat",
    "openai_compatible": "llama-3.1-8b-instruct",
    "ollama_native": "llama3.1",
}
#: Kinds whose models think before they call, and show their thoughts or sign them.
THINKING = ("openai_responses", "anthropic", "gemini", "vertex", "bedrock", "bedrock_invoke")
#: Kinds whose models see images.
SEEING = (
    "openai",
    "openai_responses",
    "azure_openai",
    "anthropic",
    "gemini",
    "vertex",
    "bedrock",
    "bedrock_invoke",
)
#: Kinds whose models are bound to no schema, so that the router asks them for none.
WITHOUT_SCHEMA = ("groq", "deepseek")
#: Kinds whose address is that of the server, without a version.
WITHOUT_VERSION = ("azure_openai", "bedrock", "bedrock_invoke", "vertex", "ollama_native")
OPTIONS = {"api_version": "2024-10-21", "project": "p", "region": "us-east-1"}
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = (
    Tool("get.weather", "Tells the temperature outside", json.dumps(CITY)),
    Tool("news", "Lists headlines", "{}"),
)
ASKED = Message(Role.USER, "The weather in Bern and the news, please")
SHOWN = Message(Role.USER, parts=(Text("What is this?"), Image(png())))
PATIENT = AttemptTimeouts(total=20.0, first_content=20.0, silence=20.0, content=20.0)
ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")


@dataclass(slots=True)
class Vendors:
    """All vendors at one simulator, and the conversations that began at each."""

    simulator: Simulator
    client: ProviderClient
    begun: dict[tuple[str, bool], tuple[Message, ...]] = field(default_factory=dict)

    async def ask(self, kind: str, prompt: Prompt, *, stream: bool, at: str = "") -> Completion:
        """Returns the answer as the router's callers get it, whichever way it came. `at`: the virtual provider's
        name, where it is not the kind's."""
        base = self.simulator.base(at or kind) + ("" if kind in WITHOUT_VERSION else "/v1")
        provider = Provider(kind, kind, base, "KEY", options=OPTIONS)
        capabilities = frozenset({"streaming", "system", "tools", "json", "json_schema", "image"})
        if kind in THINKING:
            capabilities |= {"reasoning"}
            prompt = replace(prompt, reasoning_effort=ReasoningEffort.LOW)
        model = Model(kind, "m", MODELS[kind], 200_000, 4000, capabilities)
        if not stream:
            return await self.client.complete(provider, model, prompt, PATIENT)
        async with aclosing(self.client.stream(provider, model, prompt, PATIENT, ToldUsage())) as stream_:
            events = [event async for batch in stream_ for event in batch]
        answer = told(events)
        calls = tuple(ToolCall(*call) for call in answer.tools)
        end = answer.end
        return Completion(answer.text, end.finish_reason, end.usage, calls, "", answer.reasoning)

    async def call_tools(
        self, kind: str, messages: tuple[Message, ...], *, stream: bool, at: str = ""
    ) -> tuple[Message, ...]:
        """Returns the conversation after both tools were asked for, called at once, and have answered."""
        asked = (*messages, ASKED)
        answer = await self.ask(kind, Prompt(asked, 4000, tools=TOOLS), stream=stream, at=at)
        assert answer.finish_reason is FinishReason.TOOL_CALLS
        assert [call.name for call in answer.tool_calls] == ["get.weather", "news"]
        assert [type(json.loads(call.arguments_json)) for call in answer.tool_calls] == [dict, dict]
        said = (Text(answer.text),) if answer.text else ()
        turn = Message(Role.ASSISTANT, "", answer.tool_calls, parts=(*answer.reasoning, *said))
        texts = ('{"degrees": 20}', "")
        results = tuple(
            Message(Role.TOOL, text, tool_call_id=call.id)
            for call, text in zip(answer.tool_calls, texts, strict=True)
        )
        return (*asked, turn, *results)


@pytest.fixture(scope="module")
async def vendors() -> AsyncIterator[Vendors]:
    async with running_simulator() as simulator, HttpTransport() as transport:
        clock = SystemClock()
        keys = Keys({"KEY": "key"})
        yield Vendors(simulator, ProviderClient(transport, wires(clock), keys, clock, LimitLearner()))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("to", MODELS)
@pytest.mark.parametrize("begin", MODELS)
async def test_a_conversation_goes_on_at_any_vendor(
    vendors: Vendors, begin: str, to: str, stream: bool
) -> None:
    """System message, an image, thoughts, two rounds of parallel calls at one vendor and a third at the other, a call
    without arguments, an empty result, and an answer by a schema without tools: no vendor refuses any of it, and no
    two calls share an id."""
    messages = vendors.begun.get((begin, stream))
    if messages is None:
        messages = (Message(Role.SYSTEM, "Be brief."), SHOWN if begin in SEEING else ASKED)
        for _ in range(2):
            messages = await vendors.call_tools(begin, messages, stream=stream)
        vendors.begun[begin, stream] = messages
        parts = [part for message in messages for part in message.parts]
        thoughts = [part for part in parts if isinstance(part, Reasoning)]
        assert thoughts or begin not in THINKING
    if to not in SEEING:
        # A model that cannot see is not asked.
        messages = tuple(ASKED if message is SHOWN else message for message in messages)
    messages = await vendors.call_tools(to, messages, stream=stream)
    ids = [call.id for message in messages for call in message.tool_calls]
    assert len(set(ids)) == 6
    assert all(map(ID.fullmatch, ids))
    wanted = ResponseFormat() if to in WITHOUT_SCHEMA else ResponseFormat(json.dumps(CITY))
    last = (
        *messages,
        Message(Role.USER, "Which city was it?"),
        Message(Role.SYSTEM, "Answer with its name."),
    )
    answer = await vendors.ask(to, Prompt(last, 4000, response_format=wanted), stream=stream)
    assert isinstance(json.loads(answer.text), dict)
    assert answer.finish_reason is FinishReason.STOP
    assert not answer.tool_calls


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("ids", ["own", "none", "empty", "repeated", "long", "dotted"])
@pytest.mark.parametrize("kind", MODELS)
async def test_odd_calls_come_as_calls_that_every_vendor_takes(
    vendors: Vendors, kind: str, ids: str, stream: bool
) -> None:
    """Without ids or with odd ones, without arguments and ended with `stop`: two rounds of them go on at a vendor
    that minds everything."""
    at = f"{kind}-odd-{ids}"
    await vendors.simulator.set(
        at, faults=[{"kind": "odd_calls", "ids": ids, "finish": "stop", "no_arguments": True}]
    )
    messages: tuple[Message, ...] = ()
    for _ in range(2):
        messages = await vendors.call_tools(kind, messages, stream=stream, at=at)
    given = [call.id for message in messages for call in message.tool_calls]
    assert len(set(given)) == 4
    assert all(map(ID.fullmatch, given))
    await vendors.call_tools("anthropic", messages, stream=stream)


@pytest.mark.parametrize("kind", MODELS)
async def test_halves_of_a_character_are_one(vendors: Vendors, kind: str) -> None:
    """An emoji whose surrogates come in two events."""
    at = f"{kind}-halves"
    await vendors.simulator.set(at, faults=[{"kind": "split_emoji"}])
    answer = await vendors.ask(kind, Prompt((ASKED,), 4000), stream=True, at=at)
    assert answer.text.endswith("\U0001f600")
    assert "\ufffd" not in answer.text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", MODELS)
async def test_the_router_stops_where_the_vendor_was_not_told(
    vendors: Vendors, kind: str, stream: bool
) -> None:
    """More stop sequences than any vendor but some takes, one that only white space makes up, and a model that takes
    none: the answer ends before the one that comes."""
    whole = await vendors.ask(kind, Prompt((ASKED,), 4000), stream=stream)
    word = whole.text.split()[2]
    stops = ("@1", "@2", "@3", "@4", "@5", "@6", f" {word}", "\n\n\n")
    answer = await vendors.ask(kind, Prompt((ASKED,), 4000, stop_sequences=stops), stream=stream)
    assert answer.text == whole.text.partition(f" {word}")[0]
    assert answer.finish_reason is FinishReason.STOP
