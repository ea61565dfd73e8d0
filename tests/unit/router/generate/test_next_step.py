"""The decision of the failover loop by itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

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
        Failed(second, ErrorClass.INVALID_REQUEST, "", 1000.5, prefilled=True),
    ]
    plan = Plan((first, second), (), Policy("default", ((Weighted("a/m"),),)))
    envelope = Envelope(1060.0, limits.get("attempts", 4), limits.get("money"))
    return next_step(plan, failed, envelope, 1001.0, refused=refused)


def test_regression_a_refused_prefill_keeps_to_the_envelope_like_any_other_attempt() -> None:
    """Named regression: with two attempts allowed, three were made. Money and refusals of limits count too."""
    assert isinstance(after_a_refused_prefill(attempts=3, money=20), Try)
    assert after_a_refused_prefill(attempts=2) == GiveUp("ATTEMPTS_EXHAUSTED")
    assert after_a_refused_prefill(money=19) == GiveUp("PROVIDERS_FAILED")
    assert after_a_refused_prefill(refused=["a/m", "b/m"]) == GiveUp("PROVIDERS_FAILED")
    # Who showed content and was cut may go on.
    step = after_a_refused_prefill(refused=["b/m"])
    assert isinstance(step, Wait)
    assert step.candidate.target == "a/m"


def asked_after_a_refusal(
    error_class: ErrorClass, *, unexplained: bool = False, attempts: int = 9, first: int = 0
) -> list[str]:
    """The targets that are asked one by one after one of four, where each refuses with a class."""
    known = catalog(*[[model(target)] for target in ("a/m", "b/m", "b/n", "c/m")])
    candidates = tuple(candidate_of(known, m, 10) for m in known.models.values())
    plan = Plan(candidates, (), Policy("default", ((Weighted("a/m"),),)))
    failed = [Failed(candidates[first], error_class, "", 1000.0, unexplained=unexplained)]
    asked = []
    while isinstance(step := next_step(plan, failed, Envelope(1060.0, attempts), 1001.0), Try):
        assert not step.spends_retry
        asked.append(step.candidate.target)
        failed.append(Failed(step.candidate, error_class, "", 1001.0, unexplained=unexplained))
    return asked


def test_after_a_refusal_without_a_reason_one_other_provider_is_asked() -> None:
    """Nothing shows that it would refuse too; where it does, without a reason or with one, the request is wrong."""
    invalid = ErrorClass.INVALID_REQUEST
    assert asked_after_a_refusal(invalid, unexplained=True) == ["b/m"]
    assert asked_after_a_refusal(invalid, unexplained=True, attempts=1) == []
    # The same provider's other model comes last.
    assert asked_after_a_refusal(invalid, unexplained=True, first=1) == ["a/m"]
    known = catalog(*[[model(target)] for target in ("b/m", "b/n", "c/m")])
    candidates = tuple(candidate_of(known, m, 10) for m in known.models.values())
    plan = Plan(candidates, (), Policy("default", ((Weighted("b/m"),),)))
    bare = Failed(candidates[0], invalid, "", 1000.0, unexplained=True)
    step = next_step(plan, [bare], Envelope(1060.0, 4), 1001.0)
    assert isinstance(step, Try)
    assert step.candidate.target == "c/m"
    explained = Failed(step.candidate, invalid, "", 1001.0)
    assert next_step(plan, [bare, explained], Envelope(1060.0, 4), 1002.0) == GiveUp("INVALID_REQUEST")


def test_what_one_model_does_not_support_is_asked_of_all_others() -> None:
    """Named regression: the first refusal ended the request. A request that is wrong ends it still."""
    assert asked_after_a_refusal(ErrorClass.UNSUPPORTED_HERE) == ["b/m", "b/n", "c/m"]
    assert asked_after_a_refusal(ErrorClass.INVALID_REQUEST) == []


@pytest.mark.parametrize(
    ("least", "asked"),
    [
        # Not stated: whoever has more than the catalog says of the first.
        (None, ["d/large"]),
        # A deployment that holds less than the catalog says: its equals may hold it, and smaller ones.
        (9_000, ["b/same", "c/small", "d/large"]),
        (100_000, ["b/same", "d/large"]),
        (100_001, ["d/large"]),
        (400_000, []),
        # Bytes, which say nothing about windows.
        (0, ["b/same", "c/small", "d/large"]),
    ],
)
def test_who_may_hold_a_prompt_is_asked_by_what_was_said_of_it(least: int | None, asked: list[str]) -> None:
    """Not by the catalog's figure alone. Each then refuses without a figure, which rules out its like."""
    models = {"a/m": 100_000, "b/same": 100_000, "c/small": 10_000, "d/large": 200_000}
    known = catalog(*[[model(target, window=window)] for target, window in models.items()])
    candidates = tuple(candidate_of(known, m, 10) for m in known.models.values())
    plan = Plan(candidates, (), Policy("default", ((Weighted("a/m"),),)))
    first = Failed(candidates[0], ErrorClass.CONTEXT_TOO_LONG, "", 1000.0, least_window=least)
    found = []
    failed = [first]
    while isinstance(step := next_step(plan, failed, Envelope(1060.0, 9), 1001.0), Try):
        found.append(step.candidate.target)
        failed.append(Failed(step.candidate, ErrorClass.CONTEXT_TOO_LONG, "", 1001.0, least_window=0))
    assert found == asked


