"""Reports: proto → queries, rows → proto."""

from __future__ import annotations

import hashlib
from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2

from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.rpc.convert import (
    duration_to_proto,
    error_class_to_proto,
    fill_duration,
    fill_timestamp,
    fill_usage,
    timestamp_to_proto,
)
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


def _fill_group(proto: pb.Group, group: Group) -> None:
    proto.values.extend(group.values)
    proto.SetInParent()
    if group.bucket is not None:
        fill_timestamp(proto.bucket, group.bucket)


def _money(micro_usd: int) -> types_pb2.Money:
    return types_pb2.Money(micro_usd=micro_usd)


def change_to_proto(change: Change) -> pb.CostChange:
    return pb.CostChange(
        before=_money(change.before), volume=change.volume, mix=change.mix, price=change.price
    )


def fill_cost(proto: pb.Cost, row: CostRow) -> None:
    """Writes a row into a message that is part of an answer: to make one and to copy it would take twice as long."""
    _fill_group(proto.group, row.group)
    proto.cost.micro_usd = row.cost_micro_usd
    proto.estimated_cost.micro_usd = row.estimated_micro_usd
    proto.uncertain_cost.micro_usd = row.uncertain_micro_usd
    fill_usage(proto.usage, row.usage)
    proto.attempts = row.attempts
    proto.requests = row.requests
    waste = proto.waste
    waste.failed.micro_usd = row.waste.failed
    waste.cancelled.micro_usd = row.waste.cancelled
    waste.unknown.micro_usd = row.waste.unknown
    waste.hedges.micro_usd = row.waste.hedges
    proto.cache_saving.micro_usd = row.cache_saving_micro_usd
    proto.hedges = row.hedges


def cost_to_proto(row: CostRow) -> pb.Cost:
    proto = pb.Cost()
    fill_cost(proto, row)
    return proto


def _fill_quantiles(proto: pb.Quantiles, value: Quantiles) -> None:
    fill_duration(proto.p50, value.p50)
    fill_duration(proto.p90, value.p90)
    fill_duration(proto.p95, value.p95)
    fill_duration(proto.p99, value.p99)


def fill_performance(proto: pb.Performance, row: PerformanceRow) -> None:
    """Writes a row into a message that is part of an answer."""
    _fill_group(proto.group, row.group)
    proto.attempts = row.attempts
    proto.successes = row.successes
    proto.requests = row.requests
    proto.failovers = row.failovers
    if row.latency is not None:
        _fill_quantiles(proto.latency, row.latency)
    if row.time_to_first_token is not None:
        _fill_quantiles(proto.time_to_first_token, row.time_to_first_token)
    if row.output_tokens_per_second is not None:
        proto.output_tokens_per_second = row.output_tokens_per_second


def performance_to_proto(row: PerformanceRow) -> pb.Performance:
    proto = pb.Performance()
    fill_performance(proto, row)
    return proto


def fill_reliability(proto: pb.Reliability, row: ReliabilityRow) -> None:
    """Writes a row into a message that is part of an answer."""
    _fill_group(proto.group, row.group)
    proto.attempts = row.attempts
    proto.successes = row.successes
    proto.failures = row.failures
    proto.cancelled = row.cancelled
    proto.unknown = row.unknown
    for error, count in sorted(row.errors.items(), key=lambda item: (-item[1], item[0] or "")):
        proto.errors.add(error_class=error_class_to_proto(error), count=count)
    proto.requests = row.requests
    proto.answered = row.answered
    proto.unanswered = row.unanswered
    proto.failovers = row.failovers
    for name in ("success_rate", "failover_rate", "availability", "first_try_rate"):
        rate = getattr(row, name)
        if rate is not None:
            setattr(proto, name, rate)


def fill_failovers(proto: pb.Failovers, row: FailoverRow) -> None:
    """Writes a row into a message that is part of an answer."""
    _fill_group(proto.group, row.group)
    proto.requests = row.requests
    proto.saved = row.saved
    proto.in_vain = row.in_vain
    proto.failed_cost.micro_usd = row.failed_micro_usd
    fill_duration(proto.added_latency, row.added_latency)
    if row.added is not None:
        _fill_quantiles(proto.added, row.added)
    proto.dearer.micro_usd = row.dearer_micro_usd
    proto.compared = row.compared


def reliability_to_proto(row: ReliabilityRow) -> pb.Reliability:
    proto = pb.Reliability()
    fill_reliability(proto, row)
    return proto
