"""Tells from counts of failures when more fail than on earlier days, and when an objective of reliability is missed.

Failed attempts of the last quarter of an hour are an anomaly where their share is several times that of earlier days,
above nearly all hours of these, and not by chance: the count must be beyond what the earlier share gives by
`DEVIATIONS` standard deviations of a binomial one. A few failures are none, whatever their share.

Reliability as callers saw it is measured by burn rates over pairs of a long and a short window, as in "The Site
Reliability Workbook" (Google, 2018, ch. 5): the share of requests that failed, as a multiple of the share that the
objective allows. The long window shows that it matters, the short one that it still goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.analytics.alerts.alert import Severity
from services.analytics.alerts.anomaly import median

#: Seconds of the window of failed attempts, and failures in it, at least.
ERROR_WINDOW: Final = 900.0
MIN_FAILURES: Final = 20
DEVIATIONS: Final = 5.0
#: The share of failures is an anomaly from so many times the usual one on, from so much above it on, and from so many
#: times the one that all but 2 % of hours kept below on.
TIMES, ABOVE, TIMES_OF_HIGH = 3.0, 0.05, 1.25
HIGH_QUANTILE: Final = 0.98
#: A share of hours with fewer attempts says nothing.
MIN_ATTEMPTS: Final = 20
#: The least share that the standard deviation is computed of.
LEAST_SHARE: Final = 0.005
#: An alert is over below this part of the way from the usual share to the threshold.
CLEARED_AT: Final = 0.5


@dataclass(frozen=True, slots=True)
class Count:
    """Attempts or requests that ended with an answer or a failure, and how many of them failed."""

    ended: int = 0
    failed: int = 0

    @property
    def share(self) -> float:
        """The part that failed; 0 of none."""
        return self.failed / self.ended if self.ended else 0.0


@dataclass(frozen=True, slots=True)
class UsualShare:
    """The share of failures of earlier days, and the one that is an anomaly. `None`: not enough history."""

    usual: float
    high: float

    def is_anomaly(self, now: Count, *, standing: bool) -> bool:
        """Returns True if the count of the last ERROR_WINDOW is an anomaly, or, where one stands, is not clearly
        over."""
        if standing:
            return now.failed > 0 and now.share > self.usual + CLEARED_AT * (self.high - self.usual)
        usual = max(self.usual, LEAST_SHARE)
        chance = usual * now.ended + DEVIATIONS * math.sqrt(now.ended * usual * (1 - usual))
        return now.failed >= MIN_FAILURES and now.share >= self.high and now.failed > chance


def usual_share(hours: Sequence[Count]) -> UsualShare:
    """Returns what is usual by the hours of earlier days; without any, that nothing fails."""
    shares = sorted(hour.share for hour in hours if hour.ended >= MIN_ATTEMPTS)
    usual = median(shares)
    highest = shares[math.ceil(HIGH_QUANTILE * len(shares)) - 1] if shares else 0.0
    return UsualShare(usual, min(1.0, max(TIMES * usual, usual + ABOVE, TIMES_OF_HIGH * highest)))


@dataclass(frozen=True, slots=True)
class BurnPair:
    """A pair of windows, seconds; `rate`: how many times as fast as the objective allows over 30 days."""

    long: float
    short: float
    rate: float
    severity: Severity


#: The fast one first: where both hold it counts.
BURN_PAIRS: Final = (
    BurnPair(3600.0, 300.0, 14.4, Severity.CRITICAL),
    BurnPair(21_600.0, 1800.0, 6.0, Severity.WARNING),
)
#: Failed requests in the long window, at least.
MIN_FAILED_REQUESTS: Final = 10


def burning(
    counts: Sequence[tuple[Count, Count]], objective: float, *, standing: bool
) -> tuple[BurnPair, Count, float] | None:
    """Returns the pair that burns, the count of its long window and its burn rate; None: neither does. `counts`: of
    the long and the short window of each of BURN_PAIRS; `objective`: the share of requests that shall be answered,
    below 1. `standing`: an alert stands, and is over when no short window burns any more."""
    allowed = 1.0 - objective
    for pair, (long, short) in zip(BURN_PAIRS, counts, strict=True):
        rate = long.share / allowed
        starts = long.failed >= MIN_FAILED_REQUESTS and rate >= pair.rate
        if short.failed and short.share / allowed >= pair.rate and (starts or standing):
            return pair, long, rate
    return None
