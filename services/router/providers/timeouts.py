"""Timeouts of an attempt: learned per model and tenant, between floors and the catalog's ceilings. Pure.

What a tenant asks decides how long its answers take, so where its own calls have taught enough, others' say nothing
about them: many quick ones would cut its slow ones. Until then everybody's are the best guess.

Learned times shorten a wait only while another candidate could answer instead; for the last one the catalog's limits
and the caller's deadline stand alone. With too few samples they stand alone too, so a model that was never called
gets the catalog's.

Bytes are a sign of life, content is a sign of work. Before the first content a silent provider gets the learned
limit; pings and thoughts extend that, a silence at a time, up to the ceiling: the catalog's `first_byte`, or for a
model that reasons the attempt's whole time. After it every silence has its limit, and content must come again within
the same ceiling.
"""

from __future__ import annotations

from msgspec import Struct

from libs.catalog.model import Timeouts
from libs.resilience.quantile import DecayingQuantile

#: Samples from which on a quantile is believed.
SAMPLES = 20
#: Limits are this many times the learned 95th percentile. On public measurements of 400 pairs of models and regions
#: (thefastest.ai, 2024) four times the 95th percentile of earlier calls, at least 2 s, cut one call of 523, and that
#: one took 9.8 s.
SLACK = 4.0
#: No learned limit is shorter, seconds: to the first content and between bytes; and of a whole answer.
SILENCE_FLOOR = 2.0
ANSWER_FLOOR = 5.0
#: Seconds a token of the prompt adds to the first content at a slow provider, on top of what is learned.
PROMPT_TOKEN = 0.0005
#: A whole answer costs as much time as its tokens and this many more.
OVERHEAD_TOKENS = 50
#: Until a model's pace is learned: tokens a second that any model in use reaches.
SLOWEST_MODEL = 10.0
#: Of the time left an attempt may use this share while others could still answer.
SHARE = 0.6
#: A stream is cut below this share of the model's usual pace, judged over so many seconds of waiting. More than so
#: many bytes a second (about three tokens) is never too slow.
TRICKLE, TRICKLE_WINDOW, TRICKLE_CAP = 0.05, 5.0, 1000.0
#: Seconds of waiting after the first content below which a stream teaches nothing of its pace.
SHORTEST_PACE = 0.2
#: While nothing is learned, a wait of this share of the catalog's limit is long enough to blame the provider for.
BLAMED = 0.25
#: After the finish reason only usage and terminator are to come, seconds.
LAST_WORDS = 2.0
#: Quantiles are computed anew after this time, seconds.
REFRESH = 1.0


class LearnedTimes(Struct, frozen=True):
    """The learned times of a model. Seconds, 95th percentiles unless stated otherwise; None: too few samples."""

    first_content: float | None = None
    #: The longest silence of a stream after its first content.
    silence: float | None = None
    #: Of a whole answer, for each output token and OVERHEAD_TOKENS.
    per_token: float | None = None
    #: Output tokens of an answer.
    tokens: float | None = None
    #: Bytes a second of a stream after its first content, median.
    pace: float | None = None

    def completed(self, other: LearnedTimes) -> LearnedTimes:
        """Returns these times, with the other's where these are not known."""
        return LearnedTimes(
            other.first_content if self.first_content is None else self.first_content,
            other.silence if self.silence is None else self.silence,
            other.per_token if self.per_token is None else self.per_token,
            other.tokens if self.tokens is None else self.tokens,
            other.pace if self.pace is None else self.pace,
        )


UNKNOWN = LearnedTimes()


class AttemptTimeouts(Struct, frozen=True):
    """Bounds of one attempt, in seconds. `total` counts from its begin; the rest bounds waiting for the provider, in
    which the time that the caller takes to read is no part."""

    total: float
    #: Of silence before the first content.
    first_content: float
    #: Of every later silence, and of silence after bytes without content.
    silence: float
    #: Between pieces of content, however many other bytes come.
    content: float
    #: A shorter wait for an answer or its first content was cut by the caller's deadline: no fault of the provider.
    fair: float = 0.0
    #: Bytes a second below which a stream is cut; 0: none.
    pace: float = 0.0
    #: The most tokens a whole answer's `total` was made for; 0: not known.
    tokens: float = 0.0
    #: The calling tenant, which these timeouts are learned from first.
    tenant: str = ""


