"""The rate that a provider lets through, learned from refusals (429) that no stated limit explains. Pure: time is a
parameter (seconds since the Unix epoch).

A refusal shows only that something is too much. The rate falls by a factor and grows by steps, as in TCP's
congestion avoidance (additive increase, multiplicative decrease: Chiu and Jain 1989), and is forgotten when
refusals stay away.

An outage refuses calls too, and no lower rate ends that. Two rules tell it from a limit:

- A limit lets calls through beside those that it refuses. Only a refusal after a call that was let through is
  evidence, at most one in ten seconds, and a rate is trusted from the third within five minutes: an outage that
  refuses everything gives one.
- A limit stops refusing those that keep below it. Each cut is therefore a trial: if at least half the share of
  calls is still refused while no more are sent than the rate allows, the rate explains nothing. It is forgotten,
  and nothing is learned for a while, which doubles each time.
"""

from __future__ import annotations

from enum import Enum

from libs.limits import Period, Unit
from services.router.providers.call_rate import CallRate
from services.router.providers.limit_evidence import LearnedLimit, Source

DECREASE = 0.8
#: The first step up, as a share of the rate that was refused, and how often one is taken, seconds. Each step without
#: a refusal is longer than the last, by this factor, up to a share of the rate: a limit that was raised by much is
#: found in minutes (as in CUBIC, RFC 9438).
INCREASE = 0.05
INCREASE_EVERY = 30.0
STEP_GROWTH = 1.5
LONGEST_STEP = 0.5
#: Refusals closer together than this lower the rate once, seconds.
ONE_REFUSAL = 10.0
#: A rate below this, in calls a minute, teaches nothing.
SLOWEST = 5
REFUSALS_FORGET = 900.0
#: Nothing grows when less than this share of it is used.
USED = 0.8
#: The share of calls that must be refused for a first rate to be learned, and for a trusted one to fall: where it is
#: less, those calls go elsewhere, which costs less than a rate that is wrong. And the share up to which a rate grows.
LEARNING_SHARE = 0.2
CUTTING_SHARE = 0.04
GROWING_SHARE = 0.01
#: Evidence older than this does not add up to a first rate, seconds.
EVIDENCE_WITHIN = 300.0
#: Evidence from which on a rate is trusted: the confidence is then 0.75.
TRUSTED_EVIDENCE = 3
#: For how long a trusted rate may be cut on before it is tried, seconds: most limits that fell are found by then.
DESCENT = 40.0
#: Seconds from the last cut until a fleet keeps to it and a provider's minute in which it was exceeded is over; and
#: those after that from which on and until when a verdict is found.
SETTLE = 60.0
SOONEST = 10.0
SHORTEST_TRIAL = 60.0
LONGEST_TRIAL = 240.0
#: A trial has lasted long enough once so many refusals are expected of a rate that explains nothing.
ENOUGH_EXPECTED = 12.0
#: Share of them from which on it is refuted, if they are so many at least; and the multiple of them that is news.
STILL_REFUSED = 0.5
ENOUGH_REFUSED = 4
MORE_REFUSED = 2.5
#: A smaller share refused before the cut refutes nothing: the growth of other routers explains as much.
REFUTABLE_SHARE = 0.15
#: Calls sent that still count as keeping to the rate, as a factor of it; a demand that was refused is 1 / DECREASE.
OBEYED = 1.2
#: For how long nothing is learned after a failed trial, the first time and at most, seconds.
FIRST_PAUSE = 300.0
LONGEST_PAUSE = 1800.0


class TrialVerdict(Enum):
    """The result of a trial."""

    OPEN = "open"
    HOLDS = "holds"
    #: Calls are refused as before although no more are sent than the rate allows.
    REFUTED = "refuted"
    #: Refused by more than the cut can judge: the limit has fallen, or something else has begun.
    WORSE = "worse"
    #: More are sent than the rate allows, as where it is not enforced: nothing follows.
    IGNORED = "ignored"


class _Trial:
    """The calls since a rate was last cut, against the share that was refused before it was first cut.

    A rate that was trusted before may be cut again for a while before it is tried, since its limit may have fallen.
    The first trial of a rate allows no further cut: it began below what was let through.
    """

    __slots__ = ("_cuts_until", "_refused", "_sent", "_share", "_since")

    def __init__(self, now: float, share: float, *, cuts_until: float) -> None:
        self._share = share
        self._cuts_until = cuts_until
        self.restart(now, share)

    def may_cut(self, now: float) -> bool:
        """Returns True if the rate may be cut again instead of being tried."""
        return now < self._cuts_until and now - self._since >= ONE_REFUSAL

    def restart(self, now: float, share: float) -> None:
        """Begins anew after another cut."""
        self._since, self._share = now, max(self._share, share)
        self._sent = self._refused = 0

    def add(self, now: float, *, refused: bool) -> None:
        """Counts a call, once the fleet keeps to the rate."""
        if now - self._since >= SETTLE:
            self._sent += 1
            self._refused += refused

    def verdict(self, now: float, value: float) -> TrialVerdict:
        """Judges the rate by the calls so far. `value`: the rate, calls a minute."""
        seconds = now - self._since - SETTLE
        if seconds < SOONEST:
            return TrialVerdict.OPEN
        expected = self._share * self._sent
        if self._refused < max(ENOUGH_REFUSED, STILL_REFUSED * expected):
            enough = expected >= ENOUGH_EXPECTED and seconds >= SHORTEST_TRIAL
            return TrialVerdict.HOLDS if enough or seconds >= LONGEST_TRIAL else TrialVerdict.OPEN
        if self._sent > OBEYED * value * seconds / 60:
            return TrialVerdict.IGNORED if seconds >= LONGEST_TRIAL else TrialVerdict.OPEN
        if self._refused > MORE_REFUSED * expected or self._share < REFUTABLE_SHARE:
            return TrialVerdict.WORSE
        return TrialVerdict.REFUTED


