"""A model's thoughts go back to their maker alone, named on the way out and picked on the way in; and their
bounds."""

from __future__ import annotations

import json

import pytest

from libs.catalog.model import Model, Provider
from libs.conversation import Message, Reasoning, ReasoningDelta, Role, Text, Tool, ToolCall
from libs.types import FinishReason
from services.router.providers.answer_limit import StreamLimit, whole_bytes
from services.router.providers.thoughts import keep_own_thoughts, maker_of
from services.router.providers.wires.wires import wires
from services.router.request.generation import Prompt, StreamEnd, StreamEvent, TextDelta
from tests.support.clock import ManualClock
from tests.unit.router.providers.test_provider_client import ScriptedTransport, played

CALLING = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _model(target: str) -> Model:
    provider, _, name = target.partition("/")
    return Model(provider, name, name, 100_000, 4096)


def _provider(name: str, kind: str) -> Provider:
    return Provider(name, kind, f"http://{name}.test/v1")


MAKERS = [
    ("anthropic", "one/claude-x", "anthropic"),
    ("bedrock", "one/us.anthropic.claude-x", "anthropic"),
    ("bedrock_invoke", "one/us.anthropic.claude-x", "anthropic"),
    ("bedrock", "one/openai.gpt-oss", "bedrock/one"),
    ("gemini", "one/gemini-3-pro", "gemini/gemini-3-pro"),
    ("openai_responses", "one/gpt-5", "openai_responses/one"),
]


@pytest.mark.parametrize(("kind", "target", "maker"), MAKERS)
def test_a_maker_is_whoever_can_read_its_thoughts(kind: str, target: str, maker: str) -> None:
    """Claude's are read wherever it is served, Gemini's by the model, all others with the account that made them."""
    assert maker_of(_provider("one", kind), _model(target)) == maker


@pytest.mark.parametrize(("kind", "target", "maker"), MAKERS)
def test_thoughts_of_others_are_left_out(kind: str, target: str, maker: str) -> None:
    """Whoever made them; text, calls and all else stay, and so do the maker's own."""
    own = Reasoning("hm", "S", kind=maker)
    foreign = [Reasoning("hm", "S", kind=other) for other in ("", "x", *{m for _, _, m in MAKERS} - {maker})]
    message = Message(Role.ASSISTANT, "", (ToolCall("a", "f", "{}"),), parts=(*foreign, own, Text("said")))
    found = keep_own_thoughts(Prompt((message,), 9), _provider("one", kind), maker).messages[0]
    assert found.parts == (own, Text("said"))
    assert found.tool_calls == message.tool_calls


@pytest.mark.parametrize(("kind", "kept"), [("deepseek", True), ("vllm", True), ("anthropic", False)])
def test_text_of_an_unknown_maker_goes_to_those_who_take_any(kind: str, kept: bool) -> None:
    """Clients that keep `reasoning_content` alone, as they do for DeepSeek, say nothing of its maker."""
    message = Message(Role.ASSISTANT, parts=(Reasoning("hm"), Text("said")))
    provider = _provider("one", kind)
    found = keep_own_thoughts(Prompt((message,), 9), provider, maker_of(provider, _model("one/m")))
    assert bool([part for part in found.messages[0].parts if isinstance(part, Reasoning)]) is kept


def _chunk(**delta: object) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n".encode()


async def test_an_answer_names_the_maker_of_its_thoughts_and_keeps_to_one_call() -> None:
    """Streamed: where one call a turn was asked for, pieces of a second are left out."""
    stream = [
        _chunk(reasoning_content="hm"),
        _chunk(tool_calls=[{**CALLING, "index": 0}, {**CALLING, "id": "b", "index": 1}]),
        b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}\n\n',
        b"data: [DONE]\n\n",
    ]
    transport = ScriptedTransport(*stream)
    prompt = Prompt((Message(Role.USER, "hi"),), 100, tools=(Tool("f"),), parallel_tool_calls=False)
    events = await played(transport, prompt=prompt)
    assert b'"parallel_tool_calls":false' in transport.requests[0].body
    (thought, *_) = [event for event in events if isinstance(event, ReasoningDelta)]
    assert thought.piece == Reasoning("hm", kind="openai_compatible/a")
    calls = [event for event in events if not isinstance(event, ReasoningDelta | StreamEnd)]
    assert [getattr(event, "id", "") for event in calls] == ["a"]


def test_thoughts_are_bounded_as_the_answer_is() -> None:
    """Their text counts as content; of what only the provider reads, a megabyte passes and more ends the stream
    without a part of it."""
    prompt = Prompt((Message(Role.USER, "hi"),), 10)
    decoder = wires(ManualClock())["openai"].decoder()
    limit = StreamLimit(prompt, b"")
    assert limit.count_events([ReasoningDelta(0, Reasoning("x" * 100_000))])
    limit = StreamLimit(prompt, b"")
    signature = ReasoningDelta(0, Reasoning(opaque="s" * 1024 * 1024))
    assert not limit.count_events([signature])
    too_much: list[StreamEvent] = [TextDelta("a"), ReasoningDelta(1, Reasoning(opaque="s"))]
    assert limit.count_events(too_much)
    kept = limit.cut(too_much, decoder)
    assert kept == [TextDelta("a"), StreamEnd(FinishReason.LENGTH, None)]


def test_a_whole_answer_may_be_larger_by_encrypted_thoughts() -> None:
    """Of models that think; others have no use for it."""
    prompt = Prompt((Message(Role.USER, "hi"),), 10)
    assert whole_bytes(prompt, b"", reasons=True) - whole_bytes(prompt, b"", reasons=False) == 1024 * 1024
