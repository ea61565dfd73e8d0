"""Pieces that servers say twice, or only once and late, are told exactly once: text repeated in full, arguments that
come with the last event, calls that share an index.
the last event, calls that share an index."""

# ruff: noqa: E501

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from libs.types import FinishReason, Usage
from tests.unit.router.providers.wires.samples import chunk, sse, told, tool_chunk, typed
from tests.unit.router.providers.wires.test_completions import answer, chat, used
from tests.unit.router.providers.wires.test_streams import read


def perplexity(whole: str, delta: Any, finish: str | None = None) -> dict[str, Any]:
    """A chunk with a delta and, beside it, all that was said so far."""
    message = {"role": "assistant", "content": whole}
    return {"choices": [{"index": 0, "message": message, "delta": delta, "finish_reason": finish}]}


CUMULATIVE: list[list[dict[str, Any]]] = [
    [perplexity("Hi", {"content": "Hi"}), perplexity("Hi you", {"content": " you"}, "stop")],
    [perplexity("Hi you", {"content": "Hi you"}), perplexity("Hi you", {}, "stop")],
    [perplexity("Hi you", {"content": "Hi you"}), perplexity("Hi you", None, "stop")],
    [perplexity("", {}), perplexity("Hi", {}), perplexity("Hi you", {}, "stop")],
]


@pytest.mark.parametrize("chunks", CUMULATIVE)
def test_perplexity_repeats_the_message_in_every_chunk(chunks: list[dict[str, Any]]) -> None:
    """The deltas are the answer; the message beside them only where no delta ever said anything."""
    events, failure = read("perplexity", [sse(*chunks)])
    assert failure is None
    assert told(events).text == "Hi you"


def test_perplexity_bills_citations_and_thoughts_as_output() -> None:
    """Both stand beside the completion's tokens, as genai-prices reads them too."""
    usage = used(reasoning_tokens=3, citation_tokens=100, num_search_queries=2)
    assert answer("perplexity", chat({"content": "hi"}, usage=usage)).usage == Usage(20, 110, 0, 0, 3)
    assert answer("openai", chat({"content": "hi"}, usage=used(citation_tokens=100))).usage == Usage(20, 7)


MESSAGE = {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Hi you"}]}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "f", "arguments": '{"x":1}'}
#: Every way in which a server tells the text and the call, in the order in which they come.
TELLING: list[dict[str, Any]] = [
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "msg_1", "delta": "Hi you"},
    {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "item_id": "msg_1", "text": "Hi you"},
    {"type": "response.content_part.done", "output_index": 0, "content_index": 0, "item_id": "msg_1", "part": MESSAGE["content"][0]},
    {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
    {"type": "response.output_item.added", "output_index": 1, "item": {**CALL, "arguments": ""}},
    {"type": "response.function_call_arguments.delta", "output_index": 1, "item_id": "fc_1", "delta": '{"x":1}'},
    {"type": "response.function_call_arguments.done", "output_index": 1, "item_id": "fc_1", "arguments": '{"x":1}'},
    {"type": "response.output_item.done", "output_index": 1, "item": CALL},
]  # fmt: skip
END = {"type": "response.completed", "response": {"status": "completed", "output": [MESSAGE, CALL]}}


def test_a_response_is_told_once_however_often_it_is_said() -> None:
    """Any part of the events that repeat each other, before the finished response, gives the text and the call."""
    for size in range(len(TELLING) + 1):
        for events in combinations(TELLING, size):
            found, failure = read("openai_responses", [typed(*events, END)])
            assert failure is None
            assert told(found).text == "Hi you", events
            assert told(found).tools == (("a", "f", '{"x":1}'),), events
            assert told(found).end.finish_reason is FinishReason.TOOL_CALLS


def test_a_response_without_indices_is_told_once() -> None:
    """Items are told apart by their ids where servers leave the indices out."""
    bare = [{name: event[name] for name in event if not name.endswith("_index")} for event in TELLING]
    second = {**CALL, "id": "fc_2", "call_id": "b"}
    more = {"type": "response.output_item.done", "item": second}
    end = {
        "type": "response.completed",
        "response": {"status": "completed", "output": [MESSAGE, CALL, second]},
    }
    found, failure = read("openai_responses", [typed(*bare, more, end)])
    assert failure is None
    assert told(found).text == "Hi you"
    assert told(found).tools == (("a", "f", '{"x":1}'), ("b", "f", '{"x":1}'))


def test_a_finished_response_that_leaves_things_out_takes_nothing_back() -> None:
    """An empty output, items numbered anew or a text trimmed at its end add nothing."""
    outputs: list[Any] = [
        [],
        None,
        [{**MESSAGE, "id": "other", "content": [{"type": "output_text", "text": "Hi yo"}]}],
        [{"type": "reasoning"}, MESSAGE],
    ]
    for output in outputs:
        end = {"type": "response.completed", "response": {"status": "completed", "output": output}}
        found, failure = read("openai_responses", [typed(TELLING[0], end)])
        assert failure is None
        assert told(found).text == "Hi you"


def test_a_refusal_that_comes_only_at_the_end_is_one() -> None:
    """With the item, or with the finished response."""
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    end = {"type": "response.completed", "response": {"status": "completed", "output": [item]}}
    for events in ((), ({"type": "response.output_item.done", "output_index": 0, "item": item},)):
        found, failure = read("openai_responses", [typed(*events, end)])
        assert failure is None
        assert (told(found).text, told(found).refusal) == ("", "No.")
        assert told(found).end.finish_reason is FinishReason.CONTENT_FILTER


def test_the_older_way_to_call_a_function_streams_too() -> None:
    """`function_call` in place of `tool_calls`, with the name once or in every piece."""
    for name in ({}, {"name": "f"}):
        first = chunk({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}})
        pieces = [chunk({"function_call": {"arguments": text, **name}}) for text in ('{"x"', ":1}")]
        data = sse(first, *pieces, chunk({}, "function_call"), done=True)
        events, failure = read("openai_compatible", [data])
        assert failure is None
        assert told(events).tools == (("", "f", '{"x":1}'),)
        assert told(events).end.finish_reason is FinishReason.TOOL_CALLS


