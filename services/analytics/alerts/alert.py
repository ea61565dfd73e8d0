"""One alert: its condition, subject, figures, and what people did about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: The unit of shares: millionths.
PPM: Final = "ppm"
#: Characters of an alert's id; 80 bits of a hash.
ID_DIGITS: Final = 20


class AlertKind(StrEnum):
    """The condition that an alert is raised for."""

    BUDGET_THRESHOLD = "budget_threshold"
    BURN_FAST = "burn_fast"
    BURN_SLOW = "burn_slow"
    EXHAUSTION_LIKELY = "exhaustion_likely"
    EXHAUSTED = "exhausted"
    RECONCILIATION_DIFFERENCE = "reconciliation_difference"
    SPEND_ANOMALY = "spend_anomaly"
    ERROR_ANOMALY = "error_anomaly"
    RELIABILITY_DROP = "reliability_drop"


#: The kinds that are detected here, in the ledger; limiters raise the others.
DETECTED: Final = frozenset({AlertKind.SPEND_ANOMALY, AlertKind.ERROR_ANOMALY, AlertKind.RELIABILITY_DROP})


class Severity(StrEnum):
    """The haste with which somebody should look, ascending."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


#: Of a dimension of a subject: name and value, in the order in which people read them.
Subject = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Expectation:
    """An amount expected from earlier days, and the least and most that would be no alert (None: there is none)."""

    amount: int
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class Mover:
    """One value of one dimension and its part of a change. `share`: of the whole change, above 1 where others
    fell."""

    dimension: str
    value: str
    amount: int
    expected: int
    share: float


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as it was at `as_of`. Instants are epoch seconds, durations seconds.

    `episode` tells one alert from the next of the same condition: the beginning of a quota's window, the instant of
    raising of others. `cleared` None: it is not over; nor does it stand from `ends` on (None: it has no end of its
    own). `amount` is in `unit`, over the last `span` (None: the quota's window so far). What a kind has not is None,
    `percent` 0.
    """

    kind: AlertKind
    severity: Severity
    subject: Subject
    episode: float
    as_of: float
    raised: float
    cleared: float | None
    amount: int
    unit: str
    ends: float | None = None
    span: float | None = None
    expected: Expectation | None = None
    movers: tuple[Mover, ...] = ()
    limit: int | None = None
    percent: int = 0
    burn_rate: float | None = None
    probability: float | None = None
    p50: float | None = None

    @property
    def alert_id(self) -> str:
        """The name of this alert, the same whoever notices it."""
        named = "\n".join([f"{name}={value}" for name, value in sorted(self.subject)])
        text = f"{self.kind}\n{named}\n{round(self.episode * 1e6)}"
        return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]

    @property
    def labels(self) -> dict[str, str]:
        """The names and values that filters and silences match."""
        return {**dict(self.subject), "kind": self.kind.value, "severity": self.severity.value}

    def stands(self, now: float) -> bool:
        """Returns True if it is not over at `now`."""
        return self.cleared is None and (self.ends is None or now < self.ends)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The word of a person who looks after an alert. `at`: epoch seconds."""

    by: str
    at: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class KeptAlert:
    """An alert with what is kept beside it. `turn` counts how often it was raised, a budget's next threshold
    included: each turn is announced anew."""

    alert: Alert
    turn: int = 1
    acknowledged: Acknowledged | None = None
    silenced: bool = False


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts whose labels have all of `matchers` are not announced from `since` until `until` (epoch seconds)."""

    silence_id: str
    matchers: Mapping[str, str]
    since: float
    until: float
    by: str
    reason: str

    def matches(self, alert: Alert, now: float) -> bool:
        """Returns True if it keeps the alert from being announced at `now`."""
        return self.since <= now < self.until and self.matchers.items() <= alert.labels.items()


def is_again(before: Alert, now: Alert) -> bool:
    """Returns True if a later record of an alert has to be announced anew: it stands again after it was over, or is
    worse."""
    return now.cleared is None and (before.cleared is not None or is_worse(before, now))


def is_worse(before: Alert, now: Alert) -> bool:
    """Returns True if a higher threshold is reached, or somebody should look with more haste."""
    severities = list(Severity)
    return now.percent > before.percent or severities.index(now.severity) > severities.index(before.severity)
