"""Alerts on quotas, as limiters raise and clear them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.errors import FieldViolation
from libs.limits import MAX_COUNTER, Unit

MAX_SCOPE: Final = 256
#: Slots come back as calls end: they are not used up.
UNITS: Final = frozenset(Unit) - {Unit.CONCURRENCY}
#: An alert cannot outlive its window, and so long is the longest one, seconds.
LONGEST: Final = {"day": 90_000.0, "month": 32 * 86_400.0}


class AlertKind(StrEnum):
    """The condition that an alert is raised for."""

    BURN_FAST = "burn_fast"
    BURN_SLOW = "burn_slow"
    EXHAUSTION_LIKELY = "exhaustion_likely"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class QuotaAlert:
    """One alert as it was at `as_of` (`said` in the proto and the database). Instants are epoch seconds, durations
    seconds; None as in the proto."""

    scope: str
    unit: str
    period: str
    kind: AlertKind
    window_start: float
    as_of: float
    raised: float
    cleared: float | None
    limit: int
    used: int
    burn_rate: float
    probability: float | None = None
    p50: float | None = None

    @property
    def key(self) -> tuple[str, str, str, str, float]:
        """The fields that name an alert."""
        return self.scope, self.unit, self.period, self.kind, self.window_start


def alert_faults(alert: QuotaAlert, field: str) -> list[FieldViolation]:
    """Returns the faults of an alert; `field` is its path in the request."""
    faults = []
    if not 3 <= len(alert.scope) <= MAX_SCOPE or ":" not in alert.scope or not alert.scope.isprintable():
        faults.append(
            FieldViolation(f"{field}.scope", f"must be kind:name of at most {MAX_SCOPE} characters")
        )
    if alert.unit not in UNITS:
        faults.append(FieldViolation(f"{field}.unit", f"must be one of {', '.join(sorted(UNITS))}"))
    if alert.period not in LONGEST:
        faults.append(FieldViolation(f"{field}.period", "must be day or month"))
    if not 0 <= alert.limit <= MAX_COUNTER or not 0 <= alert.used <= MAX_COUNTER:
        faults.append(FieldViolation(f"{field}.limit", f"and used must be from 0 to {MAX_COUNTER}"))
    if not 0 <= alert.burn_rate < float("inf"):
        faults.append(FieldViolation(f"{field}.burn_rate", "must be a number from 0"))
    if alert.probability is not None and not 0 <= alert.probability <= 1:
        faults.append(FieldViolation(f"{field}.probability", "must be from 0 to 1"))
    return faults
