"""How many calls a provider takes at once before they get slower. Pure: time is a parameter (monotonic seconds).

A gradient limiter after Netflix's Gradient2Limit (github.com/Netflix/concurrency-limits; "Performance Under Load",
2018): limit = limit * clamp(tolerance * long / short, 0.5, 1) + sqrt(limit), smoothed, and growing only while it is
nearly used. Here "short" is how long the calls of one round trip took, and "long" how long each is expected to take:
by its model and for its number of output tokens, so that neither longer answers nor a slower model look like
congestion.

As in Envoy's adaptive concurrency filter and BBR (Cardwell et al., ACM Queue 2016), the expectation is learned from
calls while the provider was calm, with few in flight, and where it has not been calm for long it is made so: the
limit is halved for about two round trips, and again as long as that makes calls much faster. A long average over all
calls, as in Gradient2, would take a lasting overload for normal. Refusals by an overloaded provider shrink the limit
as in TCP's congestion avoidance, at most once a round trip.
"""

from __future__ import annotations

import math
from typing import Final

from msgspec import Struct

from services.router.providers.timeouts import OVERHEAD_TOKENS

#: Calls may take this much longer than expected before the limit shrinks; Gradient2's default.
TOLERANCE: Final = 1.5
#: With calls no slower than this nobody waits at the provider, and a limit that is used up doubles.
NO_QUEUE: Final = 1.1
#: How far a limit moves towards its new value in one round trip.
SMOOTHING: Final = 0.5
#: What a refusal leaves of it, and of how many seconds a round trip is while none has been seen.
BACKOFF: Final = 0.8
UNKNOWN_TRIP: Final = 1.0
#: Parts of the limit that must have been used for it to move, and to grow.
USED: Final = 0.5
NEARLY_USED: Final = 0.75
#: No call counts as slower than this many times the expected: one outlier in `SAMPLES` moves nothing.
OUTLIER: Final = 4.0
#: Calls that are judged together, at least.
SAMPLES: Final = 10
#: Weight of the newest call in what is expected, once `1 / NEWEST` have been seen.
NEWEST: Final = 0.02
#: The provider is calm with this part of the limit in flight, or with the floor.
CALM: Final = 1 / 3
#: How long a used provider may not be calm before it is made so, in seconds and in round trips, whichever is longer.
STALE_SECONDS: Final = 60.0
STALE_TRIPS: Final = 40.0
#: For how many round trips a limit stays halved at most.
PROBE_TRIPS: Final = 10.0
#: Calls that half as many in flight make faster by this factor were in a crowd. So may these be: it is halved again.
CROWDED: Final = 0.7
#: As how many calls of a probe what was expected before it counts, unless it was learned in a crowd.
WORTH: Final = 20
#: What is expected of models and lengths of answers: remembered for each provider, at most.
REMEMBERED: Final = 1024


class Bounds(Struct, frozen=True):
    """Calls at once: a provider's limit is never below `floor` nor above `ceiling`, and begins at `initial`."""

    floor: int = 4
    ceiling: int = 1000
    initial: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.floor <= self.initial <= self.ceiling:
            raise ValueError("the bounds of concurrency need 1 <= floor <= initial <= ceiling")


class _Pace:
    """Seconds that each output token (and OVERHEAD_TOKENS, as timeouts count) takes while the provider is calm."""

    __slots__ = ("mean", "probed", "probes", "seen")

    def __init__(self, mean: float = 0.0, seen: int = 0) -> None:
        self.mean = mean
        self.seen = seen
        #: Calls of the present probe, and their sum.
        self.probes = 0
        self.probed = 0.0

    def learn(self, per_token: float) -> None:
        self.seen += 1
        if self.seen > SAMPLES:
            per_token = min(per_token, OUTLIER * self.mean)
        self.mean += max(1 / self.seen, NEWEST) * (per_token - self.mean)

    def probe(self, per_token: float) -> None:
        self.probes += 1
        self.probed += min(per_token, OUTLIER * self.mean)

    def forget_probe(self) -> None:
        self.probes, self.probed = 0, 0.0

    def take_probe(self, worth: int) -> None:
        """What was expected counts as `worth` of the probe's calls."""
        if self.probes:
            self.mean = (self.mean * worth + self.probed) / (worth + self.probes)
            self.forget_probe()


class _Probe(Struct, frozen=True):
    """The limit is `level` until `until`; with twice as many, calls took `ratio` times as long as expected."""

    level: float
    ratio: float
    until: float


