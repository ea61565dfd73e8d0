"""Alerts on quotas, as limiters send them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.errors import FieldViolation
from libs.limits import MAX_COUNTER, Unit, scope_of
from services.analytics.alerts.alert import Alert, AlertKind, Expectation, Severity, Subject

MAX_SCOPE: Final = 256
#: Slots come back as calls end: they are not used up.
UNITS: Final = frozenset(Unit) - {Unit.CONCURRENCY}
#: An alert cannot outlive its window, and so long is the longest one, seconds.
LONGEST: Final = {"day": 90_000.0, "month": 32 * 86_400.0}


class QuotaAlertKind(StrEnum):
    """The condition, by its word in the proto."""

    BURN_FAST = "burn_fast"
    BURN_SLOW = "burn_slow"
    EXHAUSTION_LIKELY = "exhaustion_likely"
    EXHAUSTED = "exhausted"
    BUDGET_THRESHOLD = "budget_threshold"
    LEDGER_DIFFERENCE = "ledger_difference"


_KINDS: Final = {
    QuotaAlertKind.BURN_FAST: (AlertKind.BURN_FAST, Severity.WARNING),
    QuotaAlertKind.BURN_SLOW: (AlertKind.BURN_SLOW, Severity.INFO),
    QuotaAlertKind.EXHAUSTION_LIKELY: (AlertKind.EXHAUSTION_LIKELY, Severity.WARNING),
    QuotaAlertKind.EXHAUSTED: (AlertKind.EXHAUSTED, Severity.CRITICAL),
    QuotaAlertKind.BUDGET_THRESHOLD: (AlertKind.BUDGET_THRESHOLD, Severity.INFO),
    QuotaAlertKind.LEDGER_DIFFERENCE: (AlertKind.RECONCILIATION_DIFFERENCE, Severity.WARNING),
}


@dataclass(frozen=True, slots=True)
class QuotaAlert:
    """One alert as it was at `as_of` (`said` in the proto). Instants are epoch seconds, durations seconds; None as in
    the proto."""

    scope: str
    unit: str
    period: str
    kind: QuotaAlertKind
    window_start: float
    as_of: float
    raised: float
    cleared: float | None
    limit: int
    used: int
    burn_rate: float
    probability: float | None = None
    p50: float | None = None
    percent: int = 0
    difference: int = 0
    window_end: float | None = None


def alert_faults(alert: QuotaAlert, field: str) -> list[FieldViolation]:
    """Returns the faults of an alert; `field` is its path in the request."""
    faults = []
    if len(alert.scope) > MAX_SCOPE or not _is_scope(alert.scope):
        faults.append(
            FieldViolation(
                f"{field}.scope", f"must be kind:name of a known kind, at most {MAX_SCOPE} characters"
            )
        )
    if alert.unit not in UNITS:
        faults.append(FieldViolation(f"{field}.unit", f"must be one of {', '.join(sorted(UNITS))}"))
    if alert.period not in LONGEST:
        faults.append(FieldViolation(f"{field}.period", "must be day or month"))
    elif (
        alert.window_end is not None
        and not 0 < alert.window_end - alert.window_start <= LONGEST[alert.period]
    ):
        faults.append(
            FieldViolation(f"{field}.window_end", "must be after window_start, and within the period")
        )
    if not 0 <= alert.limit <= MAX_COUNTER or not 0 <= alert.used <= MAX_COUNTER:
        faults.append(FieldViolation(f"{field}.limit", f"and used must be from 0 to {MAX_COUNTER}"))
    if not 0 <= alert.burn_rate < float("inf"):
        faults.append(FieldViolation(f"{field}.burn_rate", "must be a number from 0"))
    if alert.probability is not None and not 0 <= alert.probability <= 1:
        faults.append(FieldViolation(f"{field}.probability", "must be from 0 to 1"))
    if (alert.kind is QuotaAlertKind.BUDGET_THRESHOLD) != (1 <= alert.percent <= 99) or not (
        0 <= alert.percent <= 99
    ):
        faults.append(FieldViolation(f"{field}.percent", "must be from 1 to 99 of a threshold, else unset"))
    if alert.difference and alert.kind is not QuotaAlertKind.LEDGER_DIFFERENCE:
        faults.append(FieldViolation(f"{field}.difference", "must be unset for this kind"))
    if abs(alert.difference) > MAX_COUNTER:
        faults.append(FieldViolation(f"{field}.difference", f"must be at most {MAX_COUNTER} either way"))
    return faults


def _is_scope(text: str) -> bool:
    try:
        scope_of(text)
    except ValueError:
        return False
    return True


def alert_of(quota: QuotaAlert) -> Alert:
    """Returns the alert of a limiter's."""
    kind, severity = _KINDS[quota.kind]
    compared = quota.kind is QuotaAlertKind.LEDGER_DIFFERENCE
    return Alert(
        kind=kind,
        severity=severity,
        subject=subject_of(quota),
        episode=quota.window_start,
        as_of=quota.as_of,
        raised=quota.raised,
        cleared=quota.cleared,
        amount=quota.difference if compared else quota.used,
        unit=quota.unit,
        ends=quota.window_end or quota.window_start + LONGEST[quota.period],
        expected=Expectation(0) if compared else None,
        limit=quota.limit,
        percent=quota.percent,
        burn_rate=None if compared else quota.burn_rate,
        probability=quota.probability,
        p50=quota.p50,
    )


def subject_of(quota: QuotaAlert) -> Subject:
    """Returns the limit's scope by its kind, and its unit and period."""
    scope = scope_of(quota.scope)
    named = f"{scope.tenant}/{scope.name}" if scope.kind.of_tenant else scope.name
    return (str(scope.kind), named), ("unit", quota.unit), ("period", quota.period)
