"""A model's thoughts: apart from its answer, whole or streamed, and back to the vendor that made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.conversation import Message, Part, Reasoning, ReasoningEffort, Role, Text, Tool, ToolCall
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt
from tests.unit.router.providers.wires.samples import WIRES, chunk, frame, sse, told, typed
from tests.unit.router.providers.wires.test_streams import read

#: Every event in which OpenAI's responses tell of one thought, and those in which others do.
_THOUGHT = "secret thought"
_ITEM = {"type": "reasoning", "id": "rs_1", "encrypted_content": "E", "summary": []}
_PART = {"type": "reasoning_text", "text": _THOUGHT}
_AT = {"output_index": 0, "item_id": "rs_1"}
_FIRST = {"type": "response.output_item.added", "output_index": 0, "item": {**_ITEM, "encrypted_content": ""}}
_TOLD: list[dict[str, Any]] = [
    {"type": "response.content_part.added", **_AT, "content_index": 0, "part": {**_PART, "text": ""}},
    {"type": "response.reasoning_text.delta", **_AT, "content_index": 0, "delta": _THOUGHT},
    {"type": "response.reasoning_text.done", **_AT, "content_index": 0, "text": _THOUGHT},
    {"type": "response.content_part.done", **_AT, "content_index": 0, "part": _PART},
    {"type": "response.output_item.done", "output_index": 0, "item": {**_ITEM, "content": [_PART]}},
]
_MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "4"}]}
_ANSWER: list[dict[str, Any]] = [
    {"type": "response.output_item.added", "output_index": 1, "item": {"type": "message", "content": []}},
    {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "4"},
    {
        "type": "response.completed",
        "response": {"status": "completed", "output": [{**_ITEM, "content": [_PART]}, _MESSAGE]},
    },
]


@given(st.sets(st.integers(0, len(_TOLD) - 1)), st.booleans())
def test_regression_thoughts_never_come_out_as_the_answer(which: set[int], begun: bool) -> None:
    """Whichever of the events that tell of a thought a server sends, the text is the answer alone, and the thought is
    told once, with its encrypted form."""
    told_of = [_TOLD[index] for index in sorted(which)]
    events, failure = read("openai_responses", [typed(*([_FIRST] if begun else []), *told_of, *_ANSWER)])
    assert failure is None
    found = told(events)
    assert found.text == "4"
    assert found.reasoning == (Reasoning(_THOUGHT, "E", id="rs_1"),)


@pytest.mark.parametrize("kind", ["brand_new_text", "commentary", ""])
def test_parts_that_are_not_known_to_be_answer_text_are_not(kind: str) -> None:
    """A type of part that nobody knows is left out, streamed and whole."""
    part = {"type": kind, "text": "else"}
    output = [{"type": "message", "content": [part, {"type": "output_text", "text": "4"}]}]
    done = {"type": "response.content_part.done", "output_index": 0, "content_index": 7, "part": part}
    response = {"status": "completed", "output": output}
    events, _ = read(
        "openai_responses", [typed(done, *_ANSWER[:2], {"type": "response.completed", "response": response})]
    )
    assert told(events).text == "4"
    assert WIRES["openai_responses"].completion(200, {}, json.dumps(response).encode()).text == "4"


#: An id of a call that every vendor takes.
_CALL = "callabcd1"
CALL = {"id": _CALL, "type": "function", "function": {"name": "f", "arguments": "{}"}}
_DETAILS = [
    {"type": "reasoning.text", "text": "h", "format": "anthropic-claude-v1", "index": 0},
    {"type": "reasoning.text", "text": "m", "index": 0},
    {"type": "reasoning.text", "signature": "S", "format": "anthropic-claude-v1", "index": 0},
    {"type": "reasoning.encrypted", "data": "D", "id": "rs_1", "format": "openai-responses-v1", "index": 1},
]
_WHOLE_DETAILS = [
    {"type": "reasoning.text", "text": "hm", "signature": "S", "format": "anthropic-claude-v1", "index": 0},
    _DETAILS[3],
]
_FINISHED = chunk({}, "tool_calls")
_CALLING = chunk({"tool_calls": [{**CALL, "index": 0}]})
_CHAT_END = (_CALLING, _FINISHED)


def _chat(**fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL], **fields}
    return {"model": "m-1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def _block(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
    ]


_GEMINI_PARTS = [
    {"text": "h", "thought": True},
    {"text": "m", "thought": True},
    {"functionCall": {"id": _CALL, "name": "f", "args": {}}, "thoughtSignature": "S"},
]
_BOUND = {"tool_call_id": _CALL}
#: Kind → the answer whole, the answer streamed, and its thoughts; each answer calls f with the id a.
ANSWERS: dict[str, tuple[dict[str, Any], bytes, tuple[Reasoning, ...]]] = {
    "deepseek": (
        _chat(reasoning_content="hm"),
        sse(chunk({"reasoning_content": "h"}), chunk({"reasoning_content": "m"}), *_CHAT_END, done=True),
        (Reasoning("hm"),),
    ),
    "groq": (
        _chat(reasoning="hm"),
        sse(chunk({"reasoning": "h"}), chunk({"reasoning": "m"}), *_CHAT_END, done=True),
        (Reasoning("hm"),),
    ),
    "mistral": (
        _chat(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
        sse(
            chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
            *_CHAT_END,
            done=True,
        ),
        (Reasoning("hm"),),
    ),
    "openrouter": (
        _chat(reasoning="hm", reasoning_details=_WHOLE_DETAILS),
        sse(*(chunk({"reasoning_details": [d]}) for d in _DETAILS), *_CHAT_END, done=True),
        (Reasoning("hm"), Reasoning(redacted=True)),
    ),
    "anthropic": (
        {
            "type": "message",
            "model": "m-1",
            "stop_reason": "tool_use",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "S"},
                {"type": "redacted_thinking", "data": "D"},
                {"type": "tool_use", "id": _CALL, "name": "f", "input": {}},
            ],
        },
        typed(
            *_block(
                0,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "h"},
                {"type": "thinking_delta", "thinking": "m"},
                {"type": "signature_delta", "signature": "S"},
            ),
            *_block(1, {"type": "redacted_thinking", "data": "D"}),
            *_block(2, {"type": "tool_use", "id": _CALL, "name": "f", "input": {}}),
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
            {"type": "message_stop"},
        ),
        (Reasoning("hm", "S"), Reasoning(opaque="D", redacted=True)),
    ),
    "gemini": (
        {"candidates": [{"content": {"parts": _GEMINI_PARTS}, "finishReason": "STOP"}], "modelVersion": "m"},
        sse(
            *({"candidates": [{"content": {"parts": [part]}}]} for part in _GEMINI_PARTS),
            {"candidates": [{"finishReason": "STOP"}], "modelVersion": "m"},
        ),
        (Reasoning("hm", summary=True), Reasoning(opaque="S")),
    ),
    "openai_responses": (
        {
            "status": "completed",
            "output": [
                {
                    **_ITEM,
                    "summary": [{"type": "summary_text", "text": "h"}, {"type": "summary_text", "text": "m"}],
                },
                {"type": "function_call", "call_id": _CALL, "name": "f", "arguments": "{}"},
            ],
        },
        typed(
            _FIRST,
            {"type": "response.reasoning_summary_text.delta", **_AT, "summary_index": 0, "delta": "h"},
            {"type": "response.reasoning_summary_text.done", **_AT, "summary_index": 0, "text": "h"},
            {"type": "response.reasoning_summary_text.delta", **_AT, "summary_index": 1, "delta": "m"},
            {"type": "response.output_item.done", "output_index": 0, "item": _ITEM},
            {
                "type": "response.output_item.done",
                "output_index": 1,
                "item": {"type": "function_call", "call_id": _CALL, "name": "f", "arguments": "{}"},
            },
            {"type": "response.completed", "response": {"status": "completed"}},
        ),
        (Reasoning("h\n\nm", "E", summary=True, id="rs_1"),),
    ),
    "bedrock": (
        {
            "output": {
                "message": {
                    "content": [
                        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "S"}}},
                        {"reasoningContent": {"redactedContent": "RA=="}},
                        {"toolUse": {"toolUseId": _CALL, "name": "f", "input": {}}},
                    ]
                }
            },
            "stopReason": "tool_use",
        },
        b"".join(
            (
                frame(
                    "contentBlockDelta",
                    {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}},
                ),
                frame(
                    "contentBlockDelta",
                    {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "S"}}},
                ),
                frame(
                    "contentBlockDelta",
                    {"contentBlockIndex": 1, "delta": {"reasoningContent": {"redactedContent": "RA=="}}},
                ),
                frame(
                    "contentBlockStart",
                    {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": _CALL, "name": "f"}}},
                ),
                frame("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": "{}"}}}),
                frame("messageStop", {"stopReason": "tool_use"}),
                frame("metadata", {}),
            )
        ),
        (Reasoning("hm", "S"), Reasoning(opaque="RA==", redacted=True)),
    ),
    "cohere": (
        {
            "message": {"tool_plan": "plan", "tool_calls": [CALL]},
            "finish_reason": "TOOL_CALL",
        },
        typed(
            {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "pl"}}},
            {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "an"}}},
            {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": CALL}}},
            {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
        ),
        (Reasoning("plan", id="tool_plan"),),
    ),
    "ollama_native": (
        {
            "message": {"thinking": "hm", "content": "", "tool_calls": [CALL]},
            "done": True,
            "done_reason": "stop",
        },
        b'{"message":{"thinking":"h"}}\n{"message":{"thinking":"m"}}\n'
        + json.dumps({"message": {"tool_calls": [CALL]}, "done": True}).encode()
        + b"\n",
        (Reasoning("hm"),),
    ),
}


def _plain(thoughts: Sequence[Reasoning]) -> tuple[tuple[str, bool, bool], ...]:
    return tuple((thought.text, thought.summary, thought.redacted) for thought in thoughts)


@pytest.mark.parametrize("kind", ANSWERS)
def test_thoughts_are_carried_streamed_as_whole(kind: str) -> None:
    """Their text, signatures and encrypted forms come out of both forms of an answer, in pieces or at once."""
    whole, stream, expected = ANSWERS[kind]
    completion = WIRES[kind].completion(200, {}, json.dumps(whole).encode())
    events, failure = read(kind, [stream])
    assert failure is None
    streamed = told(events).reasoning
    assert _plain(streamed) == _plain(expected)
    if kind == "openrouter":
        # All fields but the text are the opaque part.
        assert [json.loads(thought.opaque) for thought in streamed] == [
            {name: value for name, value in detail.items() if name != "text"} for detail in _WHOLE_DETAILS
        ]
    else:
        assert [thought.opaque for thought in streamed] == [thought.opaque for thought in expected]
        assert [thought.id for thought in streamed] == [thought.id for thought in expected]
    if kind != "gemini":
        # There each piece is a part of its own in a whole answer.
        assert _plain(completion.reasoning) == _plain(expected)
        opaque = [[thought.opaque for thought in all_] for all_ in (completion.reasoning, streamed)]
        if kind == "openrouter":
            opaque = [[json.loads(text) for text in texts] for texts in opaque]
        assert opaque[0] == opaque[1]
    assert "hm" not in completion.text


_TOOLS = (Tool("f"),)
_ASK = Message(Role.USER, "ask")


def _goes_on(thoughts: Sequence[Reasoning], text: str = "") -> Prompt:
    """A turn that goes on after its call, with its thoughts."""
    parts: tuple[Part, ...] = (*thoughts, Text(text)) if text else tuple(thoughts)
    calling = Message(Role.ASSISTANT, "", (ToolCall(_CALL, "f", "{}"),), parts=parts)
    return Prompt(
        (_ASK, calling, Message(Role.TOOL, "r", tool_call_id=_CALL)),
        9000,
        tools=_TOOLS,
        reasoning_effort=ReasoningEffort.LOW,
    )


def _body(kind: str, prompt: Prompt, model: str = "m-1", *, reasons: bool = False) -> dict[str, Any]:
    endpoint = Endpoint("https://h/v1", model, "k", {}, reasons)
    found: dict[str, Any] = json.loads(WIRES[kind].request(prompt, endpoint, stream=False).body)
    return found


def _turn_of(kind: str, body: dict[str, Any]) -> Any:
    """The turn in which the model called f, as the vendor takes it."""
    if kind == "gemini":
        return body["contents"][1]["parts"]
    if kind == "openai_responses":
        return body["input"][1:-1]
    message = body["messages"][1]
    return message["content"] if kind in ("anthropic", "bedrock") else message


_CHAT_CALL = {"role": "assistant", "tool_calls": [CALL]}
#: Kind → that turn after a round trip.
TURNS: dict[str, Any] = {
    "deepseek": {**_CHAT_CALL, "content": None, "reasoning_content": "hm"},
    "groq": {**_CHAT_CALL, "content": None, "reasoning": "hm"},
    "mistral": {
        **_CHAT_CALL,
        "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}],
    },
    "openrouter": {**_CHAT_CALL, "content": None, "reasoning_details": _WHOLE_DETAILS},
    "anthropic": ANSWERS["anthropic"][0]["content"],
    "gemini": [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "S"}],
    "openai_responses": [
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "h\n\nm"}],
            "encrypted_content": "E",
        },
        {"type": "function_call", "call_id": _CALL, "name": "f", "arguments": "{}"},
    ],
    "bedrock": ANSWERS["bedrock"][0]["output"]["message"]["content"],
    "cohere": {"role": "assistant", "tool_plan": "plan", "tool_calls": [CALL]},
    "ollama_native": {
        "role": "assistant",
        "content": "",
        "thinking": "hm",
        "tool_calls": [{"function": {"name": "f", "arguments": {}}}],
    },
}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("streamed", [False, True])
def test_thoughts_go_back_as_they_came(kind: str, streamed: bool) -> None:
    """The turn that goes on after a call holds them where the vendor wants them, unchanged."""
    whole, stream, _ = ANSWERS[kind]
    if streamed:
        thoughts = told(read(kind, [stream])[0]).reasoning
    else:
        thoughts = WIRES[kind].completion(200, {}, json.dumps(whole).encode()).reasoning
    assert _turn_of(kind, _body(kind, _goes_on(thoughts))) == TURNS[kind]


def test_claude_thinks_on_after_a_call_where_its_thoughts_are_at_hand() -> None:
    """Without them thinking is off for that turn, since the vendor refuses it; in later turns it is on again."""
    signed = _goes_on([Reasoning("hm", "S")])
    unsigned = _goes_on([Reasoning("hm")])
    for kind, model in (("anthropic", "m-1"), ("bedrock_invoke", "anthropic.claude")):
        assert _body(kind, signed, model)["thinking"]["type"] == "enabled"
        assert "thinking" not in _body(kind, unsigned, model)
        answered = (*unsigned.messages, Message(Role.ASSISTANT, "It is so."), _ASK)
        later = Prompt(answered, 9000, reasoning_effort=ReasoningEffort.LOW)
        assert "thinking" in _body(kind, later, model)
        # A user who speaks right after results is one message with them.
        at_once = Prompt((*unsigned.messages, _ASK), 9000, reasoning_effort=ReasoningEffort.LOW)
        assert "thinking" not in _body(kind, at_once, model)
    converse = _body("bedrock", signed, "anthropic.claude")
    assert converse["additionalModelRequestFields"]["thinking"]["type"] == "enabled"


def test_thoughts_between_text_and_a_call_stay_there() -> None:
    """Each thought stands before what followed it: vendors refuse another order."""
    thoughts = [Reasoning("one", "S1"), Reasoning("two", "S2", tool_call_id=_CALL)]
    blocks = _turn_of("anthropic", _body("anthropic", _goes_on(thoughts, "said")))
    assert [block["type"] for block in blocks] == ["thinking", "text", "thinking", "tool_use"]
    items = _turn_of("openai_responses", _body("openai_responses", _goes_on(thoughts, "said")))
    assert [item.get("type", "message") for item in items] == [
        "reasoning",
        "message",
        "reasoning",
        "function_call",
    ]


def test_geminis_signature_of_a_text_goes_back_with_the_text() -> None:
    """The signature of an answer without calls stands at its last part, which may be empty."""
    parts = [{"text": "an"}, {"text": "swer"}, {"text": "", "thoughtSignature": "S"}]
    stream = sse(*({"candidates": [{"content": {"parts": [part]}}]} for part in parts)) + sse(
        {"candidates": [{"finishReason": "STOP"}]}
    )
    found = told(read("gemini", [stream])[0])
    assert (found.text, found.reasoning) == ("answer", (Reasoning(opaque="S"),))
    message = Message(Role.ASSISTANT, parts=(*found.reasoning, Text(found.text)))
    body = _body("gemini", Prompt((_ASK, message, _ASK), 100))
    assert body["contents"][1]["parts"] == [{"text": "answer", "thoughtSignature": "S"}]


def test_deepseek_gets_its_thoughts_in_turns_with_calls_alone() -> None:
    """Elsewhere they are left unread; where they were lost, thinking is off, since it refuses to think then."""
    thought = Reasoning("hm")
    spoken = Message(Role.ASSISTANT, parts=(thought, Text("said")))
    body = _body("deepseek", Prompt((_ASK, spoken, _ASK), 100))
    assert body["messages"][1] == {"role": "assistant", "content": "said"}
    assert "thinking" not in body
    turn = (*_goes_on([thought]).messages, spoken, _ASK)
    body = _body("deepseek", Prompt(turn, 100))
    assert [message.get("reasoning_content") for message in body["messages"]] == [
        None,
        "hm",
        None,
        "hm",
        None,
    ]
    assert _body("deepseek", _goes_on(()))["thinking"] == {"type": "disabled"}


def test_encrypted_thoughts_are_asked_for_where_the_model_has_any() -> None:
    """Other models refuse the wish."""
    prompt = Prompt((_ASK,), 100)
    asked = _body("openai_responses", prompt, reasons=True)
    assert asked["include"] == ["reasoning.encrypted_content"]
    assert "include" not in _body("openai_responses", prompt)


@pytest.mark.parametrize("kind", ["openai", "openai_responses", "groq", "mistral", "xai", "anthropic"])
def test_one_call_a_turn_is_asked_for_where_the_vendor_has_a_word_for_it(kind: str) -> None:
    """`parallel_tool_calls` false, or the vendor's own name for it."""
    body = _body(kind, Prompt((_ASK,), 100, tools=_TOOLS, parallel_tool_calls=False))
    if kind == "anthropic":
        assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    else:
        assert body["parallel_tool_calls"] is False
