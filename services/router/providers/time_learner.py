"""Learns how long a model takes. Pure."""

from __future__ import annotations

from typing import Final

from libs.resilience.quantile import DecayingQuantile
from services.router.providers.timeouts import (
    OTHERS,
    OVERHEAD_TOKENS,
    UNKNOWN,
    AttemptTimeouts,
    LearnedTimes,
    StreamWatch,
)

#: Samples from which on a quantile is believed; the 95th percentile of so few is the longest.
SAMPLES: Final = 5
#: A wait that was cut counts as an answer after this share of it, and it takes at least so many cuts to move a limit:
#: one that has become too short grows, and that of a silent model, which is probed now and then, hardly does.
CUT, FEWEST_CUTS = 0.6, 10
#: Quantiles are computed anew after this time, seconds, or when there are twice as many samples; and after SOON while
#: nothing is known.
REFRESH: Final = 1.0
SOON: Final = 0.1
#: Whole answers that are kept between two computations, at most; they stand for all of that time. Quantiles remember
#: minutes, so that more a second would tell them nothing new.
MOST_ANSWERS: Final = 50


class TimeLearner:
    """The times of one model, learned in constant memory: for one tenant, for all of them, or of all models together.
    Instants are monotonic seconds.

    A wait that was cut counts like an answer that took CUT of it. So limits that have become too short, because a
    model has become slower, grow again by themselves once more than one call in twenty is cut, and FEWEST_CUTS are.
    """

    __slots__ = (
        "_answers",
        "_dropped",
        "_first",
        "_known",
        "_others",
        "_pace",
        "_per_token",
        "_refresh_at",
        "_same_model",
        "_seen",
        "_share",
        "_silence",
        "_tokens",
        "_until",
    )

    def __init__(self, others: TimeLearner | None = None, *, same_model: bool = True) -> None:
        """`others`: one that learns whatever this one learns, and is believed where this one does not know enough.
        `same_model` False: it is that of all models, from which this one's times are guessed. It learns no cuts: a
        silent model says nothing about others."""
        self._others = others
        self._same_model = same_model
        self._first = DecayingQuantile()
        self._silence = DecayingQuantile()
        self._per_token = DecayingQuantile()
        # Counts and rates in thousands: the histogram is made for 0.001 to 3600.
        self._tokens = DecayingQuantile()
        self._share = DecayingQuantile()
        self._pace = DecayingQuantile()
        self._known = UNKNOWN
        self._until = 0.0
        #: Calls that have taught, and how many make the quantiles worth computing anew.
        self._seen, self._refresh_at = 0, SAMPLES
        #: (instant, seconds, tokens, the most tokens) of whole answers that the quantiles do not hold yet: they
        #: matter only when those are read. And how many more they stand for.
        self._answers: list[tuple[float, float, int, int]] = []
        self._dropped = 0

    def record_stream(self, now: float, watch: StreamWatch) -> None:
        """Learns from a stream that ended, however it did."""
        others = self._others
        if others is not None and (self._same_model or watch.first is not None):
            others.record_stream(now, watch)
        self._seen += 1
        if watch.first is not None:
            self._first.add(now, watch.first)
            self._silence.add(now, watch.silence)
            if watch.pace is not None:
                self._pace.add(now, watch.pace / 1000)
        elif watch.timed_out:
            self._first.add(now, CUT * watch.quiet, weight=_cut_weight(self._first, now))

    def record_answer(self, now: float, seconds: float, tokens: int, most: int) -> None:
        """Learns from a whole answer: its seconds and output tokens, and the most that it was allowed."""
        self._seen += 1
        if len(self._answers) < MOST_ANSWERS:
            self._answers.append((now, seconds, tokens, most))
        else:
            self._dropped += 1

    def record_timeout(self, now: float, timeouts: AttemptTimeouts) -> None:
        """Learns from a whole answer that did not come within its timeout."""
        if self._others is not None and self._same_model:
            self._others.record_timeout(now, timeouts)
        if timeouts.tokens > 0:
            seconds = CUT * timeouts.total / timeouts.tokens
            self._per_token.add(now, seconds, weight=_cut_weight(self._per_token, now))

    def _learn_answers(self) -> None:
        """Learns from the answers that are kept, and so do the others: when this model is asked for again."""
        answers, count = self._answers, len(self._answers) + self._dropped
        at, weight = answers[-1][0], count / len(answers)
        self._answers, self._dropped = [], 0
        per_token = [seconds / (output + OVERHEAD_TOKENS) for _, seconds, output, _ in answers]
        tokens = [output / 1000 for _, _, output, _ in answers]
        shares = [output / most for _, _, output, most in answers if most > 0]
        learner: TimeLearner | None = self
        while learner is not None:
            if learner is not self:
                learner._seen += count
            learner._per_token.add(at, *per_token, weight=weight)
            learner._tokens.add(at, *tokens, weight=weight)
            learner._share.add(at, *shares, weight=weight)
            learner = learner._others

    def learned_times(self, now: float) -> LearnedTimes:
        """Returns what is learned, at most REFRESH old."""
        if now >= self._until or self._seen >= self._refresh_at:
            self._until, self._refresh_at = now + REFRESH, 2 * max(self._seen, SAMPLES)
            if self._answers:
                self._learn_answers()
            tokens, pace = _believed(self._tokens, now, 0.95), _believed(self._pace, now, 0.5)
            self._known = LearnedTimes(
                _believed(self._first, now, 0.95),
                _believed(self._silence, now, 0.95),
                _believed(self._per_token, now, 0.95),
                None if tokens is None else 1000 * tokens,
                _believed(self._share, now, 0.95),
                None if pace is None else 1000 * pace,
            )
            if self._others is not None:
                others = self._others.learned_times(now)
                self._known = self._known.completed(others if self._same_model else others.slowed(OTHERS))
            if self._known == UNKNOWN:
                # Others may know more in a moment.
                self._until = now + SOON
        return self._known


def _cut_weight(quantile: DecayingQuantile, now: float) -> float:
    """Returns the samples that a cut counts for: FEWEST_CUTS make one in twenty of all, but a model that hardly ever
    answered is learned in the end, too."""
    return min(1.0, max(1 / FEWEST_CUTS, quantile.samples(now) / (20 * FEWEST_CUTS)))


def _believed(quantile: DecayingQuantile, now: float, q: float) -> float | None:
    # The youngest samples have lost a little of their weight.
    return quantile.quantile(q) if quantile.samples(now) > SAMPLES - 0.5 else None
