"""A stream as its caller ends up with it, whatever pieces come from however many providers."""

from __future__ import annotations

import itertools

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import structs

from libs.answer import Delta, Event, Restarted, Selected, SwitchedProvider
from libs.conversation import Citation, Reasoning, ReasoningDelta, ToolCallDelta
from libs.types import ErrorClass, FinishReason
from services.router.generate.relay import Relay
from services.router.request.generation import RefusalDelta, StreamEnd, TextDelta
from tests.support.routing import candidate_of, catalog, model

MODELS = [model(f"{name}/m") for name in "abcd"]
CATALOG = catalog(*([m] for m in MODELS))
CANDIDATES = [candidate_of(CATALOG, m, 1) for m in MODELS]
END = StreamEnd(FinishReason.STOP, None)

words = st.text(alphabet="ab \n", max_size=12)


@st.composite
def chopped(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, some of them empty."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    borders = [0, *places, len(text)]
    return [text[a:b] for a, b in itertools.pairwise(borders)]


class Caller:
    """Follows the protocol: appends deltas, forgets at Restarted."""

    def __init__(self) -> None:
        self.text = ""
        self.tools: list[str] = []
        self.restarts = 0

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Restarted):
                self.text, self.tools = "", []
                self.restarts += 1
            elif isinstance(event, Delta):
                self.text += event.text
                self.tools += [t.name for t in event.tool_calls]


@given(st.data())
def test_the_caller_ends_up_with_the_last_providers_whole_answer(data: st.DataObject) -> None:
    """Whatever was cut where, and whether answers agree or not, the text after the last attempt is its answer."""
    relay, caller = Relay("r"), Caller()
    failure: ErrorClass | None = None
    for candidate in CANDIDATES[: data.draw(st.integers(1, 4))]:
        answer = data.draw(words)
        pieces = data.draw(chopped(answer))
        caller.take(relay.begin(candidate, failure, prefilled=False))
        last = candidate is CANDIDATES[3] or data.draw(st.booleans())
        for piece in pieces if last else pieces[: data.draw(st.integers(0, len(pieces)))]:
            caller.take(relay.feed([TextDelta(piece)]))
        failure = ErrorClass.TRANSPORT
        if last:
            caller.take(relay.feed([END]))
            assert caller.text == answer
            break


@given(words, st.data())
def test_equal_answers_never_restart(answer: str, data: st.DataObject) -> None:
    """As long as every provider gives the same answer the caller sees no restart and nothing twice."""
    relay, caller = Relay("r"), Caller()
    for number, candidate in enumerate(CANDIDATES):
        caller.take(relay.begin(candidate, ErrorClass.STALLED if number else None, prefilled=False))
        pieces = data.draw(chopped(answer))
        cut = len(pieces) if number == 3 else data.draw(st.integers(0, len(pieces)))
        for piece in pieces[:cut]:
            caller.take(relay.feed([TextDelta(piece)]))
    caller.take(relay.feed([END]))
    assert caller.restarts == 0
    assert caller.text == answer


@given(words, st.integers(0, 12), st.booleans(), st.data())
def test_prefill_goes_on_from_what_was_sent(
    answer: str, cut: int, repeats: bool, data: st.DataObject
) -> None:
    """A continuation of the prefill gives the whole answer, whether or not the model repeats the white space that a
    prefill must not end with."""
    relay, caller = Relay("r"), Caller()
    caller.take(relay.begin(CANDIDATES[0], None, prefilled=False))
    caller.take(relay.feed([TextDelta(answer[:cut])]))
    if not relay.committed or not relay.prefill():
        return
    prefill = relay.prefill()
    assert prefill == prefill.rstrip()
    caller.take(relay.begin(CANDIDATES[1], ErrorClass.STALLED, prefilled=True))
    held, rest = answer[len(prefill) : cut], answer[cut:]
    # White space that goes on after the cut cannot be told from a repetition of what was sent of it.
    assume(repeats or not held or not rest.startswith(held[0]))
    for piece in data.draw(chopped(held + rest if repeats else rest)):
        caller.take(relay.feed([TextDelta(piece)]))
    assert caller.text == answer
    assert caller.restarts == 0


def test_tool_calls_sent_before_a_cut_are_started_over() -> None:
    """A tool call half sent cannot be continued: the next attempt starts over, whatever it sends."""
    relay, caller = Relay("r"), Caller()
    caller.take(relay.begin(CANDIDATES[0], None, prefilled=False))
    caller.take(relay.feed([ToolCallDelta(0, "1", "weather", '{"ci')]))
    assert relay.prefill() == ""
    caller.take(relay.begin(CANDIDATES[1], ErrorClass.TRANSPORT, prefilled=False))
    caller.take(relay.feed([ToolCallDelta(0, "2", "time", "{}"), END]))
    assert (caller.restarts, caller.tools) == (1, ["time"])


def test_regression_white_space_commits_nobody() -> None:
    """A provider that has sent a line feed and nothing else is no reason to match, continue or restart anything: the
    next simply begins. What it sends itself arrives whole, also where nothing but white space comes."""
    relay, caller = Relay("r"), Caller()
    relay.begin(CANDIDATES[0], None, prefilled=False)
    assert relay.feed([TextDelta("\n\n")]) == []
    assert not relay.committed
    caller.take(relay.begin(CANDIDATES[1], ErrorClass.STALLED, prefilled=False))
    for piece in ("\n", "Spade", " "):
        caller.take(relay.feed([TextDelta(piece)]))
    caller.take(relay.feed([END]))
    assert (caller.text, caller.restarts) == ("\nSpade ", 0)
    alone, caller = Relay("r"), Caller()
    alone.begin(CANDIDATES[0], None, prefilled=False)
    caller.take(alone.feed([TextDelta(" \n"), END]))
    assert caller.text == alone.sent() == " \n"


