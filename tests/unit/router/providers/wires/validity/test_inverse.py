"""Answers as callers see them: ids that are valid everywhere, names that are theirs, text up to a stop sequence."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.conversation import Citation, Reasoning, ReasoningDelta, ToolCall, ToolCallDelta
from libs.types import FinishReason
from services.router.providers.wires.validity.inverse import Inverse
from services.router.providers.wires.validity.stops import StopSearch
from services.router.request.generation import Completion, StreamEnd, StreamEvent, TextDelta

EVERYWHERE = re.compile(r"[a-zA-Z0-9_-]{1,40}")
BEFORE = Inverse(ids={"call_0": "call_0", "abc": "a.b"}, names={"get_weather": "get.weather"})
END = StreamEnd(FinishReason.TOOL_CALLS, None)


def whole(inverse: Inverse, *calls: ToolCall, text: str = "") -> Completion:
    return inverse.whole(Completion(text, FinishReason.TOOL_CALLS, None, calls), Random(1).getrandbits)


def streamed(inverse: Inverse, *events: StreamEvent) -> list[StreamEvent]:
    reader = inverse.reader(Random(1).getrandbits)
    return [seen for event in events for seen in reader.read([event])]


@pytest.mark.parametrize("given_id", ["", "x" * 41, "a.b:0", "weather 1", "é", "call_0", "abc", "a.b"])
def test_an_id_that_somebody_would_refuse_is_replaced(given_id: str) -> None:
    """Whole and streamed: empty, too long, of strange characters, or one that a call before it has."""
    (call,) = whole(BEFORE, ToolCall(given_id, "f", "{}")).tool_calls
    (piece,) = streamed(BEFORE, ToolCallDelta(0, given_id, "f", "{}"))
    for identifier in (call.id, piece.id):  # type: ignore[union-attr]
        assert EVERYWHERE.fullmatch(identifier)
        assert identifier not in (given_id, "call_0", "abc", "a.b")


def test_a_good_id_stays() -> None:
    """Vendors that keep calls themselves know them by it."""
    assert whole(BEFORE, ToolCall("toolu_01Ab-c", "f", "{}")).tool_calls[0].id == "toolu_01Ab-c"


def test_two_calls_of_one_answer_have_ids_of_their_own() -> None:
    """Servers that number nothing give all of them the same."""
    first, second = whole(Inverse(), ToolCall("c", "f", "{}"), ToolCall("c", "f", "{}")).tool_calls
    assert (first.id, second.id == first.id) == ("c", False)
    ids = {piece.id for piece in streamed(Inverse(), *(ToolCallDelta(n, "c", "f") for n in range(3)))}  # type: ignore[union-attr]
    assert len(ids) == 3


def test_parameters_have_the_callers_names_again() -> None:
    """Whole and streamed, however its arguments are cut, and with what the model has made up; other calls come as
    they do, but not before it, and arguments that are no object stay as they are."""
    inverse = Inverse(names={"f": "f.g"}, keys={"f": {"_top": "$top"}})
    text = '{"_top":3,"a":{"_top":1}}'
    call = ToolCall("1", "f.g", '{"$top":3,"a":{"_top":1}}')
    assert whole(inverse, ToolCall("1", "f", text)).tool_calls == (call,)
    pieces = [ToolCallDelta(0, "", "", letter) for letter in text]
    events = streamed(inverse, ToolCallDelta(0, "1", "f"), *pieces, ToolCallDelta(1, "2", "g", "{"), END)
    renamed = ToolCallDelta(0, call.id, call.name, call.arguments_json)
    assert events == [renamed, ToolCallDelta(1, "2", "g", "{"), END]
    first = ToolCallDelta(0, "2", "g", "{}")
    assert streamed(inverse, first, ToolCallDelta(1, "1", "f"), END)[0] == first
    assert whole(inverse, ToolCall("1", "f", '["_top"')).tool_calls[0].arguments_json == '["_top"'


def test_a_tool_has_the_callers_name_again() -> None:
    """Also where it was renamed for the vendor."""
    assert whole(BEFORE, ToolCall("1", "get_weather", "{}")).tool_calls[0].name == "get.weather"
    assert streamed(BEFORE, ToolCallDelta(0, "1", "get_weather")) == [ToolCallDelta(0, "1", "get.weather")]


def test_id_and_name_come_once_and_together() -> None:
    """Clients join what comes twice, and begin a call with its first piece: it waits for its name."""
    seen = streamed(
        Inverse(),
        ToolCallDelta(0, "1"),
        ToolCallDelta(0, "", "", "{"),
        ToolCallDelta(0, "", "f", '"a":'),
        ToolCallDelta(0, "1", "f", "1}"),
        ToolCallDelta(0, "1", "f", ""),
    )
    assert seen == [ToolCallDelta(0, "1", "f", '{"a":'), ToolCallDelta(0, "", "", "1}")]


STOPS = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3)


@given(STOPS, st.lists(st.text("abc", max_size=5), max_size=8))
def test_text_ends_before_the_first_stop_sequence(stops: list[str], pieces: list[str]) -> None:
    """However it is cut into pieces: before that which is complete first, and of several the longest."""
    text = "".join(pieces)
    ends = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    expected = text if not ends else text[: min(ends)[0] + min(ends)[1]]
    search = StopSearch(stops)
    seen = "".join([search.feed(piece) for piece in pieces])
    assert seen + search.flush() == expected
    assert search.found is bool(ends)
    # Nothing that may be the answer's is held back.
    held = expected[len(seen) :]
    assert search.found or not held or any(stop.startswith(held) for stop in stops)


def test_nothing_follows_a_stop_sequence() -> None:
    """Whole and streamed: neither text nor calls, and the answer has stopped."""
    inverse = Inverse(stops=("\n\n",))
    answer = whole(inverse, ToolCall("1", "f", "{}"), text="Hi.\n\nBye.")
    assert (answer.text, answer.tool_calls, answer.finish_reason) == ("Hi.", (), FinishReason.STOP)
    reader = inverse.reader()
    assert reader.read([TextDelta("Hi.\n")]) == [TextDelta("Hi.")]
    assert not reader.stopped
    assert reader.read([TextDelta("\nBye."), ToolCallDelta(0, "1", "f"), END]) == []
    assert reader.stopped


def test_what_was_held_back_is_passed_on_before_what_follows() -> None:
    """It looked like the beginning of a stop sequence and was the answer's."""
    seen = streamed(
        Inverse(stops=("abc",)), TextDelta("xab"), ToolCallDelta(0, "1", "f"), TextDelta("a"), END
    )
    assert seen == [TextDelta("x"), TextDelta("ab"), ToolCallDelta(0, "1", "f"), TextDelta("a"), END]


