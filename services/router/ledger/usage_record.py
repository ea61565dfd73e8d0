"""One provider attempt as the ledger keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from libs.types import ErrorClass, FinishReason, RoutePart, Usage


class Outcome(StrEnum):
    """The ways in which an attempt ends."""

    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    #: Its end was never seen: the process died.
    UNKNOWN = "unknown"


class UsageRecord(Struct, array_like=True):
    """One attempt for the ledger; written by the attempt alone, which knows its end later than its beginning.
    `started` is epoch seconds, durations are seconds. Plain values only: it is written to disk as it is, in this
    order: add fields at the end, with defaults."""

    attempt_id: str
    request_id: str
    attempt_number: int
    tenant: str
    campaign: str
    content_type: str
    provider: str
    model: str
    started: float
    latency: float
    time_to_first_token: float | None
    outcome: Outcome
    error_class: ErrorClass | None
    http_status: int
    usage: Usage | None
    cost_micro_usd: int
    finish_reason: FinishReason | None
    streamed: bool
    hedge: bool
    labels: Mapping[str, str]
    trace_id: str
    #: The failure in the provider's words, for the caller alone: never written down or sent to the ledger.
    message: str = ""
    #: The price that the cost was computed with; empty: not known, or nothing was used.
    price_version: str = ""
    #: Money that the provider's prompt cache saved: what the usage would have cost more without it.
    cache_saving_micro_usd: int = 0
    #: The record of the request that it answered, as it is sent (`libs.request_record`); empty: it answered none.
    request: bytes = b""
    #: The names of the key and the endpoint that it went by, where its provider has several; empty: it has not.
    key: str = ""
    endpoint: str = ""
    #: The part that replaced the one by which the attempt before failed at the same provider; None: it was another
    #: provider, or the same route.
    switched: RoutePart | None = None
