"""Reports from the ledger. Rows come ordered by bucket, then group; groups without attempts are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.types import ErrorClass, Usage
from services.analytics.reports.query import Group
from services.analytics.reports.sources import Source


@dataclass(frozen=True, slots=True)
class Basis:
    """The sources of an answer, and how fresh they are. `last_commit`: epoch seconds, None: there was none;
    `lag`: seconds from the end of its oldest attempt to that commit."""

    sources: frozenset[Source] = frozenset()
    last_commit: float | None = None
    lag: float | None = None


@dataclass(frozen=True, slots=True)
class Waste:
    """Money (micro-USD) for attempts that gave no answer; `hedges` is the part of it that hedges cost."""

    failed: int = 0
    cancelled: int = 0
    unknown: int = 0
    hedges: int = 0


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
    waste: Waste = field(default_factory=Waste)
    #: Money that providers' prompt caches saved.
    cache_saving_micro_usd: int = 0
    #: Attempts that were hedges.
    hedges: int = 0


@dataclass(frozen=True, slots=True)
class CostReport:
    """`total` is over all rows, each request counted once; its group is empty. `next_after` is the last row's group
    where there are more."""

    rows: tuple[CostRow, ...]
    total: CostRow
    basis: Basis = field(default_factory=Basis)
    next_after: Group | None = None


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution in seconds."""

    p50: float
    p90: float
    p95: float
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
class PerformanceReport:
    """As `CostReport`. Quantiles are values that occurred where the basis is attempts alone, else off by at most
    1 %."""

    rows: tuple[PerformanceRow, ...]
    basis: Basis = field(default_factory=Basis)
    next_after: Group | None = None


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

    @property
    def first_try_rate(self) -> float | None:
        """Requests that their first attempt answered over answered and unanswered ones."""
        return _share(self.answered - self.failovers, self.answered + self.unanswered)


@dataclass(frozen=True, slots=True)
class ReliabilityReport:
    """As `CostReport`."""

    rows: tuple[ReliabilityRow, ...]
    basis: Basis = field(default_factory=Basis)
    next_after: Group | None = None


@dataclass(frozen=True, slots=True)
class FailoverRow:
    """Failovers of the requests of a group whose first attempt failed. Money in micro-USD. `saved`: another
    target answered; `in_vain`: none of several did; `failed_micro_usd`: of the attempts that failed, of those in vain
    beyond the first; `added_latency`: seconds from the first attempt to the one that answered, summed, `added` how
    they are distributed (None: none was saved); `dearer_micro_usd`: of the `compared` ones' answers beyond what the
    first target would have taken."""

    group: Group
    requests: int
    saved: int
    in_vain: int
    failed_micro_usd: int
    added_latency: float
    added: Quantiles | None
    dearer_micro_usd: int
    compared: int


@dataclass(frozen=True, slots=True)
class FailoverReport:
    """As `CostReport`."""

    rows: tuple[FailoverRow, ...]
    basis: Basis = field(default_factory=Basis)
    next_after: Group | None = None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
