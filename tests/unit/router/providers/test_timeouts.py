"""The time that attempts may take: what is learned, and what it does to a stream that is watched."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from libs.catalog.model import Timeouts
from services.router.providers.time_learner import FEWEST_CUTS, SAMPLES, TimeLearner
from services.router.providers.timeouts import (
    ANSWER_FLOOR,
    EARLY,
    LAST_WORDS,
    OTHERS,
    SILENCE_FLOOR,
    SLACK,
    TRICKLE_CAP,
    UNKNOWN,
    UNKNOWN_PACE,
    AttemptTimeouts,
    LearnedTimes,
    StreamWatch,
    attempt_timeouts,
)

CEILINGS = Timeouts(first_byte=20.0, idle=15.0, total=180.0)


def timeouts(learned: LearnedTimes = UNKNOWN, remaining: float = 100.0, **changes: object) -> AttemptTimeouts:
    """Of a stream with others behind it, unless said otherwise."""
    facts: dict[str, object] = {
        "needs": [None],
        "stream": True,
        "reasons": False,
        "input_tokens": 100,
        "output_tokens": 200,
    }
    return attempt_timeouts(learned, CEILINGS, remaining, **(facts | changes))  # type: ignore[arg-type]


def taught(count: int, seconds: float, tokens: int = 100, now: float = 0.0) -> TimeLearner:
    """A model that gave so many whole answers in that time."""
    pace = TimeLearner()
    for _ in range(count):
        pace.record_answer(now, seconds, tokens, 200)
    return pace


def stream(pace: TimeLearner, now: float, first: float, silence: float = 0.1, pieces: int = 10) -> None:
    """One good stream with 100 bytes a piece."""
    watch = StreamWatch(timeouts(), now)
    watch.record_bytes(first, 100, content=True)
    for _ in range(pieces):
        watch.record_bytes(silence, 100, content=True)
    pace.record_stream(now, watch)


def test_without_experience_the_catalogs_limits_stand() -> None:
    """Nothing learned: silence is bounded by the catalog, and the pace by what no model in use is below."""
    found = timeouts()
    assert (found.first_content, found.silence, found.content) == (20.0, 15.0, 20.0)
    assert found.pace == UNKNOWN_PACE
    assert timeouts(needs=[]).pace == 0.0


def test_learned_limits_lie_between_floor_and_ceiling() -> None:
    """Four times the learned percentile, never under the floor, never over the catalog's limit."""
    for learned, expected in ((0.01, SILENCE_FLOOR), (1.5, SLACK * 1.5), (60.0, None)):
        found = timeouts(LearnedTimes(first_content=learned, silence=learned), input_tokens=0)
        assert found.first_content == (expected or CEILINGS.first_byte)
        assert found.silence == (expected or CEILINGS.idle)


def test_the_last_candidate_is_not_hurried() -> None:
    """With nobody else to ask, giving up early could only lose: the catalog's limits and the deadline stand."""
    learned = LearnedTimes(first_content=0.1, silence=0.1, per_token=0.01, tokens=100, pace=5000)
    found = timeouts(learned, needs=[])
    assert (found.first_content, found.silence, found.pace) == (20.0, 15.0, 0.0)
    assert timeouts(learned, needs=[], stream=False).total == 100.0


@pytest.mark.parametrize("streamed", [True, False])
def test_what_hedges_wait_for_is_learned_from_the_tenants_own_calls(streamed: bool) -> None:
    """The 95th percentile, of an answer of the length that is to be expected; another tenant's slow prompts do not
    put it off, and where nothing is known it is not."""
    of_all = TimeLearner()
    quick, slow = TimeLearner(of_all), TimeLearner(of_all)
    for learner, seconds in ((quick, 0.3), (slow, 9.0)):
        for _ in range(20):
            stream(learner, 0.0, seconds)
            learner.record_answer(0.0, seconds, 100, 200)
    for learner, seconds in ((quick, 0.3), (slow, 9.0)):
        usual = timeouts(learner.learned_times(1.0), stream=streamed).usual
        assert usual == pytest.approx(seconds, rel=0.1)
    assert timeouts(stream=streamed).usual is None


