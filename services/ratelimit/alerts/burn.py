"""What is alarming about a quota: how fast it is used up, and whether it will last.

Burn rates by pairs of a long and a short window, as in "The Site Reliability Workbook" (Google, 2018, ch. 5): the
long one says that it matters, the short one that it still goes on. Their windows of a 30-day budget, an hour and six,
are kept as parts of the period: 2 and 5 % of the quota are gone by the time either alerts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.limits import LimitKey
from services.ratelimit.domain.quota import Quota
from services.ratelimit.forecasting.trend import Trend


class AlertKind(StrEnum):
    """What was noticed."""

    BURN_FAST = "burn_fast"
    BURN_SLOW = "burn_slow"
    EXHAUSTION_LIKELY = "exhaustion_likely"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class Pair:
    """`long` and `short` are parts of the period; `rate` times as fast as would last the period."""

    long: float
    short: float
    rate: float


PAIRS: Final = {
    AlertKind.BURN_FAST: Pair(1 / 720, 1 / 8640, 14.4),
    AlertKind.BURN_SLOW: Pair(1 / 120, 1 / 1440, 6.0),
}
#: Probabilities of exhaustion from which one is likely, and below which it is not any more.
LIKELY, UNLIKELY = 0.5, 0.3


@dataclass(frozen=True, slots=True)
class Alert:
    """On one quota in the window that began at `window_start`. Instants are epoch seconds; `cleared` None: it stands.
    `burn_rate`: over the kind's long window, over the quota's window so far where it has none. `probability` None: no
    forecast was made."""

    key: LimitKey
    kind: AlertKind
    window_start: float
    said: float
    raised: float
    cleared: float | None
    limit: int
    used: int
    burn_rate: float
    probability: float | None
    p50: float | None


def burn_rate(trend: Trend, limit: int, period: float, part: float) -> float:
    """How many times as fast as would last `period` seconds the limit was used over the last `part` of them."""
    return trend.used(part * period) / (part * limit) if limit > 0 else 0.0


def alarming(
    quota: Quota, window: tuple[float, float], trend: Trend, standing: Collection[AlertKind], p: float | None
) -> dict[AlertKind, float]:
    """What there is to alert about, each with its burn rate. `window`: how long the quota's window is and how much of
    it is to come, seconds; `standing`: what stands already, which must be over clearly before it is cleared; `p`: the
    probability of exhaustion, None: not looked at, so that word stands as it stood."""
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
