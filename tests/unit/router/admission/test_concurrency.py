"""A provider at the limit that it shows by its latency, in front of the other limits and inside a Generate."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import ValidationError

from libs.errors import ResourceExhausted
from libs.limits import Amounts, Scope, scope_of
from libs.selection import Degradation
from libs.telemetry import Metrics
from libs.types import ErrorClass, FinishReason, Priority, Usage
from services.router.admission.admission import Claim
from services.router.admission.amounts import AdmissionDenied
from services.router.admission.concurrency import PROVIDERS, Concurrency, ConcurrencyMode, ConcurrentAdmission
from services.router.admission.queued_admission import QueueBounds, QueuedAdmission
from services.router.generate.events import Result
from services.router.request.generation import Completion
from services.router.settings import RouterSettings
from tests.support.clock import ManualClock
from tests.support.routing import (
    TENANT,
    FakeAdmission,
    Harness,
    ScriptedProviders,
    catalog,
    denial,
    fail,
    generation,
    model,
)

A, B = model("a/m"), model("b/m")
ONE = Amounts(1, 10, 10)


def scopes(provider: str) -> tuple[Scope, ...]:
    return tuple(map(scope_of, ("tenant:acme", f"provider:{provider}", f"model:{provider}/m")))


def claim(provider: str = "a", patience: float = 0.0) -> Claim:
    return Claim(scopes(provider), ONE, "acme", Priority.STANDARD, patience)


@dataclass
class Bed:
    """Provider a takes two calls at once; b, as many as begin."""

    mode: ConcurrencyMode = ConcurrencyMode.ENFORCE
    limits: FakeAdmission = field(default_factory=FakeAdmission)

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.concurrency = Concurrency(self.mode, 1, 100, self.clock, self.metrics)
        self.concurrency.of("a").limit = 2
        self.admission = ConcurrentAdmission(self.limits, self.concurrency)

    def value(self, name: str, provider: str = "a") -> float | None:
        return self.metrics.registry.get_sample_value(f"pointsman_concurrency_{name}", {"provider": provider})


async def test_a_full_provider_is_refused_before_the_limiter_is_asked() -> None:
    """As by a limit of concurrency that comes back soon; others are not concerned."""
    bed = Bed()
    held = [bed.admission.try_admit(scopes("a"), ONE) for _ in range(2)]
    assert all(held)
    assert bed.admission.try_admit(scopes("a"), ONE) is None
    with pytest.raises(AdmissionDenied) as caught:
        await bed.admission.admit(claim(), 1.0)
    (violation,) = caught.value.violations
    assert (violation.subject, violation.limit, violation.used) == ("provider:a concurrency", 2, 2)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 1.0
    assert bed.limits.claims == []
    assert bed.admission.try_admit(scopes("b"), ONE) is not None
    assert (bed.value("limit"), bed.value("in_flight"), bed.value("refused_total")) == (2, 2, 1)


async def test_a_slot_is_free_again_however_its_call_ended() -> None:
    """Settled, cancelled, refused by another limit, or given up while the limiter was asked."""
    bed = Bed()
    for end in ("settle", "cancel"):
        permit = await bed.admission.admit(claim(), 1.0)
        assert bed.concurrency.of("a").in_flight == 1
        permit.settle(ONE) if end == "settle" else permit.cancel()
        assert bed.concurrency.of("a").in_flight == 0
    bed.limits.denied["tenant:acme"] = denial("tenant:acme")
    with pytest.raises(AdmissionDenied):
        await bed.admission.admit(claim(), 1.0)
    assert bed.admission.try_admit(scopes("a"), ONE) is None
    assert bed.concurrency.of("a").in_flight == 0


class Slow(FakeAdmission):
    """Answers a moment later."""

    async def admit(self, claim: Claim, timeout: float) -> Any:
        await asyncio.sleep(0)
        return await super().admit(claim, timeout)


async def test_those_who_ask_the_limiter_together_do_not_pass_together() -> None:
    """Two slots, five that ask: what the limiter gave the other three, they give back."""

    bed = Bed(limits=Slow(leased=False))
    found = await asyncio.gather(
        *(bed.admission.admit(claim(), 1.0) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(f, AdmissionDenied) for f in found) == 3
    assert bed.concurrency.of("a").in_flight == bed.limits.open == 2


async def test_regression_who_still_asks_the_limiter_keeps_nobody_out() -> None:
    """Ten that their tenant's limit will refuse took all slots while it was asked: the eleventh was refused for calls
    that never ran."""

    bed = Bed(limits=Slow(leased=False, denied={"tenant:acme": denial("tenant:acme")}))
    asking = [asyncio.create_task(bed.admission.admit(claim(), 1.0)) for _ in range(10)]
    await asyncio.sleep(0)
    other = Claim((scope_of("tenant:other"), scope_of("provider:a")), ONE, "other", Priority.STANDARD)
    await bed.admission.admit(other, 1.0)
    refused = await asyncio.gather(*asking, return_exceptions=True)
    assert {v.subject for r in refused if isinstance(r, AdmissionDenied) for v in r.violations} == {
        "tenant:acme requests minute"
    }
    assert bed.concurrency.of("a").in_flight == 1


async def test_counted_only_nobody_is_refused() -> None:
    """Each that would have been is counted once."""
    bed = Bed(ConcurrencyMode.COUNT)
    held = [bed.admission.try_admit(scopes("a"), ONE) for _ in range(3)]
    assert all(held)
    await bed.admission.admit(claim(), 1.0)
    assert (bed.value("in_flight"), bed.value("refused_total")) == (4, 2)


async def test_who_asks_again_from_the_queue_is_not_counted_again() -> None:
    """It was counted when it came."""
    bed = Bed()
    held = [bed.admission.try_admit(scopes("a"), ONE) for _ in range(2)]
    assert all(held)
    for patience in (0.0, 5.0, 5.0):
        with pytest.raises(AdmissionDenied):
            await bed.admission.admit(claim(patience=patience), 1.0)
    assert bed.value("refused_total") == 1


def test_providers_that_left_the_catalog_are_forgotten() -> None:
    """Unless calls still run there."""
    bed = Bed()
    bed.concurrency.of("a").begin()
    for i in range(2 * PROVIDERS):
        bed.concurrency.of(f"p{i}")
    assert len(bed.concurrency._limits) <= PROVIDERS
    assert bed.concurrency.of("a").in_flight == 1


@dataclass
class Gated(ScriptedProviders):
    """Answers when the test lets it."""

    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def complete(self, *args: Any) -> Completion:
        self.calls.append(args[1].id)
        await self.open.wait()
        return Completion("a", FinishReason.STOP, Usage(10, 5))


def routed(
    bed: Bed, *tiers: Any, ladder: tuple[str, ...] = (), script: dict[str, list[object]] | None = None
) -> Harness:
    """A Generate behind the bed's limits and a queue."""
    queue = QueuedAdmission(bed.admission, bed.clock, bed.metrics, QueueBounds())
    return Harness(
        catalog(*tiers, degradation=ladder),
        script or {"a/m": ["a"], "b/m": ["b"]},
        clock=bed.clock,
        admission=bed.limits,
        queue=queue,
        concurrency=bed.concurrency,
    )


