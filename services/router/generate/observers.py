"""Observers of the ends of attempts: the ledger, metrics, traces, health, set-aside and recent calls.

`attempt_observers` names them all, those that account before those that learn, and their order. A new one is written
here or beside what it feeds.
"""

from __future__ import annotations

from libs.clock import Clock
from libs.types import ErrorClass, FinishReason
from services.router.generate import spans
from services.router.generate.attempt_end import AttemptEnd, Observers
from services.router.generate.meters import Meters
from services.router.health.view import HealthView
from services.router.ledger.spool import UsageSpool
from services.router.planning.recent_calls import RecentCalls
from services.router.set_aside.set_aside import SettingAside


def attempt_observers(
    spool: UsageSpool,
    meters: Meters,
    health: HealthView,
    set_aside: SettingAside,
    recent: RecentCalls,
    clock: Clock,
) -> Observers:
    """Returns all observers in their order: the ledger first, since what was used must not be lost to a fault of an
    observer that only learns."""
    return Observers(
        (LedgerObserver(spool), meters, SpanObserver()),
        (HealthObserver(health), SetAsideObserver(set_aside), RecentObserver(recent, clock)),
    )


class LedgerObserver:
    """Writes the end of each attempt to the spool. Satisfies `AttemptObserver`."""

    def __init__(self, spool: UsageSpool) -> None:
        self._spool = spool

    def attempt_ended(self, end: AttemptEnd) -> None:
        self._spool.end(end.record)


class SpanObserver:
    """Ends the span of each attempt that is traced. Satisfies `AttemptObserver`."""

    def attempt_ended(self, end: AttemptEnd) -> None:
        if end.span is not None:
            spans.end_attempt(end.span, end.record)


class HealthObserver:
    """Gives the ticket of each attempt back, with the evidence for the circuits. Satisfies `AttemptObserver`."""

    def __init__(self, health: HealthView) -> None:
        self._health = health

    def attempt_ended(self, end: AttemptEnd) -> None:
        record, evidence, model = end.record, end.evidence, end.candidate.model
        if evidence is not None:
            self._health.record_failure(
                model, end.ticket, evidence.error_class, evidence.retry_after, record.tenant
            )
            return
        tokens = record.usage.output_tokens if record.usage is not None else 0
        self._health.record_success(
            model, end.ticket, record.latency, record.time_to_first_token, tokens, record.tenant
        )


class SetAsideObserver:
    """Shows the outcome of each kind of request to set-aside. Satisfies `AttemptObserver`."""

    def __init__(self, set_aside: SettingAside) -> None:
        self._set_aside = set_aside

    def attempt_ended(self, end: AttemptEnd) -> None:
        record, evidence, candidate = end.record, end.evidence, end.candidate
        if evidence is None:
            # An answer that a filter ended is neither a refusal nor proof that such requests are served.
            if record.finish_reason is not FinishReason.CONTENT_FILTER:
                self._set_aside.record_success(
                    candidate.provider,
                    candidate.model,
                    end.generation,
                    record.started,
                    stream=record.streamed,
                )
        elif evidence.of_kind:
            self._set_aside.record_failure(
                candidate.provider,
                candidate.model,
                end.generation,
                record.started,
                evidence.error_class,
                explicit=evidence.explicit,
                stream=record.streamed,
                unsupported=evidence.unsupported,
                quota_back=evidence.quota_back,
            )


class RecentObserver:
    """Ends each call among the recent ones, with its failure where that is evidence. Satisfies `AttemptObserver`."""

    def __init__(self, recent: RecentCalls, clock: Clock) -> None:
        self._recent = recent
        self._clock = clock

    def attempt_ended(self, end: AttemptEnd) -> None:
        record, evidence = end.record, end.evidence
        failure, hurried = None if evidence is None else record.error_class, False
        if evidence is not None and evidence.error_class is ErrorClass.CANCELLED:
            hurried = failure is ErrorClass.TIMEOUT
            failure = ErrorClass.CANCELLED
        self._recent.end(
            record.attempt_id,
            end.candidate.model,
            record.tenant,
            self._clock.monotonic(),
            failure,
            hurried=hurried,
        )
