"""Admission while the limiter is gone and the leases are used up: written once, per dimension.

Rates: this router's share of the configured limit, as a token bucket of its own. Concurrency: its share of the slots.
Calendar quotas and money: closed, because nothing here knows what is left of them. A scope without configured limits
is open. What is refused here says nothing of the limits themselves, so its violations are `unknown`. Pure: time is a
parameter (monotonic seconds).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from libs.catalog.catalog import Catalog
from libs.catalog.limits import LimitSpec
from libs.errors import QuotaViolation
from libs.limits import Amounts, LimitKey, Scope, Unit, by_unit
from services.router.admission.amounts import AdmissionDenied

#: RetryInfo while the limiter is gone, seconds.
RETRY_AFTER = 2.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(slots=True)
class LocalReservation:
    """Slots that one admission holds until its call ends, by scope."""

    slots: list[tuple[Scope, int]]


class LocalShare:
    """`share` (0 to 1) of each configured rate and concurrency."""

    def __init__(self, catalog: Callable[[], Catalog], share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError("the local share must be between 0 and 1")
        self._catalog = catalog
        self._share = share
        self._version = ""
        self._limits: dict[Scope, list[LimitSpec]] = {}
        self._buckets: dict[LimitKey, _Bucket] = {}
        self._running: dict[Scope, int] = {}

    def admit(self, scopes: Sequence[Scope], amounts: Amounts, now: float) -> LocalReservation:
        """Takes the amounts from every limit of the scopes, or nothing. Raises AdmissionDenied."""
        catalog = self._catalog()
        if catalog.version != self._version:
            self._version = catalog.version
            self._limits = {}
            for scope, _, limit in catalog.limits():
                self._limits.setdefault(scope, []).append(limit)
        needs = by_unit(amounts)
        violations: list[QuotaViolation] = []
        takes: list[tuple[_Bucket, int]] = []
        slots: list[tuple[Scope, int]] = []
        for scope in scopes:
            for limit in self._limits.get(scope, ()):
                need = needs[limit.unit]
                if limit.shadow or need == 0:
                    continue
                if limit.unit is Unit.CONCURRENCY:
                    if self._running.get(scope, 0) + need > limit.limit * self._share:
                        violations.append(_violation(scope, limit, need, "has no local share left"))
                    slots.append((scope, need))
                    continue
                if not limit.period.seconds or limit.unit is Unit.MICRO_USD:
                    violations.append(_violation(scope, limit, need, "is closed while the limiter is gone"))
                    continue
                bucket = self._filled(scope, limit, now)
                if bucket.tokens < need:
                    violations.append(_violation(scope, limit, need, "has no local share left"))
                takes.append((bucket, need))
        if violations:
            raise AdmissionDenied(violations, RETRY_AFTER)
        for bucket, need in takes:
            bucket.tokens -= need
        for scope, need in slots:
            self._running[scope] = self._running.get(scope, 0) + need
        return LocalReservation(slots)

    def release(self, reservation: LocalReservation) -> None:
        """Gives the slots back as the call ends; once for each admission."""
        for scope, need in reservation.slots:
            self._running[scope] -= need
            if not self._running[scope]:
                del self._running[scope]

    def _filled(self, scope: Scope, limit: LimitSpec, now: float) -> _Bucket:
        capacity = limit.limit * self._share
        key = LimitKey(scope, limit.unit, limit.period)
        bucket = self._buckets.setdefault(key, _Bucket(capacity, now))
        bucket.tokens = min(capacity, bucket.tokens + (now - bucket.at) * capacity / limit.period.seconds)
        bucket.at = now
        return bucket


def _violation(scope: Scope, limit: LimitSpec, need: int, why: str) -> QuotaViolation:
    per = f" per {limit.period}" if limit.period else ""
    return QuotaViolation(
        LimitKey(scope, limit.unit, limit.period),
        f"{scope}: its limit of {limit.limit} {limit.unit.words}{per} {why}",
        limit.limit,
        0,
        need,
        unknown=True,
    )
