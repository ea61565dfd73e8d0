"""Records of requests, as routers send them."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from libs.request_record import ConsideredModel, RequestRecord
from libs.selection import Scores, Strategy
from tests.support.ledger import NOW


def sent_request(**fields: Any) -> RequestRecord:
    """A request of a minute ago that its first attempt answered."""
    return structs.replace(_BASE, **fields)


_BASE = RequestRecord(
    record_id="q1",
    request_id="r1",
    tenant="acme",
    campaign="",
    content_type="general",
    labels={"k": "v"},
    started=NOW - 60,
    latency=0.25,
    time_to_first_token=None,
    outcome="success",
    error_reason="",
    attempts=1,
    failed_over=False,
    degradation=None,
    strategy=Strategy.BALANCED,
    policy="default",
    policy_version="v1",
    estimated_input_tokens=3,
    max_output_tokens=4,
    capabilities=["json"],
    candidates=[ConsideredModel("a/m", "", 0, Scores(0.5, total=0.25), 7)],
    provider="a",
    model="m",
    probability=0.5,
    queued=0.0,
    paused=0.0,
    cost_micro_usd=7,
    streamed=False,
    cached=False,
    trace_id="",
)
