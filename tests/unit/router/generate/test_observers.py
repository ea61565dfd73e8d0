"""Observers of the ends of attempts: each learns once of every attempt, in their order, whoever else does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from libs.telemetry import Metrics
from libs.types import ErrorClass
from services.router.generate.attempt_end import AttemptEnd, FailureEvidence, evidence_of
from services.router.generate.meters import Meters
from services.router.generate.observers import LedgerObserver, attempt_observers
from services.router.ledger.usage_record import Outcome
from services.router.planning.recent_calls import RecentCalls
from services.router.request.generation import ProviderFailure
from tests.support.clock import ManualClock
from tests.support.routing import (
    AT_ONCE,
    HANG,
    TENANT,
    FakeHealth,
    Harness,
    MemorySpool,
    catalog,
    fail,
    generation,
    model,
)

A, B = model("a/m"), model("b/m")


@dataclass
class Listener:
    """Satisfies `AttemptObserver`; keeps what it is shown as it was then."""

    harness: Harness | None = None
    ends: list[tuple[str, Outcome, ErrorClass | None]] = field(default_factory=list)
    #: What the ledger held, how many permits were open, and the words on the record, at each end.
    seen: list[tuple[int, int, str]] = field(default_factory=list)

    def attempt_ended(self, end: AttemptEnd) -> None:
        assert self.harness is not None
        blamed = None if end.evidence is None else end.evidence.error_class
        self.ends.append((end.candidate.target, end.record.outcome, blamed))
        spool, admission = self.harness.spool, self.harness.admission
        self.seen.append((len(spool.ended), admission.open, end.record.message))


def watched(script: dict[str, list[object]]) -> tuple[Harness, Listener]:
    listener = Listener()
    listener.harness = Harness(catalog([A], [B]), script, observers=[listener])
    return listener.harness, listener


async def test_each_attempt_ends_once_for_every_observer() -> None:
    """A failure and the answer after it: two ends, the ledger written and the permit settled before either is seen,
    and no provider's words on them."""
    h, listener = watched({"a/m": [fail(ErrorClass.OVERLOADED)], "b/m": ["fine"]})
    await h.generate.whole(h.catalog, TENANT, generation())
    assert listener.ends == [
        ("a/m", Outcome.FAILURE, ErrorClass.OVERLOADED),
        ("b/m", Outcome.SUCCESS, None),
    ]
    assert listener.seen == [(1, 0, ""), (2, 0, "")]
    h.assert_settled()


async def test_an_abandoned_attempt_is_observed_and_proves_nothing() -> None:
    """The caller leaves while the provider is silent: one end, cancelled, without a fault of the target's."""
    h, listener = watched({"a/m": [HANG]})
    task = asyncio.create_task(h.generate.whole(h.catalog, TENANT, generation()))
    while not h.providers.calls:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert listener.ends == [("a/m", Outcome.CANCELLED, ErrorClass.CANCELLED)]
    assert h.set_aside.entries() == []
    h.assert_settled()


async def test_the_loser_of_a_race_is_observed_too() -> None:
    """The hedge answers, the first call is dropped: two ends."""
    h, listener = watched({"a/m": [HANG], "b/m": ["fine"]})
    h.providers.learned = AT_ONCE
    await h.generate.whole(h.catalog, TENANT, generation(hedge=True))
    assert sorted(listener.ends) == [
        ("a/m", Outcome.CANCELLED, ErrorClass.CANCELLED),
        ("b/m", Outcome.SUCCESS, None),
    ]
    h.assert_settled()


def test_the_ledger_is_first() -> None:
    """Nothing that only learns stands between what was used and the ledger."""
    observers = attempt_observers(
        MemorySpool(),
        Meters(Metrics()),
        FakeHealth(),
        Harness(catalog([A]), {}).set_aside,
        RecentCalls(),
        ManualClock(),
    )
    assert isinstance(observers.accounts[0], LedgerObserver)
    everyone = [*observers.accounts, *observers.learners]
    assert len(set(map(type, everyone))) == len(everyone) == 6


@pytest.mark.parametrize(
    ("failure", "prefilled", "evidence"),
    [
        (fail(ErrorClass.OVERLOADED, retry_after=3.0), False, FailureEvidence(ErrorClass.OVERLOADED, 3.0)),
        (
            fail(ErrorClass.RATE_LIMITED, retry_after=3.0, retry_same=True),
            False,
            FailureEvidence(ErrorClass.RATE_LIMITED, 3.0),
        ),
        # The request alone is too large for the rate: nobody else need wait.
        (fail(ErrorClass.RATE_LIMITED, retry_after=3.0), False, FailureEvidence(ErrorClass.CONTEXT_TOO_LONG)),
        (
            fail(ErrorClass.QUOTA_EXHAUSTED, retry_after=3.0),
            False,
            FailureEvidence(ErrorClass.QUOTA_EXHAUSTED, quota_back=3.0),
        ),
        (
            fail(ErrorClass.OVERLOADED, retry_after=3.0, explicit=False),
            False,
            FailureEvidence(ErrorClass.OVERLOADED, explicit=False),
        ),
        (fail(ErrorClass.INVALID_REQUEST), True, FailureEvidence(ErrorClass.INVALID_REQUEST, of_kind=False)),
    ],
)
def test_what_a_failure_proves(failure: ProviderFailure, prefilled: bool, evidence: FailureEvidence) -> None:
    """A stated wait is for everybody only where it is explicit and about the target; a refused prefill says nothing
    of the caller's kind of request."""
    assert evidence_of(failure, prefilled=prefilled) == evidence


def test_a_call_without_fair_time_proves_nothing() -> None:
    """The deadline left it none."""
    failure = fail(ErrorClass.TIMEOUT, retry_after=3.0)
    failure.at_fault = False
    assert evidence_of(failure, prefilled=False) == FailureEvidence(ErrorClass.CANCELLED, of_kind=False)