def test_a_long_prompt_gets_more_time() -> None:
    """Reading a prompt takes time that short prompts have not taught."""
    learned = LearnedTimes(first_content=0.5)
    assert (
        timeouts(learned, input_tokens=10_000).first_content
        > timeouts(learned, input_tokens=0).first_content + 4
    )


def test_an_attempt_leaves_time_for_others_until_content_flows() -> None:
    """A stream may be silent for a share of the time left, but once it flows it has all of it."""
    found = timeouts(remaining=10.0)
    assert found.first_content == pytest.approx(6.0)
    assert found.total == 10.0


def test_a_hung_unary_call_is_given_up_long_before_the_deadline() -> None:
    """Unknown: by the tokens asked for at forty a second. Learned: by the model's own pace."""
    assert timeouts(remaining=1000.0, stream=False).total == pytest.approx(5 + 200 / 40)
    assert timeouts(remaining=1000.0, stream=False, output_tokens=1024).total < 31
    learned = taught(SAMPLES, 2.0).learned_times(0.0)
    assert ANSWER_FLOOR < timeouts(learned, remaining=1000.0, stream=False).total <= SLACK * 2.2


def test_a_longer_answer_gets_more_time() -> None:
    """The learned time is per token, and as many tokens are expected as answers usually have, or as large a part of
    what is allowed as they usually use."""
    learned = taught(SAMPLES, 10.0).learned_times(0.0)
    short, usual, same, long = (
        timeouts(learned, remaining=1000.0, stream=False, output_tokens=most).total
        for most in (20, 150, 200, 600)
    )
    assert short < usual < long < 3 * usual
    assert same == pytest.approx(usual, rel=0.05)
    # Who allows much and gets little is not waited for as if it were much.
    modest = replace(learned, share=0.01)
    assert timeouts(modest, remaining=1000.0, stream=False, output_tokens=10_000).total == pytest.approx(
        usual, rel=0.05
    )


def test_too_little_time_for_two_is_given_to_one() -> None:
    """A usual answer that needs more than its share is not cut, which would lose both."""
    learned = taught(SAMPLES, 8.0).learned_times(0.0)
    assert timeouts(learned, remaining=10.0, stream=False, output_tokens=100).total == 10.0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("many", range(1, 7))
@pytest.mark.parametrize("usual", [None, 0.004, 1.0, 4.0])
def test_an_attempt_leaves_the_others_what_they_need(many: int, usual: float | None, stream: bool) -> None:
    """However long an attempt is silent, and whatever is learned: each that could still answer has its usual time
    twice, or an equal part of the time there was; and the last has all that is left."""
    remaining = 20.0
    for left in range(many, -1, -1):
        found = timeouts(remaining=remaining, needs=[usual] * left, stream=stream, output_tokens=4096)
        wait = found.first_content if stream else found.total
        rest = remaining - wait
        assert wait > 0
        if left:
            needed = left * 2 * (usual or 0.0)
            assert rest >= min(needed, remaining * left / (left + 1)) - 1e-9
        else:
            assert wait == pytest.approx(min(remaining, CEILINGS.first_byte))
        remaining = rest


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("seconds", [0.004, 0.3, 1.0])
def test_a_model_never_called_is_expected_within_what_others_show(seconds: float, stream: bool) -> None:
    """Named regression: answers had come in 4 ms until then, and a call to a silent model that had not been called
    yet took 18 s."""
    others = LearnedTimes(
        first_content=seconds, silence=seconds, per_token=seconds / 150, tokens=100, share=0.5
    )
    found = timeouts(LearnedTimes().completed(others.slowed(OTHERS)), remaining=30.0, stream=stream)
    wait = found.first_content if stream else found.total
    assert wait == pytest.approx(min(18.0, max(SILENCE_FLOOR, SLACK * OTHERS * seconds)), rel=0.1)


