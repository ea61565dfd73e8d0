"""Reports on what the ledger holds, as typed results: costs, performance, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.rpc.convert import (
    duration_from_proto,
    error_class_from_proto,
    timestamp_from_proto,
    timestamp_to_proto,
    usage_from_proto,
)
from libs.types import ErrorClass, Usage


class CostGroup(StrEnum):
    """The names that reports can be grouped by."""

    TENANT = "tenant"
    PROVIDER = "provider"
    MODEL = "model"
    CONTENT_TYPE = "content_type"
    CAMPAIGN = "campaign"
    ERROR_CLASS = "error_class"


class CostInterval(StrEnum):
    """The width of a time bucket."""

    MINUTE = "minute"
    FIVE_MINUTES = "five_minutes"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class ReportQuestion(TypedDict, total=False):
    """A choice of attempts, and the cut of the answer. `since` (inclusive) and `until` (exclusive) are epoch seconds;
    None: 24 hours before `until`, and the end of the five minutes that run. Filters: empty takes all. `by_label`: a
    label whose values are the last group."""

    since: float | None
    until: float | None
    interval: CostInterval | None
    time_zone: str
    tenant: str
    provider: str
    model: str
    content_type: str
    campaign: str
    labels: Mapping[str, str]
    by_label: str


@dataclass(frozen=True, slots=True)
class ReportBasis:
    """The rows that an answer was computed from ("attempts", "five_minutes", "hours", "days", "months"), and how
    fresh they are: the last commit (epoch seconds) and its lag behind the end of its oldest attempt (seconds). None:
    there was none."""

    computed_from: tuple[str, ...] = ()
    last_commit: float | None = None
    lag: float | None = None


@dataclass(frozen=True, slots=True)
class CostChange:
    """Micro-USD. `volume` + `mix` + `price` is the change against `before` exactly."""

    before: int
    volume: int
    mix: int
    price: int


@dataclass(frozen=True, slots=True)
class WastedCost:
    """Micro-USD for attempts that gave no answer; `hedges` is the part of it that hedges cost."""

    failed: int = 0
    cancelled: int = 0
    unknown: int = 0
    hedges: int = 0


@dataclass(frozen=True, slots=True)
class CostRow:
    """The cost of a group. `group` in the order asked for; `bucket` None: no interval was asked for; `change` None:
    no comparison was. `cache_saving_micro_usd` is what providers' prompt caches saved."""

    group: tuple[str, ...]
    bucket: float | None
    cost_micro_usd: int
    estimated_micro_usd: int
    uncertain_micro_usd: int
    usage: Usage
    attempts: int
    requests: int
    waste: WastedCost = WastedCost()
    cache_saving_micro_usd: int = 0
    hedges: int = 0
    change: CostChange | None = None


@dataclass(frozen=True, slots=True)
class Costs:
    """Rows ordered by bucket, then group, and their total."""

    rows: tuple[CostRow, ...]
    total: CostRow
    basis: ReportBasis = ReportBasis()


@dataclass(frozen=True, slots=True)
class DurationQuantiles:
    """Seconds."""

    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class PerformanceRow:
    """The performance of a group; None: no data. `failovers` are requests that a later attempt than the first
    answered. Speed in tokens per second."""

    group: tuple[str, ...]
    bucket: float | None
    attempts: int
    successes: int
    requests: int
    failovers: int
    latency: DurationQuantiles | None
    time_to_first_token: DurationQuantiles | None
    output_tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class Performance:
    """Rows ordered by bucket, then group."""

    rows: tuple[PerformanceRow, ...]
    basis: ReportBasis


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """Failed attempts of a class (None: not known)."""

    error_class: ErrorClass | None
    count: int


@dataclass(frozen=True, slots=True)
class ReliabilityRow:
    """The reliability of a group. `success_rate` is of attempts, `availability` of requests as callers saw them,
    `first_try_rate` what that would have been without failovers; None: there were none. `errors`: the most frequent
    first."""

    group: tuple[str, ...]
    bucket: float | None
    attempts: int
    successes: int
    failures: int
    cancelled: int
    unknown: int
    success_rate: float | None
    errors: tuple[ErrorCount, ...]
    requests: int
    answered: int
    unanswered: int
    failovers: int
    failover_rate: float | None
    availability: float | None
    first_try_rate: float | None


@dataclass(frozen=True, slots=True)
class Reliability:
    """Rows ordered by bucket, then group."""

    rows: tuple[ReliabilityRow, ...]
    basis: ReportBasis


@dataclass(frozen=True, slots=True)
class FailoverRow:
    """Failovers of the requests of a group whose first attempt failed. `saved`: another target answered;
    `in_vain`: none of several did; `failed_micro_usd`: of the attempts that failed, of those in vain beyond the
    first; `added_latency`: seconds from the first attempt to the one that answered, summed, `added` how they are
    distributed (None: none was saved); `dearer_micro_usd`: of the `compared` ones' answers beyond what the first
    target would have taken, by estimates."""

    group: tuple[str, ...]
    bucket: float | None
    requests: int
    saved: int
    in_vain: int
    failed_micro_usd: int
    added_latency: float
    added: DurationQuantiles | None
    dearer_micro_usd: int
    compared: int