class ProviderLimit:
    """One provider's. `limit` is how many calls may run now, `in_flight` how many do."""

    def __init__(self, bounds: Bounds, now: float, *, enforced: bool) -> None:
        """`enforced`: no more calls run than the limit, so halving it makes the provider calm."""
        self._bounds = bounds
        self._enforced = enforced
        self._estimate = float(bounds.initial)
        self.limit = bounds.initial
        self.in_flight = 0
        #: By model, and by model and how long the answer is.
        self._paces: dict[str | tuple[str, int], _Pace] = {}
        #: A round trip in seconds; 0: not known.
        self._trip = 0.0
        self._backed_off = -math.inf
        #: Calls that ran while the provider was calm, and when there were last enough of them.
        self._calm, self._calm_ratios, self._calm_at = 0, 0.0, -math.inf
        self._probe: _Probe | None = None
        #: A probe has said what to expect.
        self._probed = False
        #: The most in flight in this round trip.
        self._peak = 0
        self._restart(now)

    @property
    def full(self) -> bool:
        """Whether no more calls may run."""
        return self.in_flight >= self.limit

    @property
    def retry_after(self) -> float:
        """About when one of those that run will end, seconds."""
        return min(1.0, max(0.1, (self._trip or UNKNOWN_TRIP) / max(1, self.in_flight)))

    def begin(self) -> None:
        """A call begins, whether or not there is room."""
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)

    def end(self) -> None:
        """It has ended, however it did."""
        self.in_flight -= 1

    def succeeded(self, model: str, load: int, seconds: float, tokens: int, now: float) -> None:
        """A call gave its answer of `tokens` output tokens after `seconds`. `load`: calls in flight as it began,
        itself among them."""
        busiest = max(load, self.in_flight)
        calm = busiest <= self._calm_load
        ratio = self._ratio(model, seconds / (max(0, tokens) + OVERHEAD_TOKENS), tokens, learn=calm)
        if ratio is not None:
            self._ratios += ratio
            self._judged += 1
            if calm:
                self._calm += 1
                self._calm_ratios += ratio
        self._calls += 1
        self._loads += busiest
        self._seconds += seconds
        if self._calls >= SAMPLES and (now - self._began) * self._calls >= self._seconds:
            self._round_trip(now)

    def overloaded(self, now: float) -> None:
        """The provider refused a call because it has too many, or did not answer one in time."""
        if now - self._backed_off >= (self._trip or UNKNOWN_TRIP):
            self._backed_off = now
            self._move(self._estimate * BACKOFF)
            self._restart(now)

    @property
    def _calm_load(self) -> float:
        return (
            self._probe.level if self._probe is not None else max(self._bounds.floor, self._estimate * CALM)
        )

    def _ratio(self, model: str, per_token: float, tokens: int, *, learn: bool) -> float | None:
        """How many times longer than expected the call took; None: nothing is expected of the model yet."""
        whole = self._paces.get(model)
        if whole is None or whole.seen < SAMPLES:
            # Something must be expected: until then, whatever comes.
            if whole is None:
                whole = self._remember(model, _Pace())
            whole.learn(per_token)
            return None
        # Answers of about the same length, since what comes before the first token weighs more in a short one.
        key = (model, max(0, tokens).bit_length() // 2)
        pace = self._paces.get(key)
        if pace is None:
            pace = self._remember(key, _Pace(whole.mean, SAMPLES))
        ratio = min(OUTLIER, per_token / pace.mean) if pace.mean > 0 else 1.0
        if learn and self._probe is not None:
            whole.probe(per_token)
            pace.probe(per_token)
        elif learn:
            whole.learn(per_token)
            pace.learn(per_token)
        return ratio

    def _remember(self, key: str | tuple[str, int], pace: _Pace) -> _Pace:
        if len(self._paces) >= REMEMBERED:
            self._paces.clear()
        self._paces[key] = pace
        return pace

    def _round_trip(self, now: float) -> None:
        """Judges the calls of about one round trip."""
        self._trip = self._seconds / self._calls
        if self._probe is not None:
            self._look(self._probe, now)
        else:
            if self._calm >= SAMPLES:
                self._calm, self._calm_ratios, self._calm_at = 0, 0.0, now
            if 2 * self._judged >= self._calls and self._peak >= USED * self._estimate:
                ratio = self._ratios / self._judged
                self._judge(ratio, self._loads / self._calls)
                if self._enforced and now - self._calm_at > max(STALE_SECONDS, STALE_TRIPS * self._trip):
                    self._halve(self._estimate, ratio, now)
        self._restart(now)

    def _judge(self, ratio: float, load: float) -> None:
        limit = self._estimate
        # Where more run than the limit, which is only counted then, they are what is too much.
        gradient = TOLERANCE / max(ratio, 0.01) * max(1.0, load / limit)
        target = limit * min(1.0, max(0.5, gradient)) + math.sqrt(limit)
        if ratio <= NO_QUEUE:
            target = 2 * limit
        if self._peak < NEARLY_USED * limit:
            target = min(target, limit)
        self._move(limit + SMOOTHING * (target - limit))

    def _halve(self, level: float, ratio: float, now: float) -> None:
        """Lets half of `level` run, to see how much faster than `ratio` that is."""
        level = max(self._bounds.floor, level / 2)
        self._probe = _Probe(level, ratio, now + PROBE_TRIPS * self._trip)
        self._calm, self._calm_ratios = 0, 0.0
        for pace in self._paces.values():
            pace.forget_probe()
        self.limit = int(level)

    def _look(self, probe: _Probe, now: float) -> None:
        """What the halved limit has shown, once about all of those calls have ended twice."""
        if self._calm < max(SAMPLES, 2 * probe.level) and now < probe.until:
            return
        self._probe = None
        if self._calm >= SAMPLES:
            ratio = self._calm_ratios / self._calm
            if ratio < CROWDED * probe.ratio and probe.level > self._bounds.floor:
                self._halve(probe.level, ratio, now)
                return
            crowded = ratio < CROWDED
            if crowded:
                # All that was known had been learned in a crowd: twice as many are too many.
                self._estimate = min(self._estimate, 2 * probe.level)
            for pace in self._paces.values():
                pace.mean *= ratio if crowded else 1.0
                pace.take_probe(WORTH if self._probed and not crowded else 0)
            self._probed = True
        self._calm, self._calm_ratios, self._calm_at = 0, 0.0, now
        self._move(self._estimate)

    def _move(self, estimate: float) -> None:
        self._estimate = min(float(self._bounds.ceiling), max(float(self._bounds.floor), estimate))
        self.limit = int(self._estimate if self._probe is None else min(self._probe.level, self._estimate))

    def _restart(self, now: float) -> None:
        """Another round trip begins."""
        self._began = now
        self._calls = self._judged = self._loads = 0
        self._ratios = self._seconds = 0.0
        self._peak = self.in_flight