class RefusalRate:
    """The rate at which refusals stop, of one model."""

    __slots__ = (
        "_changed",
        "_count",
        "_evidence",
        "_last",
        "_let_through",
        "_pause",
        "_paused_until",
        "_refused",
        "_step",
        "_trial",
        "_value",
        "rate",
    )

    def __init__(self) -> None:
        #: Calls that were let through.
        self.rate = CallRate()
        self._refused = CallRate()
        self._value = self._step = 0.0
        self._count = 0
        #: Instants of the evidence for a rate that is not trusted yet.
        self._evidence: list[float] = []
        self._last = self._changed = float("-inf")
        self._let_through = False
        self._trial: _Trial | None = None
        self._pause, self._paused_until = FIRST_PAUSE, float("-inf")

    def answered(self, now: float) -> None:
        """Counts a call that was let through."""
        self.rate.add(now)
        self._let_through = True
        if not self._value:
            return
        if self._trial is not None:
            self._trial.add(now, refused=False)
            self._judge(self._trial, now)
        elif now - self._last > REFUSALS_FORGET:
            self._forget()
        elif (
            now - self._changed >= INCREASE_EVERY
            and self.rate.per_minute(now) >= USED * self._value
            and self._share(now) <= GROWING_SHARE
        ):
            self._value += max(1.0, self._step)
            self._step = min(self._step * STEP_GROWTH, LONGEST_STEP * self._value)
            self._changed = now

    def refused(self, now: float) -> None:
        """Counts a call that was refused, and nothing said why."""
        self._refused.add(now)
        self._last = now
        evidence, self._let_through = self._let_through, False
        if self._trial is not None:
            self._trial.add(now, refused=True)
            self._judge(self._trial, now)
        if now < self._paused_until or not evidence:
            return
        rate, share = self.rate.per_minute(now), self._share(now)
        if self._trusted and share >= CUTTING_SHARE:
            self._cut_again(rate, share, now)
        elif not self._trusted and share >= LEARNING_SHARE and rate >= SLOWEST:
            self._suspect(rate, share, now)

    def learned(self, target: str, now: float) -> LearnedLimit | None:
        """Returns the rate as a limit. None: none was learned, or too long ago."""
        if not self._value or now - self._last > REFUSALS_FORGET:
            return None
        confidence = 1 - 0.5 ** min(self._count - 1, 20)
        return LearnedLimit(
            target,
            Unit.REQUESTS,
            Period.MINUTE,
            int(self._value),
            confidence,
            Source.REFUSALS,
            self._last,
            self._count,
        )

    @property
    def _trusted(self) -> bool:
        return self._count >= TRUSTED_EVIDENCE

    def _suspect(self, rate: float, share: float, now: float) -> None:
        """Adds evidence for a first rate."""
        if self._evidence and now - self._evidence[-1] < ONE_REFUSAL:
            return
        self._evidence = [at for at in self._evidence if now - at < EVIDENCE_WITHIN] + [now]
        self._count = len(self._evidence)
        self._set(rate, now)
        if self._trusted:
            self._trial = _Trial(now, share, cuts_until=now)

    def _cut_again(self, rate: float, share: float, now: float) -> None:
        """Lowers a trusted rate, which is then tried; not while it is tried."""
        if self._trial is None:
            self._trial = _Trial(now, share, cuts_until=now + DESCENT)
        elif self._trial.may_cut(now):
            self._trial.restart(now, share)
        else:
            return
        self._count += 1
        self._set(min(rate or self._value, self._value), now)

    def _share(self, now: float) -> float:
        """Returns the share of calls that was refused, of the last minute or the last half of it, whichever is more:
        a window that is used up refuses late in its minute, and what has just begun is diluted by what was before."""
        refused, recently = self._refused.count(now), self._refused.recent(now)
        if not refused:
            return 0.0
        whole = refused / (refused + self.rate.count(now))
        return max(whole, recently / (recently + self.rate.recent(now))) if recently else whole

    def _set(self, rate: float, now: float) -> None:
        """Lets the value be a little below the rate that is let through."""
        self._value, self._step = max(float(SLOWEST), DECREASE * rate), INCREASE * rate
        self._changed = now

    def _judge(self, trial: _Trial, now: float) -> None:
        verdict = trial.verdict(now, self._value)
        if verdict is TrialVerdict.REFUTED:
            self._forget()
            self._paused_until = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        elif verdict is TrialVerdict.WORSE:
            self._trial = None
        elif verdict is TrialVerdict.IGNORED:
            trial.restart(now, self._share(now))
            self._set(self.rate.per_minute(now) or self._value, now)
        elif verdict is TrialVerdict.HOLDS:
            self._trial = None
            if now - self._paused_until > LONGEST_PAUSE:
                self._pause = FIRST_PAUSE

    def _forget(self) -> None:
        self._value, self._count = 0.0, 0
        self._evidence = []
        self._trial = None