def test_regression_tool_calls_are_part_of_what_was_generated() -> None:
    """Tool calls count in the text from which tokens are estimated where a provider reports none; the next attempt
    begins at nothing."""
    relay = Relay("r")
    relay.begin(CANDIDATES[0], None, prefilled=False)
    relay.feed([TextDelta("Let me see. "), ToolCallDelta(0, "1", "weather", '{"city":')])
    relay.feed([ToolCallDelta(0, arguments_json='"Oslo"}'), END])
    assert relay.generated() == 'Let me see. weather{"city":"Oslo"}'
    relay.begin(CANDIDATES[1], ErrorClass.STALLED, prefilled=False)
    assert relay.generated() == ""


def test_who_answers_is_announced_once() -> None:
    """Selected comes first; a switch before any content is announced at once, and a retry of the same target not
    at all."""
    relay = Relay("r")
    assert [type(e) for e in relay.begin(CANDIDATES[0], None, prefilled=False)] == [Selected]
    assert relay.begin(CANDIDATES[0], ErrorClass.SERVER_ERROR, prefilled=False) == []
    switched = relay.begin(CANDIDATES[1], ErrorClass.SERVER_ERROR, prefilled=False)
    assert [type(e) for e in switched] == [SwitchedProvider]
    assert [type(e) for e in relay.feed([TextDelta("x")])] == [Delta]


THOUGHT = ReasoningDelta(0, Reasoning("hm"))


def test_thoughts_are_passed_on_and_commit_to_nothing() -> None:
    """They are no content: another attempt makes them void, whoever makes it, and begins its own answer."""
    for second in CANDIDATES[:2]:
        relay = Relay("r")
        relay.begin(CANDIDATES[0], None, prefilled=False)
        assert relay.feed([THOUGHT]) == [Delta(reasoning=(THOUGHT,))]
        assert not relay.committed
        (restarted,) = relay.begin(second, ErrorClass.STALLED, prefilled=False)
        assert isinstance(restarted, Restarted)
        assert relay.feed([TextDelta("b")]) == [Delta("b")]


def test_without_thoughts_a_failover_before_any_content_says_no_more_than_before() -> None:
    """Nothing was sent that could be void."""
    relay = Relay("r")
    relay.begin(CANDIDATES[0], None, prefilled=False)
    (switched,) = relay.begin(CANDIDATES[1], ErrorClass.STALLED, prefilled=False)
    assert isinstance(switched, SwitchedProvider)


def test_thoughts_about_a_continued_answer_are_kept_back() -> None:
    """They are not about what was shown; if the answer comes anew after all, they come with it."""
    for text, expected in (
        ("ab", [SwitchedProvider, Delta]),
        ("x", [Restarted, Delta, Delta]),
    ):
        relay = Relay("r")
        relay.begin(CANDIDATES[0], None, prefilled=False)
        relay.feed([TextDelta("a")])
        assert relay.begin(CANDIDATES[1], ErrorClass.TRANSPORT, prefilled=False) == []
        assert relay.feed([THOUGHT]) == []
        events = relay.feed([TextDelta(text)])
        assert [type(event) for event in events] == expected
        shown = [event.reasoning for event in events if isinstance(event, Delta) and event.reasoning]
        assert shown == ([(THOUGHT,)] if text == "x" else [])


def test_thoughts_count_as_generated() -> None:
    """They are billed as the rest is."""
    relay = Relay("r")
    relay.begin(CANDIDATES[0], None, prefilled=False)
    relay.feed([THOUGHT, TextDelta("a")])
    assert sorted(relay.generated()) == sorted("hma")
    assert relay.sent() == "a"


def test_a_refusal_commits_and_cannot_be_continued() -> None:
    """No prefill can express it, so another answer begins anew."""
    relay = Relay("r")
    relay.begin(CANDIDATES[0], None, prefilled=False)
    assert relay.feed([RefusalDelta("No")]) == [Delta(refusal="No")]
    assert relay.committed
    assert relay.prefill() == ""
    relay.begin(CANDIDATES[1], ErrorClass.TRANSPORT, prefilled=False)
    assert [type(event) for event in relay.feed([TextDelta("Yes")])] == [Restarted, Delta]


def test_citations_follow_the_text_that_they_are_of() -> None:
    """They are passed on, and commit to nothing by themselves."""
    relay = Relay("r")
    relay.begin(CANDIDATES[0], None, prefilled=False)
    source = Citation("https://a.example")
    assert relay.feed([source]) == [Delta(citations=(source,))]
    assert not relay.committed


def test_a_source_of_a_continued_answer_stands_where_it_does_in_the_whole() -> None:
    """The text before is not in the attempt's own count, unless the attempt begins the answer anew."""
    source = Citation("https://a.example", start=1, end=3)
    for prefilled, begun, start in ((True, "Hello", 6), (False, "Hello ", 1)):
        relay = Relay("r")
        relay.begin(CANDIDATES[0], None, prefilled=False)
        relay.feed([TextDelta("Hello ")])
        relay.begin(CANDIDATES[1], ErrorClass.TRANSPORT, prefilled=prefilled)
        relay.feed([TextDelta("" if prefilled else begun), TextDelta(" you")])
        assert relay.feed([source]) == [
            Delta(citations=(structs.replace(source, start=start, end=start + 2),))
        ]