@pytest.mark.parametrize("known", [True, False])
def test_regression_a_token_every_three_seconds_is_a_trickle(known: bool) -> None:
    """Named regression: it used up the whole deadline beside a healthy fallback, where nothing was learned."""
    learned = LearnedTimes(first_content=0.3, silence=0.05, pace=4000.0) if known else UNKNOWN
    watch = StreamWatch(timeouts(learned), 0.0)
    watch.record_bytes(0.3, 250, content=True)
    waited = 0.0
    while not watch.trickles and waited < 30.0:
        patience = watch.patience(0.0)
        waited += min(3.0, patience)
        if patience < 3.0:
            break
        watch.record_bytes(3.0, 250, content=True)
    assert waited <= 6.0


def test_few_calls_teach_nothing() -> None:
    """One call less than needed, and the catalog's limits stand."""
    assert taught(SAMPLES - 1, 0.1).learned_times(0.0) == UNKNOWN
    assert taught(SAMPLES, 0.1).learned_times(0.0) != UNKNOWN


def test_streams_teach_first_content_silence_and_pace() -> None:
    """Within the histogram's 5 % of the true values."""
    pace = TimeLearner()
    for _ in range(SAMPLES):
        stream(pace, 0.0, first=0.8, silence=0.05)
    learned = pace.learned_times(0.0)
    assert learned.first_content == pytest.approx(0.8, rel=0.06)
    assert learned.silence == pytest.approx(0.05, rel=0.06)
    assert learned.pace == pytest.approx(2000, rel=0.06)


def test_a_model_that_has_become_slower_is_learned_anew() -> None:
    """Named regression: limits cut every call of a model that became slower, and so never learned that it had."""
    pace = TimeLearner()
    for _ in range(1000):
        stream(pace, 0.0, first=0.5)
    now, cuts = 0.0, 0
    for _ in range(2000):
        now += 2.0
        bound = timeouts(pace.learned_times(now), input_tokens=0)
        if bound.first_content >= 6.0:
            break
        cuts += 1
        watch = StreamWatch(bound, now)
        watch.record_silence(bound.first_content)
        pace.record_stream(now, watch)
    assert bound.first_content >= 6.0
    assert cuts < 150


def test_an_unanswered_call_teaches_too() -> None:
    """The same for whole answers: each cut counts as an answer that took the most of its limit. Fewer than ten move
    none: a silent model's probes must not take longer and longer."""
    pace = taught(4 * SAMPLES, 2.0)
    before = timeouts(pace.learned_times(0.0), remaining=1000.0, stream=False)
    for _ in range(FEWEST_CUTS - 1):
        pace.record_timeout(3.0, before)
    same = timeouts(pace.learned_times(3.0), remaining=1000.0, stream=False)
    assert same.total == pytest.approx(before.total, rel=0.01)
    for _ in range(4):
        pace.record_timeout(5.0, before)
    assert timeouts(pace.learned_times(5.0), remaining=1000.0, stream=False).total > 2 * before.total


def test_a_caller_in_a_hurry_is_not_the_providers_fault() -> None:
    """A wait cut short by the deadline blames nobody; one as long as the model's own limit does."""
    learned = LearnedTimes(first_content=0.6)
    hurried = timeouts(learned, remaining=1.0)
    watch = StreamWatch(hurried, 0.0)
    watch.record_silence(hurried.first_content)
    assert not watch.at_fault
    watch = StreamWatch(timeouts(learned), 0.0)
    watch.record_silence(timeouts(learned).first_content)
    assert watch.at_fault


