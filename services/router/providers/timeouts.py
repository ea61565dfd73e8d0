"""How long an attempt may take: learned per model and tenant, between floors and the catalog's ceilings. Pure.

What a tenant asks decides how long its answers take, so where its own calls have taught enough, others' say nothing
about them: many quick ones would cut its slow ones. Until then everybody's are the best guess.

What is learned shortens a wait only while another candidate could answer instead; for the last one the catalog's
limits and the caller's deadline stand alone. Too little seen, and they stand alone too.

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
#: How long quantiles are used before they are computed anew, seconds.
REFRESH = 1.0


class Learned(Struct, frozen=True):
    """A model's habits. Seconds, 95th percentiles unless said otherwise; None: too little seen."""

    first_content: float | None = None
    #: The longest silence of a stream after its first content.
    silence: float | None = None
    #: Of a whole answer, for each output token and OVERHEAD_TOKENS.
    per_token: float | None = None
    #: Output tokens of an answer.
    tokens: float | None = None
    #: Bytes a second of a stream after its first content, median.
    pace: float | None = None

    def completed(self, other: Learned) -> Learned:
        """The same, with the other's word where this has none."""
        return Learned(
            other.first_content if self.first_content is None else self.first_content,
            other.silence if self.silence is None else self.silence,
            other.per_token if self.per_token is None else self.per_token,
            other.tokens if self.tokens is None else self.tokens,
            other.pace if self.pace is None else self.pace,
        )


UNKNOWN = Learned()


class Limits(Struct, frozen=True):
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
    #: Whose call it is.
    tenant: str = ""


def attempt_limits(
    learned: Learned,
    ceilings: Timeouts,
    remaining: float,
    *,
    others: bool,
    stream: bool,
    reasons: bool,
    input_tokens: int,
    output_tokens: int,
    tenant: str = "",
) -> Limits:
    """The limits of an attempt with `remaining` seconds to the deadline. `others`: another candidate could still
    answer. `reasons`: the model may think before it speaks. `output_tokens`: the most the answer may have."""
    total = max(0.0, min(ceilings.total, remaining))
    share = min(total, remaining * SHARE) if others else total
    if not stream:
        return _whole(learned, ceilings, total, share, others, output_tokens, tenant)
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
    return Limits(total, min(first, share), silence, content, fair, pace, tenant=tenant)


def _whole(
    learned: Learned,
    ceilings: Timeouts,
    total: float,
    share: float,
    others: bool,
    output_tokens: int,
    tenant: str,
) -> Limits:
    """An answer shows nothing before it is whole, so there is one limit, the longer the more tokens it may have."""
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
    return Limits(total, total, total, total, fair, tokens=tokens, tenant=tenant)


class Pace:
    """Learns one model's habits, in constant memory.

    A wait that was cut counts as if it had ended there. So limits that have become too short, because a model has
    become slower, grow again by themselves once more than one call in twenty is cut.
    """

    __slots__ = (
        "_answered",
        "_answers",
        "_first",
        "_known",
        "_pace",
        "_per_token",
        "_silence",
        "_tokens",
        "_until",
    )

    def __init__(self) -> None:
        self._first = DecayingQuantile()
        self._silence = DecayingQuantile()
        self._per_token = DecayingQuantile()
        # Counts and rates in thousands: the histogram is made for 0.001 to 3600.
        self._tokens = DecayingQuantile()
        self._pace = DecayingQuantile()
        self._known = UNKNOWN
        self._until = 0.0
        #: (seconds, tokens) of whole answers since quantiles were last looked at: they matter only then.
        self._answers: list[tuple[float, int]] = []
        #: When the last of them came.
        self._answered = 0.0

    def streamed(self, now: float, watch: Watch) -> None:
        """A stream ended, however it did."""
        if watch.first is not None:
            self._first.add(now, watch.first)
            self._silence.add(now, watch.silence)
            if watch.pace is not None:
                self._pace.add(now, watch.pace / 1000)
        elif watch.gave_up:
            self._first.add(now, watch.quiet)

    def answered(self, now: float, seconds: float, tokens: int) -> None:
        """A whole answer came."""
        self._answers.append((seconds, tokens))
        self._answered = now

    def unanswered(self, now: float, limits: Limits) -> None:
        """A whole answer did not come within its limit."""
        if limits.tokens > 0:
            self._per_token.add(now, limits.total / limits.tokens)

    def learned(self, now: float) -> Learned:
        """What is known, at most a second old."""
        if now >= self._until:
            self._until = now + REFRESH
            if self._answers:
                per_token = [seconds / (output + OVERHEAD_TOKENS) for seconds, output in self._answers]
                self._per_token.add(self._answered, *per_token)
                self._tokens.add(self._answered, *[output / 1000 for _, output in self._answers])
                self._answers.clear()
            tokens, pace = _believed(self._tokens, now, 0.95), _believed(self._pace, now, 0.5)
            self._known = Learned(
                _believed(self._first, now, 0.95),
                _believed(self._silence, now, 0.95),
                _believed(self._per_token, now, 0.95),
                None if tokens is None else 1000 * tokens,
                None if pace is None else 1000 * pace,
            )
        return self._known