def test_a_stop_sequence_does_not_begin_before_a_call() -> None:
    """Nor is it missed where a source is named in the middle of it."""
    inverse, source = Inverse(stops=("abc",)), Citation("https://a.example")
    seen = streamed(inverse, TextDelta("xab"), ToolCallDelta(0, "1", "f"), TextDelta("cxyz"), END)
    assert "".join(event.text for event in seen if isinstance(event, TextDelta)) == "xabcxyz"
    assert streamed(inverse, TextDelta("xab"), source, TextDelta("cxyz"), END) == [TextDelta("x"), source]


def test_a_call_that_never_has_a_name_comes_at_the_end() -> None:
    """Nothing of an answer is lost, and each of its pieces is copied once."""
    pieces = [ToolCallDelta(0, "", "", "x" * 50) for _ in range(50_000)]
    seen = streamed(Inverse(), ToolCallDelta(0, "1"), *pieces, END)
    assert seen == [ToolCallDelta(0, "1", "", "x" * 2_500_000), END]


def test_thoughts_name_their_call_as_the_caller_knows_it() -> None:
    """Also where they come before it, and where the provider numbers its calls anew in each answer."""
    thought = ReasoningDelta(0, Reasoning("", "c2ln", tool_call_id="call_0"))
    seen = streamed(BEFORE, thought, ToolCallDelta(0, "call_0", "f", "{}"), END)
    assert isinstance(seen[0], ReasoningDelta)
    assert isinstance(seen[1], ToolCallDelta)
    assert seen[0].piece.tool_call_id == seen[1].id != "call_0"
    answer = Completion(
        "", FinishReason.TOOL_CALLS, None, (ToolCall("call_0", "f", "{}"),), reasoning=(thought.piece,)
    )
    whole_answer = BEFORE.whole(answer)
    assert whole_answer.reasoning[0].tool_call_id == whole_answer.tool_calls[0].id != "call_0"
