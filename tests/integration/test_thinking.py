"""Tool use with thinking, from every vendor to every vendor: real bytes to strict providers, which sign their
thoughts and refuse them changed, missing or from others."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from libs.answer import Delta
from libs.catalog.model import Model, Provider
from libs.catalog.secrets import Keys
from libs.client import TextAssembler
from libs.clock import SystemClock
from libs.conversation import (
    Message,
    Part,
    Reasoning,
    ReasoningDelta,
    ReasoningEffort,
    Role,
    Text,
    Tool,
    ToolCallDelta,
)
from services.router.providers.http_transport import HttpTransport
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.provider_client import ProviderClient
from services.router.providers.timeouts import AttemptTimeouts
from services.router.providers.wires.wires import wires
from services.router.request.generation import Prompt, TextDelta
from services.router.request.usage import ToldUsage
from tests.support.simulator import Simulator, running_simulator

LONG = AttemptTimeouts(20, 20, 20, 20)
SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'
QUESTION = Message(Role.USER, "How is the weather in Bern?")
#: Kind → the model, and the path of its provider at the simulator.
TARGETS = {
    "anthropic": ("claude-haiku-4-5", "anthropic"),
    "bedrock": ("anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock"),
    "gemini": ("gemini-3-pro-preview", "gemini"),
    "openai_responses": ("gpt-5-mini", "responses/v1"),
    "deepseek": ("deepseek-reasoner", "deepseek"),
    "openai": ("gpt-4o", "openai/v1"),
    "ollama_native": ("llama3.1", "ollama"),
}
#: Those that think.
THINKERS = frozenset(TARGETS) - {"openai"}


class Vendors:
    """Calls of the simulator's vendors through the router's provider client."""

    def __init__(self, simulator: Simulator, transport: HttpTransport) -> None:
        self._url = simulator.url
        clock = SystemClock()
        keys = Keys({"KEY": "key:secret"})
        self._client = ProviderClient(transport, wires(clock), keys, clock, LimitLearner())

    async def answer(self, kind: str, messages: tuple[Message, ...], *, stream: bool) -> Message:
        """Returns the vendor's turn. Raises ProviderFailure."""
        name, path = TARGETS[kind]
        provider = Provider(kind.replace("_", "-"), kind, f"{self._url}/{path}", api_key_env="KEY")
        capabilities = frozenset({"streaming", "system", "tools", "reasoning"} - self._lacks(kind))
        model = Model(provider.name, "m", name, 100_000, 8000, capabilities)
        effort = None if kind == "openai" else ReasoningEffort.LOW
        tools = (Tool("weather", "Looks outside", SCHEMA),)
        prompt = Prompt(messages, 8000, tools=tools, reasoning_effort=effort)
        if not stream:
            whole = await self._client.complete(provider, model, prompt, LONG)
            return _turn(whole.reasoning, whole.text, whole.tool_calls)
        assembler = TextAssembler()
        async for batch in self._client.stream(provider, model, prompt, LONG, ToldUsage()):
            for event in batch:
                match event:
                    case TextDelta(text):
                        assembler.feed(Delta(text))
                    case ToolCallDelta():
                        assembler.feed(Delta(tool_calls=(event,)))
                    case ReasoningDelta():
                        assembler.feed(Delta(reasoning=(event,)))
        return _turn(assembler.reasoning, assembler.text, assembler.tool_calls)

    @staticmethod
    def _lacks(kind: str) -> set[str]:
        return {"reasoning"} if kind == "openai" else set()


def _turn(thoughts: tuple[Reasoning, ...], text: str, calls: Any) -> Message:
    parts: tuple[Part, ...] = (*thoughts, Text(text)) if text else tuple(thoughts)
    return Message(Role.ASSISTANT, "", calls, parts=parts)


@pytest.fixture(scope="module")
async def vendors() -> AsyncIterator[Vendors]:
    async with running_simulator() as simulator, HttpTransport() as transport:
        yield Vendors(simulator, transport)


def _thoughts(message: Message) -> list[Reasoning]:
    return [part for part in message.parts if isinstance(part, Reasoning)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("first", "second"), list(itertools.product(TARGETS, TARGETS)))
async def test_a_turn_with_thoughts_goes_on_anywhere(
    vendors: Vendors, first: str, second: str, stream: bool
) -> None:
    """The vendor that thought goes on from its thoughts and thinks again; any other goes on without them, and without
    a refusal."""
    called = await vendors.answer(first, (QUESTION,), stream=stream)
    assert called.tool_calls
    assert bool(_thoughts(called)) is (first in THINKERS)
    results = tuple(Message(Role.TOOL, "sunny", tool_call_id=call.id) for call in called.tool_calls)
    answered = await vendors.answer(second, (QUESTION, called, *results), stream=stream)
    assert answered.written
    if first == second and first in ("anthropic", "bedrock"):
        assert _thoughts(answered)


@pytest.mark.parametrize("stream", [False, True])
async def test_claudes_thoughts_are_read_wherever_it_is_served(vendors: Vendors, stream: bool) -> None:
    """A turn that begins at Anthropic goes on at Bedrock with thinking, and the other way round."""
    for first, second in (("anthropic", "bedrock"), ("bedrock", "anthropic")):
        called = await vendors.answer(first, (QUESTION,), stream=stream)
        results = tuple(Message(Role.TOOL, "sunny", tool_call_id=call.id) for call in called.tool_calls)
        answered = await vendors.answer(second, (QUESTION, called, *results), stream=stream)
        assert _thoughts(answered)
