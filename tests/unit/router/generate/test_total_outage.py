"""Simulated minutes in which every provider fails: requests through `next_step`, recent calls and the retry budget,
and no circuit that would open. On a clock that the simulation turns."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random

import pytest

from libs.catalog.model import Policy, Weighted
from libs.resilience.retry_budget import RetryBudget
from libs.types import ErrorClass
from services.router.generate.next_step import Envelope, Failed, GiveUp, Outlook, Try, Wait, next_step
from services.router.planning.order import put_last
from services.router.planning.plan import Plan
from services.router.planning.recent_calls import RecentCalls
from tests.support.routing import candidate_of, catalog, model

#: As the router's settings have it, and the shipped catalog.
RATIO, FLOOR, ATTEMPTS = 0.08, 50, 6
POLICY = Policy("default", ((Weighted("a/m"),),))


class Outage:
    """Requests at a rate to providers with two models each, which answer until `since` and fail after `seconds` each
    from then on."""

    def __init__(self, providers: int, seconds: float, since: float, callers: int, seed: int) -> None:
        names = "abcdef"[:providers]
        models = [model(f"{name}/{n}") for n in (1, 2) for name in names]
        found = catalog(models)
        self.candidates = [candidate_of(found, each, 10) for each in models]
        self.seconds, self.since = seconds, since
        self.fault = ErrorClass.TIMEOUT if seconds >= 1.0 else ErrorClass.RATE_LIMITED
        self.callers, self.rng = callers, Random(seed)
        self.recent, self.retries = RecentCalls(), RetryBudget(RATIO, FLOOR)
        self.attempts: list[float] = []
        self.requests: list[float] = []
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []

    def run(self, rate: float, end: float) -> float:
        """Returns the attempts for each request of the minute that begins with the outage."""
        now = 0.0
        while now < end:
            self._at(now, self._arrive)
            now += 1 / rate
        while self._events:
            now, _, act = heapq.heappop(self._events)
            act(now)
        minute = (self.since, self.since + 60.0)
        asked, made = (
            sum(minute[0] <= t < minute[1] for t in times) for times in (self.requests, self.attempts)
        )
        return made / asked

    def _at(self, when: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), act))

    def _arrive(self, now: float) -> None:
        caller = f"{self.rng.randrange(self.callers)}"
        self.requests.append(now)
        self.retries.record_request(now, caller)
        ordered = put_last(self.candidates, lambda m: self.recent.avoids(m, caller, now))
        self._next(now, Plan(tuple(ordered), (), POLICY), [], caller)

    def _next(self, now: float, plan: Plan, failed: list[Failed], caller: str) -> None:
        candidates = plan.candidates
        outlook = Outlook(
            frozenset(c.target for c in candidates if self.recent.avoids(c.model, caller, now)),
            frozenset(c.target for c in candidates if self.recent.repeats(c.model, now)),
            self.retries.may_spend(now, caller),
        )
        step = next_step(plan, failed, Envelope(1e9, ATTEMPTS), now, outlook=outlook)
        if isinstance(step, GiveUp):
            return
        paid = isinstance(step, Wait) or step.spends_retry
        if paid and not self.retries.try_spend(now, caller):
            return
        if failed and not paid:
            self.retries.spend(now, caller)
        if isinstance(step, Wait):
            self._at(now + step.seconds, lambda at: self._call(at, step, plan, failed, caller))
        else:
            self._call(now, step, plan, failed, caller)

    def _call(self, now: float, step: Try | Wait, plan: Plan, failed: list[Failed], caller: str) -> None:
        self.attempts.append(now)
        name, candidate = f"{len(self.attempts)}", step.candidate
        self.recent.begin(name, candidate.model, caller, now, max(2.0, self.seconds), extra=bool(failed))
        # Calls that run when the outage begins break off.
        seconds = self.rng.uniform(0.2, 2.0)
        answers = now + seconds < self.since
        fault = None if answers else self.fault
        if not answers:
            seconds = self.since - now if now < self.since else self.seconds

        def ended(later: float) -> None:
            self.recent.end(name, candidate.model, caller, later, fault)
            if fault is None:
                self.retries.record_answer(later)
                if failed:
                    self.retries.refund(later, caller)
                return
            if failed:
                self.retries.record_wasted(caller)
            more = [*failed, Failed(candidate, fault, "", later)]
            self._next(later, plan, more, caller)

        self._at(now + seconds, ended)


@pytest.mark.parametrize("callers", [1, 20])
@pytest.mark.parametrize("providers", [3, 6])
@pytest.mark.parametrize("rate", [2, 4, 15])
@pytest.mark.parametrize("seconds", [0.01, 2.0, 10.0])
def test_a_total_outage_costs_at_most_a_tenth_more_although_first_calls_are_free(
    seconds: float, rate: int, providers: int, callers: int
) -> None:
    """However many providers there are to find out about, at any rate, whether they fail at once or after ten
    seconds, from the start or after a minute of answers."""
    each = [
        Outage(providers, seconds, since, callers, seed).run(rate, since + 60.0)
        for seed, since in enumerate((0.0, 60.0))
    ]
    assert sum(each) / len(each) <= 1.1, each
    assert max(each) <= 1.12, each
