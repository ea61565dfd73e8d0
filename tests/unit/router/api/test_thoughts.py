"""A model's thoughts, refusals and citations in OpenAI's two dialects: what goes out can be sent back as it came."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.answer import Completed, Delta, Result, Selection
from libs.conversation import Citation, Message, Reasoning, ReasoningDelta, Refusal, Role, Text, ToolCall
from libs.types import FinishReason
from services.router.api.openai.chat import ChatExchange
from services.router.api.openai.chat_request import read_chat
from services.router.api.openai.errors import ApiError
from services.router.api.openai.responses import ResponsesExchange
from services.router.api.openai.responses_request import read_responses
from services.router.api.openai.thoughts import seal, unseal

CALL = ToolCall("a", "f", "{}")
SIGNED = Reasoning("hm", "S", kind="anthropic")
THOUGHTS = (SIGNED, Reasoning(opaque="D", redacted=True, kind="anthropic", tool_call_id="a"))
SELECTION = Selection("p", "m")
ENCRYPTED = ["reasoning.encrypted_content"]

words = st.text(max_size=5)
thoughts = st.builds(
    Reasoning, words, words, summary=st.booleans(), redacted=st.booleans(), kind=words, id=words
)


def _result(**fields: Any) -> Result:
    base = {"text": "said", "tool_calls": (CALL,), "reasoning": THOUGHTS, "finish_reason": FinishReason.STOP}
    return Result("r1", selection=SELECTION, **(base | fields))


def _chat(**fields: Any) -> dict[str, Any]:
    """The message of a whole answer."""
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}]}).encode()
    found: dict[str, Any] = json.loads(ChatExchange(body, {}, "r1").whole(_result(**fields), 0))
    return dict(found["choices"][0]["message"], finish_reason=found["choices"][0]["finish_reason"])


def _output(include: Sequence[str] = (), **fields: Any) -> list[dict[str, Any]]:
    """The output of a whole response."""
    body = json.dumps({"model": "auto", "input": "hi", "include": include}).encode()
    found: list[dict[str, Any]] = json.loads(ResponsesExchange(body, {}, "r1").whole(_result(**fields), 0))[
        "output"
    ]
    return found


def _read_chat(message: dict[str, Any]) -> Message:
    body = {"model": "auto", "messages": [message, {"role": "user", "content": "go on"}]}
    return read_chat(json.dumps(body).encode(), {}, "r1")[0].draft.prompt.messages[0]


def _read_responses(items: Sequence[dict[str, Any]]) -> tuple[Message, tuple[str, ...]]:
    body = {"model": "auto", "input": [*items, {"role": "user", "content": "go on"}]}
    ask = read_responses(json.dumps(body).encode(), {}, "r1")[0]
    return ask.draft.prompt.messages[0], ask.ignored


SPOKEN = Message(Role.ASSISTANT, "", (CALL,), parts=(*THOUGHTS, Text("said")))


def test_a_chat_message_comes_back_with_its_thoughts() -> None:
    """Sent back as it came, it is the turn that the model wrote; their text is there to be shown, too."""
    message = _chat()
    assert message["reasoning_content"] == "hm"
    assert [detail["type"] for detail in message["reasoning_details"]] == [
        "reasoning.text",
        "reasoning.encrypted",
    ]
    assert _read_chat(message) == SPOKEN


def test_a_response_comes_back_with_its_thoughts() -> None:
    """It does where encrypted thoughts were asked for: each item stands before what followed it."""
    items = _output(ENCRYPTED)
    assert [item["type"] for item in items] == ["reasoning", "message", "reasoning", "function_call"]
    assert _read_responses(items) == (SPOKEN, ())


def test_a_response_without_that_wish_shows_the_text_alone() -> None:
    """Sent back it means nothing, and the answer to that says so."""
    items = _output()
    assert [item["type"] for item in items] == ["reasoning", "message", "function_call"]
    assert items[0]["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert items[0]["encrypted_content"] is None
    message, ignored = _read_responses(items)
    assert (message.written, message.tool_calls) == ("said", (CALL,))
    assert ignored == ("input.reasoning",)


@given(thoughts, words)
def test_whatever_is_sealed_is_unsealed(thought: Reasoning, other: str) -> None:
    """And nothing else is: another vendor's encrypted thoughts, or ones that were cut, are nobody's."""
    assert unseal(seal(thought), thought.text) == thought
    assert unseal(other, "") is None
    assert unseal(seal(thought)[:-5], "") is None


def test_plain_thoughts_have_no_maker() -> None:
    """`reasoning_content` alone, as clients of DeepSeek send it; a refusal is a part of its own."""
    message = _read_chat({"role": "assistant", "content": "said", "reasoning_content": "hm"})
    assert message.parts == (Reasoning("hm"), Text("said"))
    refused = _read_chat({"role": "assistant", "content": None, "refusal": "No."})
    assert refused.parts == (Refusal("No."),)


def test_a_detail_of_an_unknown_type_is_refused() -> None:
    """Rather than dropped: it may be needed."""
    with pytest.raises(ApiError) as caught:
        _read_chat({"role": "assistant", "content": "a", "reasoning_details": [{"type": "reasoning.new"}]})
    assert caught.value.param == "messages[0].reasoning_details[0]"


def test_a_refusal_is_shown_as_openai_shows_it() -> None:
    """It is no content, and no filter ended it."""
    refusal: dict[str, Any] = {
        "text": "",
        "tool_calls": (),
        "reasoning": (),
        "refusal": "No.",
        "finish_reason": FinishReason.CONTENT_FILTER,
    }
    message = _chat(**refusal)
    assert (message["content"], message["refusal"], message["finish_reason"]) == (None, "No.", "stop")
    (item,) = _output(**refusal)
    assert (item["status"], item["content"]) == ("completed", [{"type": "refusal", "refusal": "No."}])


def test_citations_are_annotations() -> None:
    """Of pages; where in the text they stand, as far as it is known."""
    citation = Citation("https://a.example", "A", "", 1, 3)
    message = _chat(citations=(citation, Citation(title="a document")), reasoning=())
    annotation = {"url": "https://a.example", "title": "A", "start_index": 1, "end_index": 3}
    assert message["annotations"] == [{"type": "url_citation", "url_citation": annotation}]
    items = _output(citations=(citation,), reasoning=())
    assert items[0]["content"][0]["annotations"] == [{"type": "url_citation", **annotation}]


PIECES = [
    Delta(reasoning=(ReasoningDelta(0, Reasoning("h", kind="anthropic")),)),
    Delta(reasoning=(ReasoningDelta(0, Reasoning("m")),)),
    Delta(reasoning=(ReasoningDelta(0, Reasoning(opaque="S")),)),
    Delta("said"),
]


def _events(stream: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]


def _streamed_chat(*, voided: bool) -> list[dict[str, Any]]:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hi"}]}).encode()
    stream = ChatExchange(body, {}, "r1").stream("r1", 0)
    out = stream.begin(SELECTION)
    if voided:
        out += stream.delta(Delta(reasoning=(ReasoningDelta(0, Reasoning("void", "V", kind="x")),)))
        out += stream.void_thoughts()
    for piece in PIECES:
        out += stream.delta(piece)
    out += stream.finish(Completed(_result(text="", tool_calls=(), reasoning=())).result)
    return _events(out)


def test_a_source_that_comes_before_its_text_is_no_less_one() -> None:
    """A search's results may come first: the item that they are of begins with the text."""
    body = json.dumps({"model": "auto", "input": "hi"}).encode()
    stream = ResponsesExchange(body, {}, "r1").stream("r1", 0)
    out = stream.begin(SELECTION) + stream.delta(Delta(citations=(Citation("https://a.example", "A"),)))
    out += stream.delta(Delta("said")) + stream.delta(Delta(" more"))
    events = _events(out + stream.finish(_result(text="", tool_calls=(), reasoning=())))
    (item,) = events[-1]["response"]["output"]
    assert [note["url"] for note in item["content"][0]["annotations"]] == ["https://a.example"]
    assert [e["type"] for e in events].count("response.output_text.annotation.added") == 1


