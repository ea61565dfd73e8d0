"""Timeouts of an attempt: learned per model and tenant (`time_learner`), between floors and the catalog's ceilings.
Pure.

What a tenant asks decides how long its answers take, so where its own calls have taught enough, others' say nothing
about them: many quick ones would cut its slow ones. Until then everybody's are the best guess.

Learned times shorten a wait only while another candidate could answer instead; for the last one the catalog's limits
and the caller's deadline stand alone. Of the time left an attempt leaves to those candidates what they usually need.
A model that is not known yet is taken to be OTHERS times slower than all models together; where none is known, the
catalog's limits stand alone.

Bytes are a sign of life, content is a sign of work. Before the first content a silent provider gets the learned
limit; pings and thoughts extend that, a silence at a time, up to the ceiling: the catalog's `first_byte`, or for a
model that reasons the attempt's whole time. After it every silence has its limit, and content must come again within
the same ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from libs.catalog.model import Timeouts

#: Limits are this many times the learned 95th percentile. On public measurements of 400 pairs of models and regions
#: (thefastest.ai, 2024) four times the 95th percentile of earlier calls, at least 2 s, cut one call of 523, and that
#: one took 9.8 s.
SLACK = 4.0
#: No learned limit is shorter, seconds: to the first content and between bytes; and of a whole answer.
SILENCE_FLOOR = 2.0
ANSWER_FLOOR = 2.0
#: A model that is not known yet may be this many times slower than all models together.
OTHERS = 4.0
#: Seconds a token of the prompt adds to the first content at a slow provider, on top of what is learned.
PROMPT_TOKEN = 0.0005
#: A whole answer costs as much time as its tokens and this many more.
OVERHEAD_TOKENS = 50
#: Until anything is learned a whole answer may take so many seconds, and its tokens come at so many a second: slower
#: than the usual of hosted models (artificialanalysis.ai lists few below 40), and most answers are shorter than their
#: limit.
UNKNOWN_OVERHEAD, UNKNOWN_MODEL = 5.0, 40.0
#: Of the time left an attempt may use this share while others could still answer.
SHARE = 0.6
#: And it leaves them so many times what they usually take.
ROOM = 2.0
#: A stream is cut below this share of the model's usual pace, judged over so many seconds of waiting. More than so
#: many bytes a second (about three tokens) is never too slow.
TRICKLE, TRICKLE_WINDOW, TRICKLE_CAP = 0.05, 5.0, 1000.0
#: The same while a model's pace is not known: a token every two seconds.
UNKNOWN_PACE = 125.0
#: Seconds of waiting after the first content below which a stream teaches nothing of its pace.
SHORTEST_PACE = 0.2
#: While nothing is learned, a wait of this share of the catalog's limit is long enough to blame the provider for.
BLAMED = 0.25
#: A timer counts from the begin of the event loop's turn, so a wait may end so many seconds early.
EARLY = 0.02
#: After the finish reason only usage and terminator are to come, seconds.
LAST_WORDS = 2.0


class LearnedTimes(Struct, frozen=True):
    """The learned times of a model. Seconds, 95th percentiles unless stated otherwise; None: too few samples."""

    first_content: float | None = None
    #: The longest silence of a stream after its first content.
    silence: float | None = None
    #: Of a whole answer, for each output token and OVERHEAD_TOKENS.
    per_token: float | None = None
    #: Output tokens of an answer, and the share of the most that it was allowed.
    tokens: float | None = None
    share: float | None = None
    #: Bytes a second of a stream after its first content, median.
    pace: float | None = None

    def completed(self, other: LearnedTimes) -> LearnedTimes:
        """Returns these times, with the other's where these are not known."""
        return LearnedTimes(
            other.first_content if self.first_content is None else self.first_content,
            other.silence if self.silence is None else self.silence,
            other.per_token if self.per_token is None else self.per_token,
            other.tokens if self.tokens is None else self.tokens,
            other.share if self.share is None else self.share,
            other.pace if self.pace is None else self.pace,
        )

    def slowed(self, factor: float) -> LearnedTimes:
        """Returns the times of a model that is so many times slower."""
        return LearnedTimes(
            None if self.first_content is None else factor * self.first_content,
            None if self.silence is None else factor * self.silence,
            None if self.per_token is None else factor * self.per_token,
            self.tokens,
            self.share,
            None if self.pace is None else self.pace / factor,
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
    #: Nineteen of twenty answers, or first contents of streams, come within so many seconds; None: not known.
    usual: float | None = None


def attempt_timeouts(
    learned: LearnedTimes,
    ceilings: Timeouts,
    remaining: float,
    *,
    needs: Sequence[float | None],
    stream: bool,
    reasons: bool,
    input_tokens: int,
    output_tokens: int,
    tenant: str = "",
) -> AttemptTimeouts:
    """The limits of an attempt with `remaining` seconds to the deadline. `needs`: for each candidate that could still
    answer, the seconds that it usually takes, None: not known. `reasons`: the model may think before it speaks.
    `output_tokens`: the most the answer may have."""
    total = max(0.0, min(ceilings.total, remaining))
    others = bool(needs)
    share = min(total, _share(remaining, needs)) if others else total
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
        pace = UNKNOWN_PACE if learned.pace is None else min(TRICKLE_CAP, TRICKLE * learned.pace)
    content = total if reasons else min(ceilings.first_byte, total)
    usual = learned.first_content
    return AttemptTimeouts(total, min(first, share), silence, content, fair, pace, tenant=tenant, usual=usual)


def _share(remaining: float, needs: Sequence[float | None]) -> float:
    """Returns the seconds of the time left that an attempt may use. Where the usual times of those that could still
    answer need more than the rest, each gets an equal part at least."""
    needed = ROOM * sum([seconds for seconds in needs if seconds is not None])
    return min(SHARE * remaining, max(remaining - needed, remaining / (len(needs) + 1)))


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
    tokens, usual = 0.0, None
    if learned.per_token is not None and learned.tokens is not None:
        expected = max(learned.tokens, (learned.share or 1.0) * output_tokens)
        tokens = min(float(output_tokens), expected) + OVERHEAD_TOKENS
        usual = learned.per_token * tokens
        fair = patience = min(ceilings.total, max(ANSWER_FLOOR, SLACK * usual))
        # With too little time for two, cutting a call that is not late would waste it.
        share = total if usual > share else share
    else:
        patience = min(ceilings.total, UNKNOWN_OVERHEAD + output_tokens / UNKNOWN_MODEL)
        fair = BLAMED * patience
    if others:
        total = min(patience, share)
    return AttemptTimeouts(total, total, total, total, fair, tokens=tokens, tenant=tenant, usual=usual)


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
        return self.quiet >= (fair if self.first is None else min(fair, self._timeouts.silence)) - EARLY

    @property
    def pace(self) -> float | None:
        """Returns bytes a second after the first content; None where it was too short to tell."""
        return self._bytes / self._waited if self._waited >= SHORTEST_PACE else None
