"""Conditions of alerts on a quota: how fast it is used up, and the probability that it will not last.

Burn rates by pairs of a long and a short window, as in "The Site Reliability Workbook" (Google, 2018, ch. 5): the
long one shows that it matters, the short one that it still goes on. Their windows of a 30-day budget, an hour and
six, are kept as parts of the period: 2 and 5 % of the quota are gone by the time either alerts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.limits import LimitKey
from services.ratelimit.domain.quota import Quota
from services.ratelimit.forecasting.trend import Trend


class AlertKind(StrEnum):
    """The condition that an alert is raised for."""

    BURN_FAST = "burn_fast"
    BURN_SLOW = "burn_slow"
    EXHAUSTION_LIKELY = "exhaustion_likely"
    EXHAUSTED = "exhausted"
    BUDGET_THRESHOLD = "budget_threshold"
    LEDGER_DIFFERENCE = "ledger_difference"


@dataclass(frozen=True, slots=True)
class BurnWindows:
    """A pair of windows. `long` and `short` are parts of the period; `rate`: how many times as fast as would last
    the period."""

    long: float
    short: float
    rate: float


PAIRS: Final = {
    AlertKind.BURN_FAST: BurnWindows(1 / 720, 1 / 8640, 14.4),
    AlertKind.BURN_SLOW: BurnWindows(1 / 120, 1 / 1440, 6.0),
}
#: Probabilities of exhaustion from which one is likely, and below which it is not any more.
LIKELY, UNLIKELY = 0.5, 0.3
#: Percent of a budget by which its use must fall below a threshold that was told before it is told again.
FALLEN: Final = 2


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert on one quota in the window that began at `window_start`, as it was at `as_of`. Instants are epoch
    seconds; `cleared` None: it stands. `burn_rate`: over the kind's long window, over the quota's window so far where
    it has none. `probability` None: no forecast was made. `percent`: of a budget's threshold; `difference`: of
    LEDGER_DIFFERENCE, used less the ledger's; `window_end` None: not known."""

    key: LimitKey
    kind: AlertKind
    window_start: float
    as_of: float
    raised: float
    cleared: float | None
    limit: int
    used: int
    burn_rate: float
    probability: float | None
    p50: float | None
    percent: int = 0
    difference: int = 0
    window_end: float | None = None


def threshold_reached(used: int, limit: int, thresholds: Sequence[int], standing: int = 0) -> int:
    """Returns the highest of a budget's thresholds (percent) that is reached; 0: none is, or nothing is admitted.
    `standing`: the one that was told; it is no longer reached when `FALLEN` below it, since corrections of what was
    used swing."""
    below = {standing: FALLEN}
    return max(
        [percent for percent in thresholds if 0 < limit * (percent - below.get(percent, 0)) <= used * 100],
        default=0,
    )


def burn_rate(trend: Trend, limit: int, period: float, part: float) -> float:
    """Returns the burn rate: how many times as fast as would last `period` seconds the limit was used over the last
    `part` of them."""
    return trend.used(part * period) / (part * limit) if limit > 0 else 0.0


def alert_conditions(
    quota: Quota, window: tuple[float, float], trend: Trend, standing: Collection[AlertKind], p: float | None
) -> dict[AlertKind, float]:
    """Returns the conditions that hold, each with its burn rate. `window`: length of the quota's window and the part
    of it that is to come, seconds; `standing`: alerts that stand, whose conditions must be over clearly before they
    are cleared; `p`: the probability of exhaustion, None: not computed, so that its alert stays as it is."""
    limit = quota.limit.limit
    if limit <= 0:
        # Whoever admits nothing wants it so.
        return {}
    period, ahead = window
    found = {}
    for kind, pair in PAIRS.items():
        rate = burn_rate(trend, limit, period, pair.long)
        short = burn_rate(trend, limit, period, pair.short)
        if short >= pair.rate and (rate >= pair.rate or kind in standing):
            found[kind] = rate
    mean = quota.used * period / (max(1.0, period - ahead) * limit)
    if quota.used >= limit:
        found[AlertKind.EXHAUSTED] = mean
        return found
    stands = AlertKind.EXHAUSTION_LIKELY in standing
    if stands if p is None else p >= (UNLIKELY if stands else LIKELY):
        found[AlertKind.EXHAUSTION_LIKELY] = mean
    return found
