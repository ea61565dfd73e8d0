"""Is an outage taken for a limit, and how fast is a true limit learned and kept?

python -m bench.learned_limits [--seeds 10] [--routers 1 3] [--rate 5]

A seeded simulation in virtual time of a fleet of routers with their own learners, the limiter's merging, and one
provider. What is learned reaches the limiter every two seconds and holds five seconds later, as in the services.
Callers keep on whatever happens: no breaker and no cooldown helps the learner.

Outages, 40 minutes each, at a provider that has no limit:

  false       runs in which a limit was enforced although the provider has none
  held        share of the time in which one was
  lost        calls that it held back and that the provider would have answered, of all

Limits, 60 minutes each, at a demand of three times the limit:

  learned     seconds until a limit is enforced, the median and the longest of the runs
  refused     calls that the provider refused, of those sent, once it was learned and five minutes more
  used        calls that it let through then, of what its limit allows
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from statistics import median

from libs.limits import LimitKey, Period, Scope, ScopeKind, Unit
from services.ratelimit.domain.limits import Limit
from services.ratelimit.learning.learned import Observation, Observed, Source, apply, merge
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.limit_evidence import ObservedLimit

TARGET = "a/m"
SCOPE = Scope(ScopeKind.MODEL, TARGET)
#: How often routers report and how often the limiter reads what all of them reported, seconds.
REPORT_EVERY, REFRESH_EVERY = 2.0, 5.0
#: A call's answer takes so long, seconds; a refusal, a tenth of it.
ANSWER = (0.2, 2.0)
TENANTS = 20


@dataclass(frozen=True, slots=True)
class Reply:
    """A provider's reply to a call: `status` 200, 429, or another that teaches nothing."""

    status: int
    headers: tuple[ObservedLimit, ...] = ()


#: A provider: what it does with a call at that time by that tenant.
Provider = Callable[[float, int], Reply]
GOOD, REFUSED, BROKEN = Reply(200), Reply(429), Reply(503)


class Bucket:
    """A token bucket: `limit` a minute, `burst` at once, full at first."""

    def __init__(self, limit: float, burst: float) -> None:
        self.limit, self.burst = limit, burst
        self.level, self.at = burst, 0.0

    def take(self, now: float) -> bool:
        """Returns True if the call may pass, and takes it from the bucket."""
        self.level = min(self.burst, self.level + (now - self.at) * self.limit / 60)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


