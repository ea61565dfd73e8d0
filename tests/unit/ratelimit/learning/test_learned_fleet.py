"""A fleet of routers and a provider that says nothing but yes or no, in virtual time: what each learns by itself adds
up to a limit that follows the provider's. More seeds are in tests/hostile."""

from __future__ import annotations

from itertools import accumulate
from random import Random

import pytest

from bench.learned_limits import LIMITS, OUTAGES, measure_limit, measure_outage
from libs.limits import LimitKey, Period, Scope, ScopeKind, Unit, scope_of
from services.ratelimit.domain.limits import Limit
from services.ratelimit.learning.learned import Observation, Observed, Source, apply, merge
from services.router.providers.learned_limits import LimitLearner

pytestmark = pytest.mark.simulation

TARGET = "a/m"
SCOPE = f"model:{TARGET}"
KEY = LimitKey(scope_of(SCOPE), Unit.REQUESTS, Period.MINUTE)
#: As learned_report.REPEAT_EVERY.
REPORT_EVERY = 10.0


class Bucket:
    """Refilled steadily; `limit` a minute, `burst` at once."""

    def __init__(self, limit: float, burst: float) -> None:
        self.limit, self.burst = limit, burst
        self.level, self.at = 0.0, 0.0

    def take(self, now: float) -> bool:
        self.level = min(self.burst, self.level + (now - self.at) * self.limit / 60)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


def report(learner: LimitLearner, now: float) -> Observed:
    """Returns all that a router has learned."""
    limits = tuple(
        Observation(KEY, e.value, e.confidence, Source(e.source), e.seen, e.observations)
        for e in learner.learned(now)
    )
    return Observed(limits, {Scope(ScopeKind.MODEL, t): n for t, n in learner.loads(now).items()}, now)


@pytest.mark.parametrize("routers", [1, 3, 6])
@pytest.mark.parametrize("seed", [1])
def test_a_fleet_follows_a_provider_that_changes_its_limit(routers: int, seed: int) -> None:
    """Demand of three times the limit, unevenly spread: in the second half of each hour at most one call in twenty
    is refused and at least six tenths of the limit are used, before and after it falls to a third and rises again."""
    rng = Random(seed)
    learners = [LimitLearner() for _ in range(routers)]
    weights = list(accumulate(rng.uniform(0.5, 2) for _ in learners))
    provider, shared = Bucket(900, 45), Bucket(1e9, 1e9)
    holding: dict[LimitKey, Limit] = {}
    now, next_report = 0.0, REPORT_EVERY
    for limit in (900, 300, 1200):
        provider.limit, provider.burst = limit, limit / 20
        start, passed, refused = now, 0, 0
        while now < start + 3600:
            now += rng.expovariate(3 * limit / 60)
            if now >= next_report:
                next_report = now + REPORT_EVERY
                reports = {f"r{n}": report(learner, now) for n, learner in enumerate(learners)}
                holding = apply({}, merge(reports, now), holding, share=0.95, enforce=True)
                held = holding.get(KEY)
                shared.limit = held.limit if held else 1e9
                shared.burst = max(1.0, shared.limit / 20)
            if not shared.take(now):
                continue
            (learner,) = rng.choices(learners, cum_weights=weights)
            if provider.take(now):
                learner.answered(now, TARGET)
                passed += now > start + 1800
            else:
                learner.refused(now, TARGET, ())
                refused += now > start + 1800
        assert refused <= 0.05 * passed, f"seed {seed}"
        assert passed >= 0.6 * limit * 30, f"seed {seed}"


#: Outages that let calls through and refuse others with 429, as a limit does: a rate may be tried for a while.
LIKE_LIMITS = [name for name in OUTAGES if "half of the calls" in name and "429" in name] + [
    "flapping 429, 5 to 20 seconds",
    "flapping 429, 10 to 60 seconds",
]
NO_LIMITS = [name for name in OUTAGES if name not in LIKE_LIMITS]


@pytest.mark.parametrize("routers", [1, 3])
@pytest.mark.parametrize("seeds", [1])
@pytest.mark.parametrize("name", NO_LIMITS)
def test_an_outage_is_not_taken_for_a_limit(name: str, seeds: int, routers: int) -> None:
    """Whatever fails, and however: nothing is enforced at a provider that has no limit."""
    figures = measure_outage(OUTAGES[name], routers, rate=5.0, seeds=seeds)
    assert (figures.false, figures.lost) == (0, 0.0)


@pytest.mark.parametrize("routers", [1, 3])
@pytest.mark.parametrize("seeds", [2])
@pytest.mark.parametrize("name", LIKE_LIMITS)
def test_an_outage_that_looks_like_a_limit_is_found_out(name: str, seeds: int, routers: int) -> None:
    """The rate is enforced for at most a third of the time, and costs at most 15 % of the calls."""
    figures = measure_outage(OUTAGES[name], routers, rate=5.0, seeds=seeds)
    assert figures.held <= 0.33
    assert figures.lost <= 0.15


@pytest.mark.parametrize("routers", [1, 3])
@pytest.mark.parametrize("seeds", [1])
@pytest.mark.parametrize("name", LIMITS)
def test_a_true_limit_is_learned_and_kept(name: str, seeds: int, routers: int) -> None:
    """Within four minutes. At a demand of three times the limit at most one call in ten is then refused (two of three
    are, unlearned) and three quarters of it are used, after it fell to a half and rose to twice as much too."""
    limit, window, headers = LIMITS[name]
    figures = measure_limit(limit, window, headers, routers, seeds=seeds)
    assert figures.unlearned == 0
    assert figures.longest_seconds <= 240.0
    assert figures.refused <= 0.1
    assert figures.used >= 0.75
