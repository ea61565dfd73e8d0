"""One limit, as providers, models, tenants and campaigns carry them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.catalog.checks import check, check_amount, check_choice
from libs.limits import BUCKET_PERIODS, MAX_BUCKET, PERIODS, Period, Unit

#: Steps that a threshold of a budget may name, mildest first.
ACTIONS = ("warn", "cheaper_models", "queue", "refuse")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A part of a budget, 1 to 100 percent, and what happens from there on."""

    percent: int
    action: str

    def __post_init__(self) -> None:
        check_amount("a threshold", self.percent, 1, 100)
        check_choice("action", ACTIONS, self.action)
        check(
            self.percent < 100 or self.action == "refuse",
            "a budget refuses at 100 percent; `shadow: true` counts without refusing",
        )


#: The thresholds of a budget that names none.
DEFAULT_THRESHOLDS = (Threshold(50, "warn"), Threshold(80, "warn"), Threshold(100, "refuse"))


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One limit of a scope: how much of `unit` per `period`.

    `period` is NONE for concurrency alone. second, minute and hour are token buckets that hold at most
    `burst` (None: `limit`); day and month are calendar quotas in the scope's time zone and have no burst.
    `limit` 0 admits nothing. `shadow`: count and report, but admit. `thresholds`: of a budget, ascending.
    `pace`, of buckets: who is short of it waits for the refill, whatever the policy's ladder says.
    """

    unit: Unit
    period: Period
    limit: int
    burst: int | None = None
    shadow: bool = False
    thresholds: tuple[Threshold, ...] = ()
    pace: bool = False

    def __post_init__(self) -> None:
        if self.unit is Unit.CONCURRENCY:
            check(not self.period, "concurrency has no period")
        else:
            check(bool(self.period), f"{self.unit} needs a period: {', '.join(PERIODS)}")
        bucket = self.period.seconds > 0
        check_amount("limit", self.limit, high=self.period.max_limit)
        if self.burst is not None:
            check(bucket, f"burst applies to {', '.join(BUCKET_PERIODS)} only")
            check_amount("burst", self.burst, 1, MAX_BUCKET)
        check(bucket or not self.pace, f"pace applies to {', '.join(BUCKET_PERIODS)} only")
        check(not self.thresholds or self.budget, "thresholds apply to usd per day or month only")
        percents = [threshold.percent for threshold in self.thresholds]
        check(percents == sorted(set(percents)), "thresholds must ascend")

    @property
    def budget(self) -> bool:
        """Returns True if it bounds money in a calendar window."""
        return self.unit is Unit.MICRO_USD and self.period.calendar


def check_limits(limits: Sequence[LimitSpec]) -> None:
    """Checks one scope's limits: at most one per unit and period."""
    seen: set[tuple[Unit, Period]] = set()
    for limit in limits:
        check(
            (limit.unit, limit.period) not in seen,
            f"two limits count {limit.unit} per {limit.period or 'moment'}",
        )
        seen.add((limit.unit, limit.period))
