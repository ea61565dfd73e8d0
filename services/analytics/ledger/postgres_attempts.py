"""Rows of attempts: their columns, from and to values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from libs.types import ErrorClass, FinishReason, RoutePart, Usage, UsageAccuracy
from services.analytics.ledger.attempt import Attempt, Outcome

_MICROS = 1_000_000
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(seconds: float | None) -> int | None:
    """Returns whole microseconds."""
    return None if seconds is None else round(seconds * _MICROS)


def seconds(value: int | None) -> float | None:
    """Returns seconds of a column of microseconds."""
    return None if value is None else value / _MICROS


def labels_text(labels: Mapping[str, str]) -> str | None:
    """Returns labels as JSON; None: there are none."""
    return msgspec.json.encode(dict(labels)).decode() if labels else None


def labels_of(text: str | None) -> dict[str, str]:
    """Returns the labels of a column."""
    return msgspec.json.decode(text, type=dict[str, str]) if text else {}


def epoch(instant: datetime) -> float:
    """Returns epoch seconds, to the microsecond."""
    return (instant - _EPOCH) // _MICROSECOND / _MICROS


#: Column, type of the array it travels in, value.
COLUMNS: tuple[tuple[str, str, Callable[[Attempt], Any]], ...] = (
    ("attempt_id", "text", lambda a: a.attempt_id),
    ("request_id", "text", lambda a: a.request_id),
    ("attempt_number", "integer", lambda a: a.attempt_number),
    ("tenant", "text", lambda a: a.tenant),
    ("campaign", "text", lambda a: a.campaign),
    ("content_type", "text", lambda a: a.content_type),
    ("provider", "text", lambda a: a.provider),
    ("model", "text", lambda a: a.model),
    ("started", "bigint", lambda a: round(a.started * _MICROS)),
    ("latency_us", "bigint", lambda a: micros(a.latency)),
    ("ttft_us", "bigint", lambda a: micros(a.time_to_first_token)),
    ("outcome", "text", lambda a: a.outcome),
    ("error_class", "text", lambda a: a.error_class or ""),
    ("http_status", "integer", lambda a: a.http_status),
    ("input_tokens", "bigint", lambda a: a.usage.input_tokens),
    ("output_tokens", "bigint", lambda a: a.usage.output_tokens),
    ("cache_read_tokens", "bigint", lambda a: a.usage.cache_read_tokens),
    ("cache_write_tokens", "bigint", lambda a: a.usage.cache_write_tokens),
    ("reasoning_tokens", "bigint", lambda a: a.usage.reasoning_tokens),
    ("accuracy", "text", lambda a: a.usage.accuracy),
    ("cost_micro_usd", "bigint", lambda a: a.cost_micro_usd),
    ("cache_saving_micro_usd", "bigint", lambda a: a.cache_saving_micro_usd),
    ("finish_reason", "text", lambda a: a.finish_reason or ""),
    ("streamed", "boolean", lambda a: a.streamed),
    ("hedge", "boolean", lambda a: a.hedge),
    ("labels", "text", lambda a: labels_text(a.labels)),
    ("trace_id", "text", lambda a: a.trace_id),
    ("price_version", "text", lambda a: a.price_version),
    ("route_key", "text", lambda a: a.route_key),
    ("route_endpoint", "text", lambda a: a.route_endpoint),
    ("switched", "text", lambda a: a.switched or ""),
    ("rank", "smallint", lambda a: a.rank),
)
#: Columns that travel as another type than they are kept as. Intervals count microseconds exactly; to_timestamp()
#: does not.
CASTS = {
    "started": "timestamptz 'epoch' + started * interval '1 microsecond'",
    "labels": "labels::jsonb",
}


def attempt_of(row: asyncpg.Record) -> Attempt:
    """Returns the attempt that a row of all `COLUMNS` keeps."""
    return Attempt(
        attempt_id=row["attempt_id"],
        request_id=row["request_id"],
        attempt_number=row["attempt_number"],
        tenant=row["tenant"],
        provider=row["provider"],
        model=row["model"],
        started=epoch(row["started"]),
        outcome=Outcome(row["outcome"]),
        campaign=row["campaign"],
        content_type=row["content_type"],
        latency=seconds(row["latency_us"]),
        time_to_first_token=seconds(row["ttft_us"]),
        error_class=ErrorClass(row["error_class"]) if row["error_class"] else None,
        http_status=row["http_status"],
        usage=Usage(
            row["input_tokens"],
            row["output_tokens"],
            row["cache_read_tokens"],
            row["cache_write_tokens"],
            row["reasoning_tokens"],
            UsageAccuracy(row["accuracy"]),
        ),
        cost_micro_usd=row["cost_micro_usd"],
        cache_saving_micro_usd=row["cache_saving_micro_usd"],
        finish_reason=FinishReason(row["finish_reason"]) if row["finish_reason"] else None,
        streamed=row["streamed"],
        hedge=row["hedge"],
        labels=labels_of(row["labels"]),
        trace_id=row["trace_id"],
        price_version=row["price_version"],
        route_key=row["route_key"],
        route_endpoint=row["route_endpoint"],
        switched=RoutePart(row["switched"]) if row["switched"] else None,
    )