def _believed(quantile: DecayingQuantile, now: float, q: float) -> float | None:
    return quantile.quantile(q) if quantile.samples(now) >= SAMPLES else None


class Watch:
    """Watches over one stream: how long its next bytes may take, and what it teaches. Times are monotonic seconds."""

    __slots__ = (
        "_bytes",
        "_deadline",
        "_heard",
        "_limits",
        "_waited",
        "_window",
        "finishing",
        "first",
        "gave_up",
        "quiet",
        "silence",
        "trickles",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._deadline = now + limits.total
        self._heard = False
        # Bytes after the first content, and seconds waited for them; and both when the window began.
        self._bytes, self._waited = 0, 0.0
        self._window = (0, 0.0)
        #: Seconds waited since the last content.
        self.quiet = 0.0
        #: Seconds to the first content; None: none came.
        self.first: float | None = None
        #: The longest wait after it, seconds.
        self.silence = 0.0
        #: The model has said why it stopped.
        self.finishing = False
        #: It has become too slow to be worth waiting for.
        self.trickles = False
        #: The last wait was in vain.
        self.gave_up = False

    def patience(self, now: float) -> float:
        """Seconds the next bytes may take; 0 or less: none."""
        limits = self._limits
        if self.finishing:
            wait = min(limits.silence, LAST_WORDS)
        elif self.first is not None:
            wait = min(limits.silence, limits.content - self.quiet)
        else:
            wait = limits.first_content - self.quiet
            if self._heard:
                ceiling = max(limits.content, limits.first_content) - self.quiet
                wait = min(max(wait, limits.silence), ceiling)
        return min(wait, self._deadline - now)

    def waited(self, seconds: float) -> None:
        """The head of the answer came."""
        self.quiet += seconds

    def came(self, seconds: float, size: int, *, content: bool) -> None:
        """`size` bytes came after a wait."""
        self._heard = True
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

    def missed(self, seconds: float) -> None:
        """Nothing came."""
        self.gave_up = True
        self.quiet += seconds
        if self.first is not None:
            self.silence = max(self.silence, seconds)

    def _judge(self) -> None:
        size, waited = self._bytes - self._window[0], self._waited - self._window[1]
        if waited >= TRICKLE_WINDOW:
            self.trickles = size < self._limits.pace * waited
            self._window = (self._bytes, self._waited)

    @property
    def at_fault(self) -> bool:
        """Whether the provider had a fair time: a caller in a hurry must not open its circuit for everybody."""
        fair = self._limits.fair
        return self.quiet >= (fair if self.first is None else min(fair, self._limits.silence))

    @property
    def pace(self) -> float | None:
        """Bytes a second after the first content; None where it was too short to tell."""
        return self._bytes / self._waited if self._waited >= SHORTEST_PACE else None