@dataclass
class Fleet:
    """Routers in front of one provider, with the limiter's word on what holds."""

    provider: Provider
    routers: int
    rate: float
    seed: int
    held: dict[LimitKey, Limit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.learners = [LimitLearner() for _ in range(self.routers)]
        self.weights = list(itertools.accumulate(self.rng.uniform(0.5, 2) for _ in self.learners))
        self.buckets: dict[LimitKey, Bucket] = {}
        self.reports: dict[str, Observed] = {}
        self.sent = self.let_through = self.refused = self.held_back = self.lost = 0
        self.first_held: float | None = None
        self.seconds_held = 0.0

    def forget_counts(self) -> None:
        """Counts anew."""
        self.sent = self.let_through = self.refused = self.held_back = self.lost = 0

    def run(self, start: float, end: float) -> None:
        """Lets time pass."""
        numbers = itertools.count()
        events: list[tuple[float, int, Callable[[float], None]]] = []

        def at(time: float, what: Callable[[float], None]) -> None:
            heapq.heappush(events, (time, next(numbers), what))

        def call(now: float) -> None:
            at(now + self.rng.expovariate(self.rate), call)
            (learner,) = self.rng.choices(self.learners, cum_weights=self.weights)
            reply = self._send(now)
            if reply is None:
                return
            wait = self.rng.uniform(*ANSWER) / (1 if reply.status == 200 else 10)
            if reply.status == 200:
                at(now + wait, lambda now: self._answered(learner, now, reply))
            elif reply.status == 429:
                at(now + wait, lambda now: learner.refused(now, TARGET, reply.headers))

        def report(now: float) -> None:
            at(now + REPORT_EVERY, report)
            self.reports = {f"r{n}": _observed(learner, now) for n, learner in enumerate(self.learners)}

        def refresh(now: float) -> None:
            at(now + REFRESH_EVERY, refresh)
            self._refresh(now)

        for first, what in ((0.0, call), (REPORT_EVERY, report), (REFRESH_EVERY, refresh)):
            at(start + first, what)
        while events[0][0] < end:
            now, _, act = heapq.heappop(events)
            act(now)

    def _send(self, now: float) -> Reply | None:
        """Returns the provider's reply. None: a learned limit held the call back."""
        self.sent += 1
        tenant = self.rng.randrange(TENANTS)
        if not all(bucket.take(now) for bucket in self.buckets.values()):
            self.held_back += 1
            # A provider with a limit of its own counts whatever it is asked.
            self.lost += not isinstance(self.provider, Limited) and self.provider(now, tenant).status == 200
            return None
        reply = self.provider(now, tenant)
        self.let_through += reply.status == 200
        self.refused += reply.status == 429
        return reply

    def _answered(self, learner: LimitLearner, now: float, reply: Reply) -> None:
        if learner.answered(now, TARGET):
            learner.observed(now, TARGET, reply.headers)

    def _refresh(self, now: float) -> None:
        self.held = apply({}, merge(self.reports, now), self.held, share=0.95, enforce=True)
        for key, limit in self.held.items():
            bucket = self.buckets.get(key)
            if bucket is None:
                bucket = self.buckets[key] = Bucket(limit.limit, limit.burst or limit.limit)
                bucket.at = now
            bucket.limit, bucket.burst = limit.limit, limit.burst or limit.limit
        self.buckets = {key: bucket for key, bucket in self.buckets.items() if key in self.held}
        if self.held:
            self.seconds_held += REFRESH_EVERY
            self.first_held = now if self.first_held is None else self.first_held


def _observed(learner: LimitLearner, now: float) -> Observed:
    limits = tuple(
        Observation(
            LimitKey(SCOPE, Unit(e.unit), Period(e.period)),
            e.value,
            e.confidence,
            Source(e.source),
            e.seen,
            e.observations,
        )
        for e in learner.learned(now)
    )
    return Observed(
        limits, {Scope(ScopeKind.MODEL, target): calls for target, calls in learner.loads(now).items()}, now
    )


def _phases(rng: Random, shortest: float, longest: float) -> Iterator[tuple[float, float]]:
    """Yields the beginnings and ends of bad phases, each as long on average as the good one before it."""
    now = 300.0
    while True:
        end = now + rng.uniform(shortest, longest)
        yield now, end
        now = end + rng.uniform(shortest, longest)


def outage(reply: Reply, seconds: float, share: float = 1.0) -> Callable[[Random], Provider]:
    """An outage of that length after five minutes: that share of the calls gets that reply."""

    def make(rng: Random) -> Provider:
        start = 300.0 + rng.uniform(0, 60)
        return lambda now, _: reply if start <= now < start + seconds and rng.random() < share else GOOD

    return make


def flapping(reply: Reply, shortest: float, longest: float) -> Callable[[Random], Provider]:
    """Good and bad phases of such lengths in turn."""

    def make(rng: Random) -> Provider:
        phases = itertools.takewhile(lambda phase: phase[0] < 2400, _phases(rng, shortest, longest))
        # Good and bad ones take turns: within a bad one, an odd number of them has begun or ended.
        changes = [instant for phase in phases for instant in phase]
        return lambda now, _: reply if bisect_right(changes, now) % 2 else GOOD

    return make


def one_tenant(rng: Random) -> Provider:
    """All calls of one tenant in twenty are refused, for a reason of its own."""
    return lambda now, tenant: REFUSED if now > 300 and tenant == 0 else GOOD


def stating(limit: int, seconds: float) -> Callable[[Random], Provider]:
    """A provider that states a limit far above the demand, and refuses everything for a while without a word."""
    stated = (ObservedLimit(Unit.REQUESTS, limit, limit - 1, 0.1, Period.MINUTE),)

    def make(rng: Random) -> Provider:
        start = 300.0 + rng.uniform(0, 60)
        return lambda now, _: REFUSED if start <= now < start + seconds else Reply(200, stated)

    return make


OUTAGES: dict[str, Callable[[Random], Provider]] = {
    "5xx, all calls, 10 minutes": outage(BROKEN, 600),
    "5xx, half of the calls, 10 minutes": outage(BROKEN, 600, 0.5),
    "timeouts, all calls, 10 minutes": outage(Reply(0), 600),
    "429 without headers, all calls, 1 minute": outage(REFUSED, 60),
    "429 without headers, all calls, 10 minutes": outage(REFUSED, 600),
    "429 without headers, half of the calls, 10 minutes": outage(REFUSED, 600, 0.5),
    "429 without headers, 1 call in 20, 10 minutes": outage(REFUSED, 600, 0.05),
    "429 without headers beside stated limits, 10 minutes": stating(10_000, 600),
    "flapping 5xx, 5 to 60 seconds": flapping(BROKEN, 5, 60),
    "flapping 429, 5 to 20 seconds": flapping(REFUSED, 5, 20),
    "flapping 429, 10 to 60 seconds": flapping(REFUSED, 10, 60),
    "flapping 429, 1 to 5 minutes": flapping(REFUSED, 60, 300),
    "429 for one tenant in twenty, always": one_tenant,
}


class Limited:
    """A provider with a limit of `limit` calls a minute: a bucket or windows of a minute; with headers or not."""

    def __init__(self, limit: int, *, window: bool, headers: bool) -> None:
        self.limit, self.window, self.headers = limit, window, headers
        self._bucket = Bucket(limit, limit / 20)
        self._minute, self._used = 0, 0

    def change(self, limit: int) -> None:
        """From now on it is another."""
        self.limit = limit
        self._bucket.limit, self._bucket.burst = limit, limit / 20

    def __call__(self, now: float, tenant: int) -> Reply:
        if self.window:
            if int(now / 60) != self._minute:
                self._minute, self._used = int(now / 60), 0
            good = self._used < self.limit
            self._used += good
            left = self.limit - self._used
        else:
            good = self._bucket.take(now)
            left = int(self._bucket.level)
        stated = (ObservedLimit(Unit.REQUESTS, self.limit, left, 1.0, Period.MINUTE),) if self.headers else ()
        return Reply(200 if good else 429, stated)


LIMITS = {
    "stated in headers": (300, False, True),
    "unstated, refilled steadily": (300, False, False),
    "unstated, windows of a minute": (300, True, False),
    "unstated, small (60 a minute)": (60, False, False),
}


@dataclass(frozen=True)
class OutageFigures:
    """Of all runs of one outage; shares 0 to 1."""

    runs: int
    false: int
    held: float
    lost: float


@dataclass(frozen=True)
class LimitFigures:
    """Of all runs with one limit; `unlearned`: runs in which it never was."""

    runs: int
    unlearned: int
    median_seconds: float
    longest_seconds: float
    refused: float
    used: float


def measure_outage(
    make: Callable[[Random], Provider], routers: int, rate: float, seeds: int
) -> OutageFigures:
    """Runs one outage with each seed."""
    fleets = [Fleet(make(Random(1000 + seed)), routers, rate, seed) for seed in range(seeds)]
    for fleet in fleets:
        fleet.run(0.0, 2400.0)
    return OutageFigures(
        seeds,
        sum(fleet.first_held is not None and not _stated_only(fleet) for fleet in fleets),
        sum(fleet.seconds_held for fleet in fleets if not _stated_only(fleet)) / (2400.0 * seeds),
        sum(fleet.lost for fleet in fleets) / sum(fleet.sent for fleet in fleets),
    )


def _stated_only(fleet: Fleet) -> bool:
    """Returns True if what was held back is nothing: the limit that the provider stated is far above the demand."""
    return not fleet.held_back


def measure_limit(limit: int, window: bool, headers: bool, routers: int, seeds: int) -> LimitFigures:
    """Runs one limit with each seed, at three times its demand; it falls to a half after 20 minutes, and is twice as
    high after 40."""
    learned, sent, let_through, refused, allowed = [], 0, 0, 0, 0.0
    for seed in range(seeds):
        provider = Limited(limit, window=window, headers=headers)
        fleet = Fleet(provider, routers, 3 * limit / 60, seed)
        for number, now_limit in enumerate((limit, limit // 2, limit * 2)):
            provider.change(now_limit)
            fleet.rate = 3 * now_limit / 60
            start = number * 1200.0
            fleet.run(start, start + 600.0)
            if number == 0 and fleet.first_held is not None:
                learned.append(fleet.first_held)
            fleet.forget_counts()
            fleet.run(start + 600.0, start + 1200.0)
            sent += fleet.let_through + fleet.refused
            let_through += fleet.let_through
            refused += fleet.refused
            allowed += now_limit * 10
    return LimitFigures(
        seeds,
        seeds - len(learned),
        median(learned) if learned else float("inf"),
        max(learned, default=float("inf")),
        refused / sent,
        let_through / allowed,
    )


def main() -> None:
    """Prints a table, and the same as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.learned_limits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--routers", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--rate", type=float, default=5.0, help="calls a second in the outages")
    options = parser.parse_args()
    figures: dict[str, dict[str, object]] = {}
    for routers in options.routers:
        print(f"\n{routers} router(s), {options.seeds} seeds{'':28} false   held   lost", flush=True)
        for name, make in OUTAGES.items():
            o = measure_outage(make, routers, options.rate, options.seeds)
            print(f"  {name:54s} {o.false:3d}  {o.held:6.1%} {o.lost:6.2%}", flush=True)
            figures[f"{name}, {routers} router(s)"] = vars(o)
        print(f"\n{'':45} learned (median, longest)  refused   used", flush=True)
        for name, (limit, window, headers) in LIMITS.items():
            f = measure_limit(limit, window, headers, routers, options.seeds)
            print(
                f"  {name:54s} {f.median_seconds:5.0f} s {f.longest_seconds:5.0f} s  {f.refused:6.1%} {f.used:6.1%}"
                + (f"  never in {f.unlearned}" if f.unlearned else ""),
                flush=True,
            )
            figures[f"{name}, {routers} router(s)"] = vars(f)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
