"""Overload in virtual time: the queue in front of a provider that takes so much and no more.

Every figure is computed from a seeded history; a failure names its seed, and the same seed gives the same history.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from libs.limits import Amounts, scope_of
from libs.telemetry import Metrics
from libs.types import Priority
from services.router.admission.admission import Claim
from services.router.admission.amounts import AdmissionDenied
from services.router.admission.queued_admission import QueueBounds, QueuedAdmission
from tests.support.overload import VirtualLimiter
from tests.support.virtual import VirtualClock, run

pytestmark = pytest.mark.simulation

PROVIDER = "provider:p"
#: More of them are in tests/hostile.
SEEDS = [1]
#: Simulated, seconds.
LENGTH = 90.0
#: Of one call, seconds.
SERVICE = 0.5


@dataclass(frozen=True)
class Stream:
    """The requests of one tenant in one class: so many a second at random, each with its deadline in seconds."""

    tenant: str
    priority: Priority
    rate: float
    deadline: float = 20.0


@dataclass
class Outcome:
    """The fate of all requests."""

    latencies: dict[Priority, list[float]] = field(default_factory=lambda: defaultdict(list))
    offered: Counter[tuple[Priority, str]] = field(default_factory=Counter)
    answered: Counter[tuple[Priority, str]] = field(default_factory=Counter)
    refused_after: list[float] = field(default_factory=list)
    #: When calls of a class began.
    began: dict[Priority, list[float]] = field(default_factory=lambda: defaultdict(list))
    without_retry_info: int = 0

    def goodput(self, priority: Priority) -> float:
        """Answered of offered."""
        offered = sum(n for (p, _), n in self.offered.items() if p is priority)
        return sum(n for (p, _), n in self.answered.items() if p is priority) / offered

    def p99(self, priority: Priority) -> float:
        return sorted(self.latencies[priority])[int(0.99 * len(self.latencies[priority]))]

    def fairness(self, priority: Priority) -> float:
        """Jain's index over the tenants' answers (Jain, Chiu, Hawe 1984)."""
        shares = [self.answered[key] for key in self.offered if key[0] is priority]
        return sum(shares) ** 2 / (len(shares) * sum(x * x for x in shares))


def simulate(
    streams: Sequence[Stream],
    seed: int,
    *,
    slots: int = 10**9,
    rate: tuple[float, float] | None = None,
    length: float = LENGTH,
) -> Outcome:
    """Runs `length` seconds of arrivals to the end."""

    async def main(clock: VirtualClock) -> Outcome:
        outcome = Outcome()
        inner = VirtualLimiter(clock, {PROVIDER: slots}, {PROVIDER: rate} if rate else {})
        port = QueuedAdmission(inner, clock, Metrics(), QueueBounds())
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                rng = Random(f"{seed} {stream.tenant} {stream.priority}")
                group.create_task(arrive(stream, length, rng, clock, port, outcome, group))
        assert inner.running.total() == 0
        return outcome

    return run(main)


async def arrive(
    stream: Stream,
    length: float,
    rng: Random,
    clock: VirtualClock,
    port: QueuedAdmission,
    outcome: Outcome,
    group: asyncio.TaskGroup,
) -> None:
    end = clock.monotonic() + length
    while (gap := rng.expovariate(stream.rate)) + clock.monotonic() < end:
        await asyncio.sleep(gap)
        output = rng.randint(50, 250)
        amounts = Amounts(1, rng.randint(50, 150), output, 10)
        group.create_task(call(stream, amounts, SERVICE * output / 150, clock, port, outcome))


async def call(
    stream: Stream,
    amounts: Amounts,
    seconds: float,
    clock: VirtualClock,
    port: QueuedAdmission,
    outcome: Outcome,
) -> None:
    """As Generate does it: at once, else after asking, else after waiting."""
    key = (stream.priority, stream.tenant)
    outcome.offered[key] += 1
    came = clock.monotonic()
    scopes = tuple(map(scope_of, (f"tenant:{stream.tenant}", PROVIDER, "model:p/m")))
    permit = port.try_admit(scopes, amounts)
    for patience in (0.0, stream.deadline - seconds):
        if permit is None:
            asked = Claim(scopes, amounts, stream.tenant, stream.priority, patience)
            try:
                permit = await port.admit(asked, 1.0)
            except AdmissionDenied as denied:
                outcome.without_retry_info += denied.retry_after is None
    if permit is None:
        outcome.refused_after.append(clock.monotonic() - came)
        return
    outcome.began[stream.priority].append(clock.monotonic())
    await asyncio.sleep(seconds)
    permit.settle(amounts)
    outcome.answered[key] += 1
    outcome.latencies[stream.priority].append(clock.monotonic() - came)


def mixed(capacity: float, overload: float, tenants: int = 5) -> list[Stream]:
    """The same load of each class, from the same `tenants`."""
    rate = capacity * overload / len(Priority) / tenants
    return [Stream(f"t{number}", priority, rate) for priority in Priority for number in range(tenants)]


#: What the provider takes, and how many calls a second that is.
KINDS: dict[str, tuple[dict[str, Any], float]] = {
    "concurrency": ({"slots": 16}, 16 / SERVICE),
    "rate": ({"rate": (30.0, 5.0)}, 30.0),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_three_times_overload_leaves_interactive_alone_and_starves_nobody(kind: str, seed: int) -> None:
    """At 3 × overload, a quarter of it interactive, its goodput stays at least 99 % of unloaded and its p99 within
    1.5 ×; every class moves all the time; equal tenants of every class get the same; nine of ten of those who are
    refused learn it at once."""
    limits, capacity = KINDS[kind]
    streams = mixed(capacity, 3.0)
    loaded = simulate(streams, seed, **limits)
    alone = simulate([s for s in streams if s.priority is Priority.INTERACTIVE], seed, **limits)
    top = Priority.INTERACTIVE
    story = f"seed {seed}, {kind}: " + ", ".join(f"{p} {loaded.goodput(p):.1%}" for p in Priority)
    assert loaded.goodput(top) >= 0.99 * alone.goodput(top), story
    assert loaded.p99(top) <= 1.5 * alone.p99(top), f"{story}; {loaded.p99(top)} of {alone.p99(top)}"
    answered = sum(loaded.answered.values())
    assert answered >= 0.95 * capacity * LENGTH, f"{story}; {answered} answered"
    for priority in Priority:
        assert loaded.fairness(priority) >= 0.95, f"{story}; {priority} {loaded.fairness(priority):.3f}"
        gaps = [b - a for a, b in itertools.pairwise(loaded.began[priority])]
        assert max(gaps) <= 22.0, f"{story}; {priority} stood still for {max(gaps):.1f} s"
    assert loaded.without_retry_info == 0, story
    at_once = sum(seconds < 0.1 for seconds in loaded.refused_after)
    assert at_once >= 0.9 * len(loaded.refused_after), f"{story}; {at_once} of {len(loaded.refused_after)}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flood_costs_its_own_tenant_alone(seed: int) -> None:
    """A tenant that sends ten times what the others do gets no more than they do."""
    limits, capacity = KINDS["concurrency"]
    streams = [Stream(f"t{n}", Priority.STANDARD, capacity / 4) for n in range(5)]
    streams.append(Stream("flood", Priority.STANDARD, 10 * capacity / 4))
    outcome = simulate(streams, seed, **limits)
    assert outcome.fairness(Priority.STANDARD) >= 0.95, f"seed {seed}: {outcome.answered}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tenant_below_its_share_hardly_notices_the_others(seed: int) -> None:
    """With five tenants at four times their share, a sixth at half of its own gets everything it asks for."""
    limits, capacity = KINDS["concurrency"]
    streams = [Stream(f"t{n}", Priority.STANDARD, 4 * capacity / 6) for n in range(5)]
    outcome = simulate([*streams, Stream("calm", Priority.STANDARD, capacity / 12)], seed, **limits)
    key = (Priority.STANDARD, "calm")
    assert outcome.answered[key] >= 0.99 * outcome.offered[key], f"seed {seed}: {outcome.answered}"


@pytest.mark.parametrize("seed", SEEDS)
def test_even_a_flood_of_interactive_requests_lets_background_move(seed: int) -> None:
    """At a slow provider and with interactive requests alone at 3 × what it can do, background requests are still
    served every now and then."""
    streams = [Stream(f"t{n}", Priority.INTERACTIVE, 1.0) for n in range(3)]
    streams.append(Stream("slow", Priority.BACKGROUND, 0.5, deadline=60.0))
    outcome = simulate(streams, seed, rate=(1.0, 1.0))
    gaps = [b - a for a, b in itertools.pairwise(outcome.began[Priority.BACKGROUND])]
    assert len(gaps) >= 3, f"seed {seed}: {outcome.answered}"
    assert max(gaps) <= 40.0, f"seed {seed}: {gaps}"


def test_one_seed_gives_one_history() -> None:
    """A seed that failed fails again."""
    limits, capacity = KINDS["rate"]
    first, second = (simulate(mixed(capacity, 3.0), 7, length=20.0, **limits) for _ in range(2))
    assert first.latencies == second.latencies
