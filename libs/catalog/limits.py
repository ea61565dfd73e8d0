"""One limit, as providers, models, tenants and campaigns carry them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.catalog.checks import check, check_amount, check_choice

UNITS = ("requests", "input_tokens", "output_tokens", "total_tokens", "concurrency", "micro_usd")
BUCKET_PERIODS = ("second", "minute", "hour")
PERIODS = (*BUCKET_PERIODS, "day", "month")


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One limit of a scope: how much of `unit` per `period`.

    `period` is empty for concurrency alone. second, minute and hour are token buckets that hold at most
    `burst` (None: `limit`); day and month are calendar quotas in the scope's time zone and have no burst.
    `limit` 0 admits nothing. `shadow`: count and report, but admit.
    """

    unit: str
    period: str
    limit: int
    burst: int | None = None
    shadow: bool = False

    def __post_init__(self) -> None:
        check_choice("unit", UNITS, self.unit)
        check_amount("limit", self.limit)
        if self.unit == "concurrency":
            check(not self.period, "concurrency has no period")
        else:
            check(bool(self.period), f"{self.unit} needs a period: {', '.join(PERIODS)}")
            check_choice("period", PERIODS, self.period)
        if self.burst is not None:
            check(self.period in BUCKET_PERIODS, f"burst applies to {', '.join(BUCKET_PERIODS)} only")
            check_amount("burst", self.burst, 1)


def check_limits(limits: Sequence[LimitSpec]) -> None:
    """One scope's limits: at most one per unit and period."""
    seen: set[tuple[str, str]] = set()
    for limit in limits:
        check(
            (limit.unit, limit.period) not in seen,
            f"two limits count {limit.unit} per {limit.period or 'moment'}",
        )
        seen.add((limit.unit, limit.period))