async def whole(h: Harness, **more: object) -> Result:
    return await h.generate.whole(h.catalog, TENANT, generation(**more))  # type: ignore[arg-type]


async def test_a_full_provider_is_passed_over() -> None:
    """The next candidate serves, undegraded; with none left the caller is told of the limit and when to come back."""
    bed = Bed()
    bed.concurrency.of("a").limit = 0
    assert (await whole(routed(bed, [A], [B]))).text == "b"
    h = routed(bed, [A])
    with pytest.raises(ResourceExhausted) as caught:
        await whole(h)
    assert [v.subject for v in caught.value.violations] == ["provider:a concurrency"]
    assert caught.value.retry_after is not None
    h.assert_settled()


async def test_where_the_ladder_says_queue_a_full_provider_is_waited_for() -> None:
    """The end of a call there wakes who waits, in turn."""
    bed = Bed()
    h = routed(bed, [A], ladder=("queue",))
    gated = Gated(h.script, h.clock)
    h.providers = gated
    h.generate._calls._providers = gated
    tasks = [asyncio.create_task(whole(h, request_id=f"r{i}")) for i in range(5)]
    async with asyncio.timeout(5):
        while (
            bed.metrics.registry.get_sample_value("pointsman_queue_waiting", {"class": "standard"}) != 3
            or len(gated.calls) != 2
        ):
            await asyncio.sleep(0)
    assert bed.value("in_flight") == 2
    gated.open.set()
    results = [await task for task in tasks]
    assert sum(r.degradation is Degradation.QUEUED for r in results) == 3
    assert (bed.value("in_flight"), len(gated.calls)) == (0, 5)