def attempt_timeouts(
    learned: LearnedTimes,
    ceilings: Timeouts,
    remaining: float,
    *,
    others: bool,
    stream: bool,
    reasons: bool,
    input_tokens: int,
    output_tokens: int,
    tenant: str = "",
) -> AttemptTimeouts:
    """The limits of an attempt with `remaining` seconds to the deadline. `others`: another candidate could still
    answer. `reasons`: the model may think before it speaks. `output_tokens`: the most the answer may have."""
    total = max(0.0, min(ceilings.total, remaining))
    share = min(total, remaining * SHARE) if others else total
    if not stream:
        return _whole_timeouts(learned, ceilings, total, share, others, output_tokens, tenant)
    first, silence, pace = ceilings.first_byte, ceilings.idle, 0.0
    fair = BLAMED * first
    if learned.first_content is not None:
        fair = max(SILENCE_FLOOR, SLACK * learned.first_content) + PROMPT_TOKEN * input_tokens
        fair = min(fair, first)
    if others:
        if learned.first_content is not None:
            first = fair
        if learned.silence is not None:
            silence = min(silence, max(SILENCE_FLOOR, SLACK * learned.silence))
        if learned.pace is not None:
            pace = min(TRICKLE_CAP, TRICKLE * learned.pace)
    content = total if reasons else min(ceilings.first_byte, total)
    return AttemptTimeouts(total, min(first, share), silence, content, fair, pace, tenant=tenant)


def _whole_timeouts(
    learned: LearnedTimes,
    ceilings: Timeouts,
    total: float,
    share: float,
    others: bool,
    output_tokens: int,
    tenant: str,
) -> AttemptTimeouts:
    """Returns the timeouts of a whole answer. It shows nothing before its end, so there is one limit, the longer the
    more tokens it may have."""
    tokens = 0.0
    if learned.per_token is not None and learned.tokens is not None:
        tokens = min(float(output_tokens), 2 * learned.tokens) + OVERHEAD_TOKENS
        usual = learned.per_token * tokens
        fair = patience = min(ceilings.total, max(ANSWER_FLOOR, SLACK * usual))
        # With too little time for two, cutting a call that is not late would waste it.
        share = total if usual > share else share
    else:
        patience = min(ceilings.total, ceilings.first_byte + output_tokens / SLOWEST_MODEL)
        fair = BLAMED * patience
    if others:
        total = min(patience, share)
    return AttemptTimeouts(total, total, total, total, fair, tokens=tokens, tenant=tenant)


class TimeLearner:
    """The times of one model, learned in constant memory: for one tenant, or for all of them. Instants are monotonic
    seconds.

    A wait that was cut counts as if it had ended there. So limits that have become too short, because a model has
    become slower, grow again by themselves once more than one call in twenty is cut.
    """

    __slots__ = (
        "_answered",
        "_answers",
        "_first",
        "_known",
        "_others",
        "_pace",
        "_per_token",
        "_silence",
        "_tokens",
        "_until",
    )

    def __init__(self, others: TimeLearner | None = None) -> None:
        """`others`: that of all tenants, which learns whatever this one learns, and is believed where this one does
        not know enough."""
        self._others = others
        self._first = DecayingQuantile()
        self._silence = DecayingQuantile()
        self._per_token = DecayingQuantile()
        # Counts and rates in thousands: the histogram is made for 0.001 to 3600.
        self._tokens = DecayingQuantile()
        self._pace = DecayingQuantile()
        self._known = UNKNOWN
        self._until = 0.0
        #: (seconds, tokens) of whole answers that the quantiles do not hold yet: they matter only when those are
        #: read.
        self._answers: list[tuple[float, int]] = []
        #: The time of the last of them.
        self._answered = 0.0

    def record_stream(self, now: float, watch: StreamWatch) -> None:
        """Learns from a stream that ended, however it did."""
        if self._others is not None:
            self._others.record_stream(now, watch)
        if watch.first is not None:
            self._first.add(now, watch.first)
            self._silence.add(now, watch.silence)
            if watch.pace is not None:
                self._pace.add(now, watch.pace / 1000)
        elif watch.timed_out:
            self._first.add(now, watch.quiet)

    def record_answer(self, now: float, seconds: float, tokens: int) -> None:
        """Learns from a whole answer: its seconds and output tokens."""
        answer = (seconds, tokens)
        self._answers.append(answer)
        self._answered = now
        others = self._others
        if others is not None:
            others._answers.append(answer)
            others._answered = now

    def record_timeout(self, now: float, timeouts: AttemptTimeouts) -> None:
        """Learns from a whole answer that did not come within its timeout."""
        if self._others is not None:
            self._others.record_timeout(now, timeouts)
        if timeouts.tokens > 0:
            self._per_token.add(now, timeouts.total / timeouts.tokens)

    def learned_times(self, now: float) -> LearnedTimes:
        """Returns what is learned, at most REFRESH old."""
        if now >= self._until:
            self._until = now + REFRESH
            if self._answers:
                per_token = [seconds / (output + OVERHEAD_TOKENS) for seconds, output in self._answers]
                self._per_token.add(self._answered, *per_token)
                self._tokens.add(self._answered, *[output / 1000 for _, output in self._answers])
                self._answers.clear()
            tokens, pace = _believed(self._tokens, now, 0.95), _believed(self._pace, now, 0.5)
            self._known = LearnedTimes(
                _believed(self._first, now, 0.95),
                _believed(self._silence, now, 0.95),
                _believed(self._per_token, now, 0.95),
                None if tokens is None else 1000 * tokens,
                None if pace is None else 1000 * pace,
            )
            if self._others is not None:
                self._known = self._known.completed(self._others.learned_times(now))
        return self._known


