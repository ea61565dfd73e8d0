"""Reports: proto → queries, rows → proto."""

from __future__ import annotations

import hashlib
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2

from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.rpc.convert import duration_to_proto, error_class_to_proto, timestamp_to_proto, usage_to_proto
from services.analytics.api.page_token import PageToken, read_page_token, write_page_token
from services.analytics.api.proto_time import instant_from_proto
from services.analytics.reports.change import Change
from services.analytics.reports.query import (
    MAX_GROUPS,
    MAX_LABELS,
    Group,
    GroupBy,
    Interval,
    Query,
    default_range,
)
from services.analytics.reports.report import (
    Basis,
    CostRow,
    FailoverRow,
    PerformanceRow,
    Quantiles,
    ReliabilityRow,
)
from services.analytics.reports.sources import Source

#: The proto's name of a dimension.
GROUP_BY = {item: cast("pb.GroupBy", pb.GroupBy.Value(f"GROUP_BY_{item.name}")) for item in GroupBy}
_GROUPS = {number: item for item, number in GROUP_BY.items()}
_INTERVALS = {pb.Interval.Value(f"INTERVAL_{item.name}"): item for item in Interval}
_SOURCES = {item: cast("pb.Source", pb.Source.Value(f"SOURCE_{item.name}")) for item in Source}


def query_from_proto(query: pb.Query, now: float) -> Query:
    """Returns the query, with its defaults at `now`. Raises InvalidArgument naming each wrong field."""
    check_count("query.group_by", len(query.group_by), MAX_GROUPS)
    check_count("query.labels", len(query.labels), MAX_LABELS)
    faults = [
        FieldViolation(f"query.group_by[{i}]", "must be a known dimension")
        for i, dimension in enumerate(query.group_by)
        if dimension not in _GROUPS
    ]
    if query.interval and query.interval not in _INTERVALS:
        faults.append(FieldViolation("query.interval", "must be a known interval"))
    bounds: dict[str, float | None] = {}
    for name in ("from_time", "to_time"):
        timestamp: Timestamp = getattr(query, name)
        bounds[name] = instant_from_proto(timestamp) if query.HasField(name) else None
        if query.HasField(name) and bounds[name] is None:
            faults.append(FieldViolation(f"query.{name}", "must be a valid timestamp"))
    if faults:
        raise InvalidArgument(faults)
    since, until = default_range(now, bounds["from_time"], bounds["to_time"])
    after: Group | None = None
    if query.page_token:
        # The range's defaults are those of the first page.
        token = read_page_token(query.page_token, _fingerprint(query))
        since, until, after = token.since, token.until, Group(token.values, token.bucket)
    return Query(
        since=since,
        until=until,
        group_by=tuple(_GROUPS[dimension] for dimension in query.group_by),
        interval=_INTERVALS.get(query.interval),
        time_zone=query.time_zone or "UTC",
        tenant=query.tenant or None,
        provider=query.provider or None,
        model=query.model or None,
        content_type=query.content_type or None,
        campaign=query.campaign or None,
        labels=dict(query.labels),
        group_by_label=query.group_by_label or None,
        page_size=query.page_size or None,
        after=after,
    )


def page_token(asked: pb.Query, query: Query, last: Group | None) -> str:
    """Returns the token of the page that begins after the group `last`; empty where there is none."""
    if last is None:
        return ""
    return write_page_token(
        PageToken(_fingerprint(asked), query.since, query.until, last.bucket, last.values)
    )


def _fingerprint(query: pb.Query) -> str:
    """Returns the same for two pages of one query, and for no two queries."""
    same = pb.Query()
    same.CopyFrom(query)
    same.ClearField("page_token")
    same.ClearField("page_size")
    return hashlib.sha256(same.SerializeToString(deterministic=True)).hexdigest()


def basis_to_proto(basis: Basis) -> pb.Basis:
    return pb.Basis(
        computed_from=[_SOURCES[source] for source in Source if source in basis.sources],
        last_commit=timestamp_to_proto(basis.last_commit),
        lag=duration_to_proto(basis.lag),
    )


def _group(group: Group) -> pb.Group:
    return pb.Group(values=group.values, bucket=timestamp_to_proto(group.bucket))


def _money(micro_usd: int) -> types_pb2.Money:
    return types_pb2.Money(micro_usd=micro_usd)


def change_to_proto(change: Change) -> pb.CostChange:
    return pb.CostChange(
        before=_money(change.before), volume=change.volume, mix=change.mix, price=change.price
    )


def cost_to_proto(row: CostRow) -> pb.Cost:
    return pb.Cost(
        group=_group(row.group),
        cost=_money(row.cost_micro_usd),
        estimated_cost=_money(row.estimated_micro_usd),
        uncertain_cost=_money(row.uncertain_micro_usd),
        usage=usage_to_proto(row.usage),
        attempts=row.attempts,
        requests=row.requests,
        waste=pb.Waste(
            failed=_money(row.waste.failed),
            cancelled=_money(row.waste.cancelled),
            unknown=_money(row.waste.unknown),
            hedges=_money(row.waste.hedges),
        ),
        cache_saving=_money(row.cache_saving_micro_usd),
        hedges=row.hedges,
    )


def _quantiles(value: Quantiles | None) -> pb.Quantiles | None:
    if value is None:
        return None
    return pb.Quantiles(
        p50=duration_to_proto(value.p50),
        p90=duration_to_proto(value.p90),
        p95=duration_to_proto(value.p95),
        p99=duration_to_proto(value.p99),
    )


def performance_to_proto(row: PerformanceRow) -> pb.Performance:
    return pb.Performance(
        group=_group(row.group),
        attempts=row.attempts,
        successes=row.successes,
        requests=row.requests,
        failovers=row.failovers,
        latency=_quantiles(row.latency),
        time_to_first_token=_quantiles(row.time_to_first_token),
        output_tokens_per_second=row.output_tokens_per_second,
    )


def failovers_to_proto(row: FailoverRow) -> pb.Failovers:
    return pb.Failovers(
        group=_group(row.group),
        requests=row.requests,
        saved=row.saved,
        in_vain=row.in_vain,
        failed_cost=_money(row.failed_micro_usd),
        added_latency=duration_to_proto(row.added_latency),
        added=_quantiles(row.added),
        dearer=_money(row.dearer_micro_usd),
        compared=row.compared,
    )


def reliability_to_proto(row: ReliabilityRow) -> pb.Reliability:
    errors = sorted(row.errors.items(), key=lambda item: (-item[1], item[0] or ""))
    return pb.Reliability(
        group=_group(row.group),
        attempts=row.attempts,
        successes=row.successes,
        failures=row.failures,
        cancelled=row.cancelled,
        unknown=row.unknown,
        success_rate=row.success_rate,
        errors=[pb.ErrorCount(error_class=error_class_to_proto(error), count=n) for error, n in errors],
        requests=row.requests,
        answered=row.answered,
        unanswered=row.unanswered,
        failovers=row.failovers,
        failover_rate=row.failover_rate,
        availability=row.availability,
        first_try_rate=row.first_try_rate,
    )