IN_PLACE = Envelope(1060.0, 4, None, 5.0, wait_in_place=True)
BOTH = Plan(
    tuple(candidate_of(catalog([A], [B]), m, 10) for m in (A, B)),
    (),
    Policy("default", ((Weighted("a/m"),),)),
)


def test_a_short_retry_after_is_waited_for_in_place_where_the_policy_says_so() -> None:
    """Once, and by the policy alone; without it the next is asked at once."""
    first = Failed(BOTH.candidates[0], ErrorClass.RATE_LIMITED, "", 1000.0, retry_after=2.0, retry_same=True)
    step = next_step(BOTH, [first], IN_PLACE, 1000.0)
    assert isinstance(step, Wait)
    assert step.candidate is BOTH.candidates[0]
    assert 2.0 < step.seconds <= 2.0 + RETURN_MARGIN + SAME_PROVIDER_BACKOFF
    default = next_step(BOTH, [first], Envelope(1060.0, 4), 1000.0)
    assert isinstance(default, Try)
    assert default.candidate is BOTH.candidates[1]
    again = next_step(BOTH, [first, first], IN_PLACE, 1003.0)
    assert isinstance(again, Try)
    assert again.candidate is BOTH.candidates[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"retry_after": 5.1},
        {"retry_after": None},
        {"retry_same": False},
        {"error_class": ErrorClass.SERVER_ERROR, "retry_same": False},
        {"retry_after": 2.0, "now": 1058.5},
    ],
)
def test_what_is_not_waited_for_in_place(changes: dict[str, Any]) -> None:
    """Longer than the policy allows, not stated, of no use, of another class, or beyond the deadline: the next is
    asked."""
    now = changes.pop("now", 1000.0)
    fields: dict[str, Any] = {"error_class": ErrorClass.RATE_LIMITED, "retry_after": 2.0, "retry_same": True}
    first = Failed(BOTH.candidates[0], message="", ended=now, **(fields | changes))
    step = next_step(BOTH, [first], IN_PLACE, now)
    assert isinstance(step, Try)
    assert step.candidate is BOTH.candidates[1]


def test_a_refused_prefill_in_either_words_is_asked_anew_without_it() -> None:
    """ "This model does not support assistant message prefill" is no refusal of the request."""
    committed = Failed(BOTH.candidates[0], ErrorClass.STALLED, "", 1000.0, committed=True)
    refused = Failed(
        BOTH.candidates[1], ErrorClass.UNSUPPORTED_HERE, "", 1000.5, committed=True, prefilled=True
    )
    step = next_step(BOTH, [committed, refused], Envelope(1060.0, 4), 1001.0)
    assert step == Try(BOTH.candidates[1], spends_retry=False, prefill=False)


def test_a_models_own_quota_leaves_its_providers_other_models() -> None:
    """One that says when it comes back is the model's; one that does not is the account's."""
    known = catalog([model("a/m")], [model("a/n")])
    m, n = (candidate_of(known, x, 10) for x in known.models.values())
    plan = Plan((m, n), (), Policy("default", ((Weighted("a/m"),),)))
    days = Failed(m, ErrorClass.QUOTA_EXHAUSTED, "", 1000.0, retry_after=9000.0)
    step = next_step(plan, [days], Envelope(1060.0, 4), 1001.0)
    assert isinstance(step, Try)
    assert step.candidate is n
    spent = Failed(m, ErrorClass.QUOTA_EXHAUSTED, "", 1000.0)
    assert next_step(plan, [spent], Envelope(1060.0, 4), 1001.0) == GiveUp("PROVIDERS_FAILED")
