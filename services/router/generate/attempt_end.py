"""The end of a provider attempt as one value, and the port of those that learn from it. Pure.

Every attempt that begins ends once: with the answer, with a failure, or abandoned. Whatever learns from attempts
observes that end, and nothing else in the loop knows who does.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from libs.tracing import Span
from libs.types import PROVIDER_FAULTS, ErrorClass
from services.router.health.view import CallTicket
from services.router.ledger.usage_record import UsageRecord
from services.router.planning.candidate import Candidate
from services.router.request.features import Unsupported
from services.router.request.generation import Generation, ProviderFailure

#: After these a stated wait is meant for everybody; after others for the request, or for the account.
_WAITS = PROVIDER_FAULTS | {ErrorClass.RATE_LIMITED}


class FailureEvidence(Struct, frozen=True):
    """Evidence that a failed attempt gives about its target. `error_class`: the fault to hold against it, CANCELLED:
    none. `retry_after`: seconds for which nobody should call it, None: not stated. `explicit`: by a status or a code,
    not by words alone. `of_kind`: it speaks of all requests of this kind, not of one that was asked differently or
    had no fair time. `unsupported`: the feature that the model refuses, None: not known. `quota_back`: seconds until
    a spent quota is whole again, None: not stated."""

    error_class: ErrorClass
    retry_after: float | None = None
    explicit: bool = True
    of_kind: bool = True
    unsupported: Unsupported | None = None
    quota_back: float | None = None


#: Of an attempt that its caller abandoned.
NO_EVIDENCE = FailureEvidence(ErrorClass.CANCELLED, of_kind=False)


class AttemptEnd(Struct, frozen=True):
    """The end of an attempt: `record` says how it ended and what it used; `ticket` is health's leave to call.
    `evidence` None: it gave the answer."""

    generation: Generation
    candidate: Candidate
    record: UsageRecord
    ticket: CallTicket
    span: Span | None
    evidence: FailureEvidence | None


class AttemptObserver(Protocol):
    """Learns from attempts."""

    def attempt_ended(self, end: AttemptEnd) -> None:
        """Takes in the end of an attempt; called once for each, and must neither wait nor keep `end.record`."""
        ...


class Observers(Struct, frozen=True):
    """The observers of all attempts, in their order: of what each used (`accounts`), and of what it shows of its
    target (`learners`)."""

    accounts: tuple[AttemptObserver, ...]
    learners: tuple[AttemptObserver, ...]


def evidence_of(failure: ProviderFailure, *, prefilled: bool) -> FailureEvidence:
    """Returns the evidence of a failure. `prefilled`: the attempt did not ask what the caller asks, so what it found
    wrong is not held against the caller's kind of request."""
    blamed = failure.error_class if failure.at_fault else ErrorClass.CANCELLED
    if blamed is ErrorClass.RATE_LIMITED and not failure.retry_same:
        # The request alone is larger than the account's rate: others are not.
        blamed = ErrorClass.CONTEXT_TOO_LONG
    wait = failure.retry_after if blamed in _WAITS and failure.explicit else None
    quota_back = failure.retry_after if blamed is ErrorClass.QUOTA_EXHAUSTED else None
    of_kind = failure.at_fault and not prefilled
    return FailureEvidence(blamed, wait, failure.explicit, of_kind, failure.unsupported, quota_back)
