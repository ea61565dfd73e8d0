"""Reports from the ledger. Rows come ordered by bucket, then group; groups without attempts are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from libs.types import ErrorClass, Usage

#: More rows than this are refused rather than cut: a cut table looks like a whole one.
MAX_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Group:
    """`values` in the order of the query's group_by ("provider/model" for a model, "" where an attempt has none);
    `bucket` is its beginning in epoch seconds, None where no interval was asked for."""

    values: tuple[str, ...] = ()
    bucket: float | None = None


@dataclass(frozen=True, slots=True)
class CostRow:
    """Money (micro-USD) and tokens over all attempts of a group. `usage` is as accurate as its worst part."""

    group: Group
    cost_micro_usd: int
    estimated_micro_usd: int
    uncertain_micro_usd: int
    usage: Usage
    attempts: int
    requests: int


@dataclass(frozen=True, slots=True)
class CostReport:
    """`total` is over all rows, each request counted once; its group is empty."""

    rows: tuple[CostRow, ...]
    total: CostRow


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution in seconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class PerformanceRow:
    """The performance of a group. Quantiles are None without data; so is the speed (tokens per second)."""

    group: Group
    attempts: int
    successes: int
    requests: int
    failovers: int
    latency: Quantiles | None
    time_to_first_token: Quantiles | None
    output_tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class ReliabilityRow:
    """The reliability of a group. `errors` counts failed attempts by class (None: not known), classes that
    did not happen left out; `unanswered` requests had a failure and no answer."""

    group: Group
    attempts: int
    successes: int
    failures: int
    cancelled: int
    unknown: int
    errors: Mapping[ErrorClass | None, int]
    requests: int
    answered: int
    unanswered: int
    failovers: int

    @property
    def success_rate(self) -> float | None:
        """Successes over successes and failures: a caller who went away says nothing about the provider."""
        return _share(self.successes, self.successes + self.failures)

    @property
    def failover_rate(self) -> float | None:
        """Failovers over answered requests."""
        return _share(self.failovers, self.answered)

    @property
    def availability(self) -> float | None:
        """Answered over answered and unanswered requests."""
        return _share(self.answered, self.answered + self.unanswered)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