@dataclass(frozen=True, slots=True)
class Failovers:
    """Rows ordered by bucket, then group."""

    rows: tuple[FailoverRow, ...]
    basis: ReportBasis


def question_to_proto(by: Sequence[CostGroup], question: ReportQuestion) -> pb.Query:
    """Returns the query. Raises ValueError for a group that there is not."""
    interval = question.get("interval")
    return pb.Query(
        from_time=timestamp_to_proto(question.get("since")),
        to_time=timestamp_to_proto(question.get("until")),
        group_by=[f"GROUP_BY_{CostGroup(item).name}" for item in by],
        interval=f"INTERVAL_{interval.name}" if interval else None,
        time_zone=question.get("time_zone", ""),
        tenant=question.get("tenant", ""),
        provider=question.get("provider", ""),
        model=question.get("model", ""),
        content_type=question.get("content_type", ""),
        campaign=question.get("campaign", ""),
        labels=question.get("labels", {}),
        group_by_label=question.get("by_label", ""),
    )


def costs_from_proto(response: pb.GetCostsResponse) -> Costs:
    """Returns the report."""
    rows = tuple(_cost(row) for row in response.rows)
    return Costs(rows, _cost(response.total), _basis(response.basis))


def performance_from_proto(response: pb.GetPerformanceResponse) -> Performance:
    """Returns the report."""
    return Performance(tuple(_performance(row) for row in response.rows), _basis(response.basis))


def reliability_from_proto(response: pb.GetReliabilityResponse) -> Reliability:
    """Returns the report."""
    return Reliability(tuple(_reliability(row) for row in response.rows), _basis(response.basis))


def failovers_from_proto(response: pb.GetFailoversResponse) -> Failovers:
    """Returns the report."""
    return Failovers(tuple(_failovers(row) for row in response.rows), _basis(response.basis))


def _failovers(item: pb.Failovers) -> FailoverRow:
    return FailoverRow(
        *_group(item.group),
        *(item.requests, item.saved, item.in_vain, item.failed_cost.micro_usd),
        duration_from_proto(item.added_latency),
        _quantiles(item.added),
        *(item.dearer.micro_usd, item.compared),
    )


def _basis(item: pb.Basis) -> ReportBasis:
    names = {value.number: value.name for value in pb.Source.DESCRIPTOR.values}
    return ReportBasis(
        tuple(
            names.get(source, str(source)).removeprefix("SOURCE_").lower() for source in item.computed_from
        ),
        timestamp_from_proto(item.last_commit) if item.HasField("last_commit") else None,
        duration_from_proto(item.lag) if item.HasField("lag") else None,
    )


def _group(item: pb.Group) -> tuple[tuple[str, ...], float | None]:
    bucket = timestamp_from_proto(item.bucket) if item.HasField("bucket") else None
    values = tuple(item.values)  # a proto field, not a DataFrame
    return values, bucket


def _cost(item: pb.Cost) -> CostRow:
    group, bucket = _group(item.group)
    change, waste = item.change, item.waste
    return CostRow(
        group=group,
        bucket=bucket,
        cost_micro_usd=item.cost.micro_usd,
        estimated_micro_usd=item.estimated_cost.micro_usd,
        uncertain_micro_usd=item.uncertain_cost.micro_usd,
        usage=usage_from_proto(item.usage),
        attempts=item.attempts,
        requests=item.requests,
        waste=WastedCost(
            *(waste.failed.micro_usd, waste.cancelled.micro_usd),
            *(waste.unknown.micro_usd, waste.hedges.micro_usd),
        ),
        cache_saving_micro_usd=item.cache_saving.micro_usd,
        hedges=item.hedges,
        change=(
            CostChange(change.before.micro_usd, change.volume, change.mix, change.price)
            if item.HasField("change")
            else None
        ),
    )


def _quantiles(item: pb.Quantiles) -> DurationQuantiles | None:
    if not item.HasField("p50"):
        return None
    return DurationQuantiles(*map(duration_from_proto, (item.p50, item.p90, item.p95, item.p99)))


def _performance(item: pb.Performance) -> PerformanceRow:
    speed = item.output_tokens_per_second if item.HasField("output_tokens_per_second") else None
    return PerformanceRow(
        *_group(item.group),
        *(item.attempts, item.successes, item.requests, item.failovers),
        latency=_quantiles(item.latency),
        time_to_first_token=_quantiles(item.time_to_first_token),
        output_tokens_per_second=speed,
    )


def _reliability(item: pb.Reliability) -> ReliabilityRow:
    group, bucket = _group(item.group)
    return ReliabilityRow(
        group=group,
        bucket=bucket,
        attempts=item.attempts,
        successes=item.successes,
        failures=item.failures,
        cancelled=item.cancelled,
        unknown=item.unknown,
        success_rate=item.success_rate if item.HasField("success_rate") else None,
        errors=tuple(ErrorCount(error_class_from_proto(e.error_class), e.count) for e in item.errors),
        requests=item.requests,
        answered=item.answered,
        unanswered=item.unanswered,
        failovers=item.failovers,
        failover_rate=item.failover_rate if item.HasField("failover_rate") else None,
        availability=item.availability if item.HasField("availability") else None,
        first_try_rate=item.first_try_rate if item.HasField("first_try_rate") else None,
    )
