"""Rows of requests: their columns, from and to values."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import asyncpg
import msgspec

from services.analytics.ledger.attempt import Outcome
from services.analytics.ledger.postgres_attempts import epoch, labels_of, labels_text, micros, seconds
from services.analytics.ledger.request import ConsideredModel, RequestRecord


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


#: In the order of the fields of `ConsideredModel`, which are read by position.
_fields = attrgetter(*ConsideredModel.__slots__)

#: Column, type of the array it travels in, value.
REQUEST_COLUMNS: tuple[tuple[str, str, Callable[[RequestRecord], Any]], ...] = (
    ("record_id", "text", lambda r: r.record_id),
    ("request_id", "text", lambda r: r.request_id),
    ("tenant", "text", lambda r: r.tenant),
    ("campaign", "text", lambda r: r.campaign),
    ("content_type", "text", lambda r: r.content_type),
    ("labels", "text", lambda r: labels_text(r.labels)),
    ("started", "bigint", lambda r: micros(r.started)),
    ("latency_us", "bigint", lambda r: micros(r.latency)),
    ("ttft_us", "bigint", lambda r: micros(r.time_to_first_token)),
    ("outcome", "text", lambda r: r.outcome),
    ("error_reason", "text", lambda r: r.error_reason),
    ("attempts", "integer", lambda r: r.attempts),
    ("failed_over", "boolean", lambda r: r.failed_over),
    ("degradation", "text", lambda r: r.degradation),
    ("strategy", "text", lambda r: r.strategy),
    ("policy", "text", lambda r: r.policy),
    ("policy_version", "text", lambda r: r.policy_version),
    ("estimated_input_tokens", "bigint", lambda r: r.estimated_input_tokens),
    ("max_output_tokens", "bigint", lambda r: r.max_output_tokens),
    ("capabilities", "text", lambda r: _json(r.capabilities)),
    ("candidates", "text", lambda r: _json([_fields(candidate) for candidate in r.candidates])),
    ("provider", "text", lambda r: r.provider),
    ("model", "text", lambda r: r.model),
    ("probability", "real", lambda r: r.probability),
    ("queued_us", "bigint", lambda r: micros(r.queued)),
    ("paused_us", "bigint", lambda r: micros(r.paused)),
    ("cost_micro_usd", "bigint", lambda r: r.cost_micro_usd),
    ("streamed", "boolean", lambda r: r.streamed),
    ("cached", "boolean", lambda r: r.cached),
    ("trace_id", "text", lambda r: r.trace_id),
)
#: Columns that travel as another type than they are kept as.
REQUEST_CASTS = {
    "started": "timestamptz 'epoch' + started * interval '1 microsecond'",
    "labels": "labels::jsonb",
    "candidates": "candidates::jsonb",
    "capabilities": "ARRAY(SELECT jsonb_array_elements_text(capabilities::jsonb))",
}


def request_of(row: asyncpg.Record) -> RequestRecord:
    """Returns the request that a row of all `REQUEST_COLUMNS` keeps."""
    return RequestRecord(
        record_id=row["record_id"],
        request_id=row["request_id"],
        tenant=row["tenant"],
        started=epoch(row["started"]),
        latency=seconds(row["latency_us"]) or 0.0,
        outcome=Outcome(row["outcome"]),
        campaign=row["campaign"],
        content_type=row["content_type"],
        labels=labels_of(row["labels"]),
        time_to_first_token=seconds(row["ttft_us"]),
        error_reason=row["error_reason"],
        attempts=row["attempts"],
        failed_over=row["failed_over"],
        degradation=row["degradation"],
        strategy=row["strategy"],
        policy=row["policy"],
        policy_version=row["policy_version"],
        estimated_input_tokens=row["estimated_input_tokens"],
        max_output_tokens=row["max_output_tokens"],
        capabilities=tuple(row["capabilities"]),
        candidates=tuple(ConsideredModel(*fields) for fields in msgspec.json.decode(row["candidates"])),
        provider=row["provider"],
        model=row["model"],
        probability=row["probability"],
        queued=row["queued_us"] / 1e6,
        paused=row["paused_us"] / 1e6,
        cost_micro_usd=row["cost_micro_usd"],
        streamed=row["streamed"],
        cached=row["cached"],
        trace_id=row["trace_id"],
    )
