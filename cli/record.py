"""One line of a batch's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import to_builtins

from cli.failure import error_fields
from cli.rows import Row
from libs.client import Result
from libs.errors import PointsmanError


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a row: an answer or an error."""

    row: Row
    request_id: str
    answer: Result | PointsmanError


def to_record(outcome: Outcome, run_id: str) -> dict[str, Any]:
    """Returns the line as JSON. Latency in seconds, cost in millionths of a US dollar; `attempts` counts provider
    calls and `failed_attempts` names those that failed."""
    row, answer = outcome.row, outcome.answer
    record: dict[str, Any] = {
        "index": row.index,
        "id": row.id,
        "ok": isinstance(answer, Result),
        "request_id": outcome.request_id,
        "run_id": run_id,
        "fingerprint": row.fingerprint,
    }
    if isinstance(answer, PointsmanError):
        record["error"] = error_fields(answer)
        return record
    record |= {
        "text": answer.text,
        "provider": answer.selection.provider,
        "model": answer.selection.model,
        "reason": answer.selection.reason,
        "finish_reason": answer.finish_reason,
        "attempts": len(answer.attempts),
        "failed_attempts": [
            {
                "provider": attempt.provider,
                "model": attempt.model,
                "error_class": attempt.error_class,
                "http_status": attempt.http_status,
                "message": attempt.message,
            }
            for attempt in answer.attempts
            if attempt.error_class is not None
        ],
        "degradation": answer.degradation,
        "budgets": [str(notice) for notice in answer.budgets],
        "cached": answer.cached,
        "usage": to_builtins(answer.usage),
        "cost_micro_usd": answer.cost_micro_usd,
        "latency": answer.latency,
    }
    return record
