"""Proto ↔ domain: what comes in, and how questions are read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2

from libs.errors import InvalidArgument
from libs.types import ErrorClass, FinishReason, RoutePart, Usage, UsageAccuracy
from services.analytics.api.proto_reports import query_from_proto
from services.analytics.api.proto_usage import attempt_from_proto
from services.analytics.ledger.attempt import Attempt, Outcome
from services.analytics.ledger.record_bounds import UnusableRecord
from services.analytics.reports.query import GroupBy, Interval, Query
from tests.support.ledger import NOW


def an_event() -> pb.UsageEvent:
    return pb.UsageEvent(
        attempt_id="a1",
        request_id="r1",
        attempt_number=2,
        tenant="acme",
        campaign="summer",
        content_type="seo",
        provider="openai",
        model="gpt-4o",
        started=Timestamp(seconds=1_800_000_000, nanos=250_000_000),
        latency=Duration(seconds=1, nanos=500_000_000),
        time_to_first_token=Duration(nanos=125_000_000),
        outcome=pb.OUTCOME_FAILURE,
        error_class=types_pb2.ERROR_CLASS_STALLED,
        http_status=200,
        usage=types_pb2.Usage(
            input_tokens=1,
            output_tokens=2,
            cache_read_tokens=3,
            cache_write_tokens=4,
            reasoning_tokens=5,
            accuracy=types_pb2.USAGE_ACCURACY_ESTIMATED,
        ),
        cost=types_pb2.Money(micro_usd=42),
        finish_reason=types_pb2.FINISH_REASON_LENGTH,
        streamed=True,
        hedge=True,
        labels={"sku": "42"},
        trace_id="ab" * 16,
        route_key="OPENAI_KEY_2",
        route_endpoint="eu.example/v1",
        switched=types_pb2.ROUTE_PART_KEY,
    )


def test_every_field_of_an_event_is_read() -> None:
    """Nothing is lost between the wire and the domain."""
    assert attempt_from_proto(an_event()) == Attempt(
        attempt_id="a1",
        request_id="r1",
        attempt_number=2,
        tenant="acme",
        provider="openai",
        model="gpt-4o",
        started=NOW + 0.25,
        outcome=Outcome.FAILURE,
        campaign="summer",
        content_type="seo",
        latency=1.5,
        time_to_first_token=0.125,
        error_class=ErrorClass.STALLED,
        http_status=200,
        usage=Usage(1, 2, 3, 4, 5, UsageAccuracy.ESTIMATED),
        cost_micro_usd=42,
        finish_reason=FinishReason.LENGTH,
        streamed=True,
        hedge=True,
        labels={"sku": "42"},
        trace_id="ab" * 16,
        route_key="OPENAI_KEY_2",
        route_endpoint="eu.example/v1",
        switched=RoutePart.KEY,
    )


def test_unset_is_not_zero() -> None:
    """Unset durations are not known; an explicit zero is zero."""
    event = an_event()
    event.ClearField("latency")
    event.time_to_first_token.CopyFrom(Duration())
    attempt = attempt_from_proto(event)
    assert (attempt.latency, attempt.time_to_first_token) == (None, 0.0)


def test_an_amount_that_nobody_vouches_for_is_uncertain() -> None:
    """No usage and no cost: exactly nothing. Tokens or cost without an accuracy: uncertain, never exact."""
    event = an_event()
    event.usage.accuracy = types_pb2.USAGE_ACCURACY_UNSPECIFIED
    assert attempt_from_proto(event).usage.accuracy is UsageAccuracy.UNCERTAIN
    event.ClearField("usage")
    assert attempt_from_proto(event).usage == Usage(accuracy=UsageAccuracy.UNCERTAIN)
    event.ClearField("cost")
    assert attempt_from_proto(event).usage == Usage(accuracy=UsageAccuracy.EXACT)


def set_outcome(event: pb.UsageEvent) -> None:
    event.outcome = 99  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("field", "spoil"),
    [
        ("outcome", lambda e: e.ClearField("outcome")),
        ("outcome", set_outcome),
        ("started", lambda e: e.ClearField("started")),
        ("started", lambda e: e.started.CopyFrom(Timestamp(seconds=1_800_000_000, nanos=-1))),
        ("started", lambda e: e.started.CopyFrom(Timestamp(seconds=-(2**62)))),
        ("latency", lambda e: e.latency.CopyFrom(Duration(seconds=-1))),
        ("latency", lambda e: e.latency.CopyFrom(Duration(seconds=1, nanos=-1))),
        ("latency", lambda e: e.latency.CopyFrom(Duration(seconds=-1, nanos=1))),
        ("latency", lambda e: e.latency.CopyFrom(Duration(nanos=1_000_000_000))),
        ("latency", lambda e: e.latency.CopyFrom(Duration(seconds=2**62))),
        ("time_to_first_token", lambda e: e.time_to_first_token.CopyFrom(Duration(nanos=-1))),
        ("cost", lambda e: e.cost.CopyFrom(types_pb2.Money(micro_usd=-1))),
    ],
)
def test_events_that_cannot_be_kept_say_why(field: str, spoil: Callable[[pb.UsageEvent], None]) -> None:
    """Malformed timestamps and durations are named, not guessed at."""
    event = an_event()
    spoil(event)
    with pytest.raises(UnusableRecord, match=field):
        attempt_from_proto(event)


def test_values_from_the_future_are_not_known() -> None:
    """A newer router's error class or finish reason does not lose the event."""
    event = an_event()
    event.error_class = 999  # type: ignore[assignment]
    event.finish_reason = 999  # type: ignore[assignment]
    attempt = attempt_from_proto(event)
    assert (attempt.error_class, attempt.finish_reason) == (None, None)


def test_an_empty_question_is_the_last_day_in_one_group() -> None:
    """Defaults as the proto says."""
    assert query_from_proto(pb.Query(), NOW) == Query(NOW - 86_400, NOW)


def test_every_field_of_a_question_is_read() -> None:
    """Group order is kept."""
    query = pb.Query(
        from_time=Timestamp(seconds=1_799_999_000),
        to_time=Timestamp(seconds=1_800_000_000, nanos=500_000_000),
        group_by=[pb.GROUP_BY_MODEL, pb.GROUP_BY_TENANT],
        interval=pb.INTERVAL_DAY,
        time_zone="Europe/Berlin",
        tenant="a",
        provider="b",
        model="c",
        content_type="d",
        campaign="e",
    )
    assert query_from_proto(query, 0.0) == Query(
        NOW - 1000,
        NOW + 0.5,
        (GroupBy.MODEL, GroupBy.TENANT),
        Interval.DAY,
        "Europe/Berlin",
        *"abcde",
    )


def test_unknown_enums_and_malformed_times_are_named() -> None:
    """Each wrong field of a question at once."""
    query = pb.Query(
        from_time=Timestamp(nanos=-1),
        group_by=[pb.GROUP_BY_TENANT, pb.GROUP_BY_UNSPECIFIED, 99],  # type: ignore[list-item]
        interval=99,  # type: ignore[arg-type]
    )
    with pytest.raises(InvalidArgument) as refusal:
        query_from_proto(query, NOW)
    assert [violation.field for violation in refusal.value.violations] == [
        "query.group_by[1]",
        "query.group_by[2]",
        "query.interval",
        "query.from_time",
    ]