Piece = tuple[int | None, str | None, str | None, str]
CALLS: list[tuple[str, list[Piece], list[tuple[str, str, str]]]] = [
    ("one index, two ids", [(0, "a", "f", "{}"), (0, "b", "f", "{}")], [("a", "f", "{}"), ("b", "f", "{}")]),
    ("one index, an id only first", [(0, "a", "f", "{}"), (0, "", "g", "{}")], [("a", "f", "{}"), ("", "g", "{}")]),
    ("one index, an id only last", [(0, "", "f", "{}"), (0, "b", "g", "{}")], [("", "f", "{}"), ("b", "g", "{}")]),
    ("one index, two names", [(0, "", "f", "{}"), (0, "", "g", "{}")], [("", "f", "{}"), ("", "g", "{}")]),
    ("one index, one name, whole arguments", [(0, "", "f", "{}"), (0, "", "f", "{}")], [("", "f", "{}"), ("", "f", "{}")]),
    ("no index, one name, whole arguments", [(None, "", "f", "{}"), (None, "", "f", "{}")], [("", "f", "{}"), ("", "f", "{}")]),
    ("one index, the name in every piece", [(0, "", "f", '{"x"'), (0, "", "f", ":1}")], [("", "f", '{"x":1}')]),
    ("no index, the name in every piece", [(None, "", "f", '{"x"'), (None, "", "f", ":1}")], [("", "f", '{"x":1}')]),
    ("id and name in every piece", [(0, "a", "f", '{"x"'), (0, "a", "f", ":1}")], [("a", "f", '{"x":1}')]),
    ("the name again without the id", [(0, "a", "f", '{"x"'), (0, None, "f", ":1}")], [("a", "f", '{"x":1}')]),
    ("an id that comes late", [(0, "", "f", ""), (0, "a", "", "{}")], [("a", "f", "{}")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pieces", "expected"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS]
)
def test_calls_are_told_apart_by_whatever_differs(
    pieces: list[Piece], expected: list[tuple[str, str, str]]
) -> None:
    """Index, id, name, or that the arguments so far are whole; in chunks of their own and in one."""
    one = chunk({"tool_calls": []})
    one["choices"][0]["delta"]["tool_calls"] = [
        tool_chunk(*piece)["choices"][0]["delta"]["tool_calls"][0] for piece in pieces
    ]
    for chunks in ([tool_chunk(*piece) for piece in pieces], [one]):
        events, failure = read("openai_compatible", [sse(*chunks, chunk({}, "tool_calls"), done=True)])
        assert failure is None
        assert told(events).tools == tuple(expected)