@pytest.mark.parametrize("early", [0.0, 0.001, EARLY])
def test_regression_a_timer_that_is_early_does_not_excuse_the_provider(early: float) -> None:
    """Named regression: a wait that ended a millisecond before its limit blamed nobody, so that the next caller too
    waited for the same silent provider."""
    found = timeouts(LearnedTimes(first_content=0.6))
    watch = StreamWatch(found, 0.0)
    watch.record_silence(found.first_content - early)
    assert watch.at_fault


def test_bytes_without_content_extend_patience_to_the_ceiling() -> None:
    """Pings show life: each buys another silence, but content must come within the catalog's first_byte."""
    watch = StreamWatch(timeouts(LearnedTimes(first_content=0.5, silence=0.5), input_tokens=0), 0.0)
    assert watch.patience(0.0) == SILENCE_FLOOR
    watch.record_bytes(1.5, 10, content=False)
    assert watch.patience(1.5) == SILENCE_FLOOR
    for _ in range(17):
        watch.record_bytes(1.0, 10, content=False)
    assert watch.patience(18.5) == pytest.approx(1.5)
    assert watch.first is None


def test_a_model_that_reasons_may_think_as_long_as_bytes_come() -> None:
    """Thoughts are bytes without content; for a reasoning model they may go on until the attempt's end."""
    watch = StreamWatch(timeouts(reasons=True), 0.0)
    for _ in range(90):
        watch.record_bytes(1.0, 300, content=False)
    assert watch.patience(90.0) == pytest.approx(10.0)
    ordinary = StreamWatch(timeouts(), 0.0)
    for _ in range(90):
        ordinary.record_bytes(1.0, 300, content=False)
    assert ordinary.patience(90.0) < 0


def test_after_content_every_silence_is_bounded_and_pings_do_not_go_on_for_ever() -> None:
    """A new silence begins with every piece, yet a stream that only pings runs out of patience."""
    watch = StreamWatch(timeouts(), 0.0)
    watch.record_bytes(1.0, 100, content=True)
    assert watch.patience(1.0) == CEILINGS.idle
    watch.record_bytes(9.0, 10, content=False)
    assert watch.patience(10.0) == pytest.approx(11.0)
    watch.record_bytes(11.0, 10, content=False)
    assert watch.patience(21.0) <= 0
    assert watch.first == 1.0


def test_after_the_finish_reason_the_rest_is_not_waited_for_long() -> None:
    """Only usage and terminator are missing then."""
    watch = StreamWatch(timeouts(), 0.0)
    watch.record_bytes(1.0, 100, content=True)
    watch.finishing = True
    assert watch.patience(1.0) == LAST_WORDS


def test_the_deadline_bounds_every_wait() -> None:
    """Also of a stream that flows."""
    watch = StreamWatch(timeouts(remaining=5.0), 0.0)
    watch.record_bytes(1.0, 100, content=True)
    assert watch.patience(4.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("size", "trickles"), [(1, True), (400, False)])
def test_a_trickle_is_noticed(size: int, trickles: bool) -> None:
    """Far below the model's usual pace for seconds of waiting; a stream that is merely slower is left alone."""
    watch = StreamWatch(timeouts(LearnedTimes(pace=5000)), 0.0)
    watch.record_bytes(1.0, 100, content=True)
    for _ in range(6):
        watch.record_bytes(1.0, size, content=True)
    assert watch.trickles is trickles


def test_no_model_must_be_faster_than_a_reader() -> None:
    """However fast a model usually is, three tokens a second are no trickle."""
    assert timeouts(LearnedTimes(pace=1_000_000)).pace == TRICKLE_CAP


def test_a_slow_reader_is_not_the_providers_silence() -> None:
    """Only time spent waiting counts: what the caller takes to read between pieces is not even told."""
    watch = StreamWatch(timeouts(), 0.0)
    watch.record_bytes(1.0, 100, content=True)
    watch.record_bytes(0.01, 100, content=True)
    assert watch.silence == 0.01
    assert watch.patience(60.0) == CEILINGS.idle