@pytest.mark.parametrize("voided", [False, True])
def test_a_streamed_chat_ends_with_all_that_must_come_back(voided: bool) -> None:
    """Text as it comes, and one list of whole thoughts at the end; those of an attempt that failed are not among
    them."""
    choices = [chunk["choices"][0] for chunk in _streamed_chat(voided=voided)]
    shown = "".join(choice["delta"].get("reasoning_content", "") for choice in choices)
    assert shown == ("voidhm" if voided else "hm")
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "said"
    message = {"role": "assistant", "content": "said", **choices[-1]["delta"]}
    assert _read_chat(message).parts == (SIGNED, Text("said"))


@pytest.mark.parametrize("voided", [False, True])
def test_a_streamed_response_ends_with_all_that_must_come_back(voided: bool) -> None:
    """Items of thoughts beside the message; void ones are not in the finished response, and indexes are not used
    twice."""
    body = json.dumps({"model": "auto", "input": "hi", "include": ENCRYPTED}).encode()
    stream = ResponsesExchange(body, {}, "r1").stream("r1", 0)
    out = stream.begin(SELECTION)
    if voided:
        out += stream.delta(Delta(reasoning=(ReasoningDelta(0, Reasoning("void", "V", kind="x")),)))
        out += stream.void_thoughts()
    for piece in PIECES:
        out += stream.delta(piece)
    events = _events(out + stream.finish(_result(text="", tool_calls=(), reasoning=())))
    added = [e["output_index"] for e in events if e["type"] == "response.output_item.added"]
    done = [e["output_index"] for e in events if e["type"] == "response.output_item.done"]
    assert added == list(range(3 if voided else 2))
    assert sorted(done) == added
    message, _ = _read_responses(events[-1]["response"]["output"])
    assert message.parts == (SIGNED, Text("said"))