@pytest.mark.parametrize(
    ("error_class", "shrinks"),
    [
        (ErrorClass.OVERLOADED, True),
        (ErrorClass.RATE_LIMITED, True),
        (ErrorClass.TIMEOUT, True),
        (ErrorClass.SERVER_ERROR, False),
        (ErrorClass.AUTHENTICATION, False),
    ],
)
async def test_refusals_by_an_overloaded_provider_shrink_its_limit(
    error_class: ErrorClass, shrinks: bool
) -> None:
    """Other failures say nothing about how much it takes; nothing stays in flight."""
    bed = Bed()
    before = bed.concurrency.of("a").limit = 20
    h = routed(bed, [A], [B], script={"a/m": [fail(error_class, retry_same=True)], "b/m": ["b"]})
    await whole(h)
    assert (bed.concurrency.of("a").limit < before) == shrinks
    assert (bed.value("in_flight"), bed.value("in_flight", "b")) == (0, 0)
    h.assert_settled()


async def test_a_request_that_is_larger_than_the_whole_rate_shrinks_nothing() -> None:
    """It is refused with the class of a rate limit, but however often it comes, others are not."""
    bed = Bed()
    before = bed.concurrency.of("a").limit = 20
    h = routed(bed, [A], [B], script={"a/m": [fail(ErrorClass.RATE_LIMITED)], "b/m": ["b"]})
    await whole(h)
    assert bed.concurrency.of("a").limit == before


async def test_a_timeout_that_the_caller_is_to_blame_for_shrinks_nothing() -> None:
    """Its deadline was too short for anybody."""
    bed = Bed()
    before = bed.concurrency.of("a").limit = 20
    hurried = fail(ErrorClass.TIMEOUT)
    hurried.at_fault = False
    await whole(routed(bed, [A], [B], script={"a/m": [hurried], "b/m": ["b"]}))
    assert bed.concurrency.of("a").limit == before


async def test_answers_teach_the_limit() -> None:
    """Of calls that used all of it and stayed as fast it grows."""
    bed = Bed(ConcurrencyMode.COUNT)
    found = bed.concurrency.of("a")
    before = found.limit = int(found._estimate)
    h = routed(bed, [A])
    # The rest of the limit is in use by calls that do not end.
    for _ in range(before - 1):
        found.begin()
    for i in range(60):
        await whole(h, request_id=f"r{i}")
    assert found.limit > before


async def test_off_nothing_is_counted() -> None:
    """As if it were not there."""
    bed = Bed(ConcurrencyMode.OFF)
    h = routed(bed, [A], script={"a/m": [fail(ErrorClass.OVERLOADED), "a"]})
    queue = QueuedAdmission(bed.limits, bed.clock, bed.metrics, QueueBounds())
    h = replace(h, queue=queue)
    for i in range(3):
        with_failure = whole(h, request_id=f"r{i}")
        await asyncio.gather(with_failure, return_exceptions=True)
    assert (bed.value("in_flight"), bed.concurrency.of("a").limit) == (0, 2)


def settings(**values: Any) -> RouterSettings:
    """The router's, with these."""
    return RouterSettings(**values)


def test_a_ceiling_below_the_floor_is_a_fault_of_the_settings() -> None:
    """Named as one."""
    with pytest.raises(ValidationError, match="adaptive_concurrency_ceiling"):
        settings(adaptive_concurrency_floor=10, adaptive_concurrency_ceiling=9)
    assert settings(adaptive_concurrency_floor=50).adaptive_concurrency == "count"