def _believed(quantile: DecayingQuantile, now: float, q: float) -> float | None:
    return quantile.quantile(q) if quantile.samples(now) >= SAMPLES else None


class StreamWatch:
    """A stream's waits: how long its next bytes may take, and what it teaches. Times are monotonic seconds."""

    __slots__ = (
        "_any_bytes",
        "_bytes",
        "_deadline",
        "_timeouts",
        "_waited",
        "_window",
        "finishing",
        "first",
        "quiet",
        "silence",
        "timed_out",
        "trickles",
    )

    def __init__(self, timeouts: AttemptTimeouts, now: float) -> None:
        self._timeouts = timeouts
        self._deadline = now + timeouts.total
        self._any_bytes = False
        # Bytes after the first content, and seconds waited for them; and both when the window began.
        self._bytes, self._waited = 0, 0.0
        self._window = (0, 0.0)
        #: Seconds waited since the last content.
        self.quiet = 0.0
        #: Seconds to the first content; None: none came.
        self.first: float | None = None
        #: The longest wait after it, seconds.
        self.silence = 0.0
        #: The finish reason has come.
        self.finishing = False
        #: It has become too slow to be worth waiting for.
        self.trickles = False
        #: The last wait was in vain.
        self.timed_out = False

    def patience(self, now: float) -> float:
        """Returns how many seconds the next bytes may take; 0 or less: none."""
        timeouts = self._timeouts
        if self.finishing:
            wait = min(timeouts.silence, LAST_WORDS)
        elif self.first is not None:
            wait = min(timeouts.silence, timeouts.content - self.quiet)
        else:
            wait = timeouts.first_content - self.quiet
            if self._any_bytes:
                ceiling = max(timeouts.content, timeouts.first_content) - self.quiet
                wait = min(max(wait, timeouts.silence), ceiling)
        return min(wait, self._deadline - now)

    def record_head(self, seconds: float) -> None:
        """Counts the wait for the answer's head, in seconds."""
        self.quiet += seconds

    def record_bytes(self, seconds: float, size: int, *, content: bool) -> None:
        """Counts `size` bytes and the wait for them. `content`: text or a tool call was among them."""
        self._any_bytes = True
        self.quiet += seconds
        if self.first is not None:
            self.silence = max(self.silence, seconds)
            self._bytes += size
            self._waited += seconds
            self._judge()
        elif content:
            self.first = self.quiet
        if content:
            self.quiet = 0.0

    def record_silence(self, seconds: float) -> None:
        """Counts a wait in vain, in seconds."""
        self.timed_out = True
        self.quiet += seconds
        if self.first is not None:
            self.silence = max(self.silence, seconds)

    def _judge(self) -> None:
        size, waited = self._bytes - self._window[0], self._waited - self._window[1]
        if waited >= TRICKLE_WINDOW:
            self.trickles = size < self._timeouts.pace * waited
            self._window = (self._bytes, self._waited)

    @property
    def at_fault(self) -> bool:
        """Returns True if the provider had a fair time: a caller in a hurry must not open its circuit for
        everybody."""
        fair = self._timeouts.fair
        return self.quiet >= (fair if self.first is None else min(fair, self._timeouts.silence))

    @property
    def pace(self) -> float | None:
        """Returns bytes a second after the first content; None where it was too short to tell."""
        return self._bytes / self._waited if self._waited >= SHORTEST_PACE else None
