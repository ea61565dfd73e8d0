"""Simulated minutes of failing and half-failing providers, on a clock that the simulation turns."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from libs.resilience.retry_budget import RetryBudget

#: As the router's settings have it.
RATIO, FLOOR = 0.08, 50
#: The most attempts of a request.
ATTEMPTS = 4

#: (instant, chance, number of the attempt) → seconds that it takes, and whether it answers.
Provider = Callable[[float, Random, int], tuple[float, bool]]


@dataclass
class Simulation:
    """Requests at a rate, one attempt after another until one answers or the budget has no more."""

    provider: Provider
    seed: int
    budget: RetryBudget = field(default_factory=lambda: RetryBudget(RATIO, FLOOR))
    #: (when it began, how many attempts it had, how it ended: "answered", "failed" or "refused" by the budget).
    requests: list[tuple[float, int, str]] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)

    def run(self, rate: float, begin: float, end: float, *, evenly: bool = False) -> None:
        """From `begin` to `end` seconds; what has begun is seen to its end."""
        rng = Random(self.seed)
        order = itertools.count()
        events: list[tuple[float, int, Callable[[float], None]]] = []

        def at(when: float, act: Callable[[float], None]) -> None:
            heapq.heappush(events, (when, next(order), act))

        def attempt(now: float, began: float, number: int) -> None:
            self.attempts.append(now)
            seconds, answers = self.provider(now, rng, number)
            at(now + seconds, lambda later: ended(later, began, number, answers))

        def ended(now: float, began: float, number: int, answers: bool) -> None:
            if answers:
                self.budget.record_answer(now)
                if number > 1:
                    self.budget.refund(now)
                self.requests.append((began, number, "answered"))
                return
            if number > 1:
                self.budget.record_vain()
            if number == ATTEMPTS:
                self.requests.append((began, number, "failed"))
            elif self.budget.try_spend(now):
                attempt(now, began, number + 1)
            else:
                self.requests.append((began, number, "refused"))

        def arrive(now: float) -> None:
            self.budget.record_request(now)
            attempt(now, now, 1)

        now = begin
        while now < end:
            at(now, arrive)
            now += 1 / rate if evenly else rng.expovariate(rate)
        while events:
            now, _, act = heapq.heappop(events)
            act(now)


def down(seconds: float, since: float = 0.0) -> Provider:
    """All providers fail from an instant on, after so many seconds; calls that run then break off. Before, they
    answer within two seconds."""

    def provider(now: float, rng: Random, _: int) -> tuple[float, bool]:
        answer = rng.uniform(0.2, 2.0)
        if now >= since:
            return seconds, False
        return (answer, True) if now + answer < since else (since - now, False)

    return provider


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("rate", [2, 4, 10, 30])
@pytest.mark.parametrize("seconds", [0.01, 0.3, 1.0, 1.5, 2.5, 4.0, 10.0])
def test_regression_in_a_total_outage_providers_see_at_most_a_tenth_more_at_any_rate(
    seconds: float, rate: int, warm: bool
) -> None:
    """Named regression: four requests a second had 1.217 attempts each. Whether the providers fail at once or after
    ten seconds, from the start or after a minute of answers, evenly or at random: at most 1.1 over the minute."""
    each = attempts_in_an_outage(seconds, rate, 0, warm=warm, evenly=True)
    assert each <= 1.1, f"{each:.3f} attempts a request"
    # At random a minute may be busier than the one before or after; over several that evens out.
    by_chance = [attempts_in_an_outage(seconds, rate, seed, warm=warm, evenly=False) for seed in range(6)]
    assert sum(by_chance) / len(by_chance) <= 1.1, by_chance
    assert max(by_chance) <= 1.12, by_chance


def attempts_in_an_outage(seconds: float, rate: int, seed: int, *, warm: bool, evenly: bool) -> float:
    """For each request of its first minute."""
    begin = 60.0 if warm else 0.0
    s = Simulation(down(seconds, begin), seed)
    s.run(rate, 0.0, begin + 60.0, evenly=evenly)
    asked = sum(began >= begin for began, _, _ in s.requests)
    return sum(begin <= at < begin + 60.0 for at in s.attempts) / asked


def some_fail(first: float, others: float, answer: float, failure: float) -> Provider:
    """So many of the first attempts and of the others fail by chance; answers take up to twice `answer` seconds."""

    def provider(_: float, rng: Random, number: int) -> tuple[float, bool]:
        fails = rng.random() < (first if number == 1 else others)
        return (failure, False) if fails else (rng.uniform(0.2, 2) * answer, True)

    return provider


def refused(provider: Provider, rate: float, begin: float) -> float:
    """The share of requests, of those that come after `begin`, that the budget keeps from another attempt."""
    ends: list[str] = []
    for seed in range(4):
        s = Simulation(provider, seed)
        s.run(rate, 0.0, 240.0)
        ends += [how for began, _, how in s.requests if began >= begin]
    return ends.count("refused") / len(ends)


@pytest.mark.parametrize("failure", [0.02, 3.0])
@pytest.mark.parametrize("answer", [0.3, 3.0, 12.0])
@pytest.mark.parametrize("rate", [0.2, 1, 2, 4, 10])
def test_where_a_third_of_a_providers_calls_fail_failover_goes_on(
    rate: float, answer: float, failure: float
) -> None:
    """Long answers or short, while fallbacks are under way and have given nothing back yet: hardly a request ends for
    want of budget; most of these in the first seconds of a process that has not been answered yet."""
    provider = some_fail(1 / 3, 0.03, answer, failure)
    assert refused(provider, rate, 0.0) <= 0.02
    assert refused(provider, rate, 2 * answer + 10.0) <= 0.01


@pytest.mark.parametrize("answer", [0.3, 3.0, 12.0])
def test_where_a_third_of_all_calls_fail_failover_goes_on(answer: float) -> None:
    """Every third fallback, too: at two requests a second that is what the floor is for."""
    provider = some_fail(1 / 3, 1 / 3, answer, 0.02)
    assert refused(provider, 2, 2 * answer + 10.0) <= 0.01


@pytest.mark.parametrize("rate", [0.1, 2, 10])
def test_where_the_first_provider_is_down_every_request_fails_over(rate: float) -> None:
    """From the first second of a new process on: each needs an extra attempt, and gets it."""

    def provider(_: float, rng: Random, number: int) -> tuple[float, bool]:
        return (0.02, False) if number == 1 else (rng.uniform(0.2, 3.0), True)

    s = Simulation(provider, 1)
    s.run(rate, 0.0, 120.0)
    assert {how for _, _, how in s.requests} == {"answered"}


def test_after_an_outage_the_first_answer_brings_failover_back() -> None:
    """At once, however much was in vain before."""
    s = Simulation(down(0.02), 1)
    s.run(4, 0.0, 60.0)
    assert not s.budget.answering(60.5)
    before = s.budget.available(60.5)
    s.budget.record_answer(60.5)
    assert s.budget.answering(60.5)
    assert s.budget.available(60.5) >= before + FLOOR / 2


def test_a_quiet_hour_is_no_outage() -> None:
    """Silence is counted from the first request that nobody answers, not from the last answer."""
    budget = RetryBudget(RATIO, FLOOR)
    budget.record_request(0.0)
    budget.record_answer(1.0)
    for _ in range(20):
        budget.record_request(3600.0)
    assert budget.answering(3602.0)
    assert not budget.answering(3603.0)
    budget.record_sign()
    assert budget.answering(3603.0)
