"""The decision of the failover loop by itself."""

from __future__ import annotations

from collections.abc import Collection

from libs.catalog.model import Policy, Weighted
from libs.types import ErrorClass
from services.router.generate.next_step import (
    RETURN_MARGIN,
    SAME_PROVIDER_BACKOFF,
    Envelope,
    Failed,
    GiveUp,
    Step,
    Try,
    Wait,
    next_step,
)
from services.router.planning.plan import Plan
from tests.support.routing import candidate_of, catalog, model

A, B = model("a/m"), model("b/m")
ALONE = candidate_of(catalog([A]), A, 10)
PLAN = Plan((ALONE,), (), Policy("default", ((Weighted("a/m"),),)))
LIMITED = Failed(ALONE, ErrorClass.RATE_LIMITED, "", 1000.0, retry_after=2.0, retry_same=True)


def test_who_waits_comes_after_the_circuit_has_closed() -> None:
    """Named regression: a request that waited out a Retry-After to the millisecond found the circuit, which the same
    429 had opened for that time, still open, and failed."""
    for jitter in (0.0, 1.0):
        step = next_step(PLAN, [LIMITED], Envelope(1060.0, 4), 1000.0, jitter=jitter)
        assert isinstance(step, Wait)
        assert 2.0 + RETURN_MARGIN <= step.seconds <= 2.0 + RETURN_MARGIN + SAME_PROVIDER_BACKOFF


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    """Nor one longer than the policy allows."""
    assert isinstance(next_step(PLAN, [LIMITED], Envelope(1002.0, 4), 1000.0), GiveUp)
    assert isinstance(next_step(PLAN, [LIMITED], Envelope(1060.0, 4, None, 1.0), 1000.0), GiveUp)


def after_a_refused_prefill(*, refused: Collection[str] = (), **limits: int) -> Step:
    """The first was cut after content, the second answered 400 to the prefill."""
    known = catalog([A], [B])
    first, second = (candidate_of(known, m, 10) for m in (A, B))
    failed = [
        Failed(first, ErrorClass.STALLED, "", 1000.0, cost_micro_usd=10, committed=True),
        Failed(second, ErrorClass.INVALID_REQUEST, "", 1000.5, committed=True, prefilled=True),
    ]
    plan = Plan((first, second), (), Policy("default", ((Weighted("a/m"),),)))
    envelope = Envelope(1060.0, limits.get("attempts", 4), limits.get("money"))
    return next_step(plan, failed, envelope, 1001.0, refused=refused)


def test_regression_a_refused_prefill_keeps_to_the_envelope_like_any_other_attempt() -> None:
    """Named regression: with two attempts allowed, three were made. Money and refusals of limits count too."""
    assert isinstance(after_a_refused_prefill(attempts=3, money=20), Try)
    assert after_a_refused_prefill(attempts=2) == GiveUp("ATTEMPTS_EXHAUSTED")
    assert after_a_refused_prefill(money=19) == GiveUp("PROVIDERS_FAILED")
    assert after_a_refused_prefill(refused=["b/m"]) == GiveUp("PROVIDERS_FAILED")
