"""One provider attempt as the ledger keeps it, and the order of records of one attempt from worse to better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from libs.bounds import MAX_ID, MAX_TOKENS
from libs.limits import MAX_NAME
from libs.types import ErrorClass, FinishReason, RoutePart, Usage, UsageAccuracy
from services.analytics.ledger.record_bounds import (
    MAX_COST_MICRO_USD,
    MAX_DURATION,
    MAX_PRICE_VERSION,
    MAX_TRACE_ID,
    check_between,
    check_labels,
    check_required,
    check_started,
    check_text,
)

MAX_ATTEMPT_NUMBER = 10_000
MAX_HTTP_STATUS = 999


class Outcome(StrEnum):
    """The end of an attempt."""

    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


_ACCURACY_RANK = {UsageAccuracy.EXACT: 3, UsageAccuracy.ESTIMATED: 2, UsageAccuracy.UNCERTAIN: 1}
_KNOWN_END = 4


@dataclass(frozen=True, slots=True)
class Attempt:
    """A record of one attempt. Instants are epoch seconds, durations seconds; None means not known.

    Raises UnusableRecord where a field is out of its bounds (those of `UsageEvent` in the proto).
    """

    attempt_id: str
    request_id: str
    attempt_number: int
    tenant: str
    provider: str
    model: str
    started: float
    outcome: Outcome
    campaign: str = ""
    content_type: str = ""
    latency: float | None = None
    time_to_first_token: float | None = None
    error_class: ErrorClass | None = None
    http_status: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_micro_usd: int = 0
    #: Micro-USD that the same usage would have cost more without the provider's prompt cache.
    cache_saving_micro_usd: int = 0
    finish_reason: FinishReason | None = None
    streamed: bool = False
    hedge: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    trace_id: str = ""
    price_version: str = ""
    #: The names of the key and the endpoint, where the provider has several.
    route_key: str = ""
    route_endpoint: str = ""
    #: The part of the route that replaced the one by which the attempt before failed.
    switched: RoutePart | None = None

    def __post_init__(self) -> None:
        check_required("attempt_id", self.attempt_id)
        check_required("request_id", self.request_id)
        check_required("tenant", self.tenant)
        check_required("provider", self.provider)
        check_required("model", self.model)
        check_text("campaign", self.campaign, MAX_ID)
        check_text("content_type", self.content_type, MAX_ID)
        check_text("trace_id", self.trace_id, MAX_TRACE_ID)
        check_text("price_version", self.price_version, MAX_PRICE_VERSION)
        check_text("route_key", self.route_key, MAX_NAME)
        check_text("route_endpoint", self.route_endpoint, MAX_NAME)
        if self.labels:
            check_labels(self.labels)
        check_between("attempt_number", self.attempt_number, 1, MAX_ATTEMPT_NUMBER)
        check_between("http_status", self.http_status, 0, MAX_HTTP_STATUS)
        check_between("cost.micro_usd", self.cost_micro_usd, 0, MAX_COST_MICRO_USD)
        check_between("cache_saving.micro_usd", self.cache_saving_micro_usd, 0, MAX_COST_MICRO_USD)
        usage = self.usage
        check_between("usage.input_tokens", usage.input_tokens, 0, MAX_TOKENS)
        check_between("usage.output_tokens", usage.output_tokens, 0, MAX_TOKENS)
        check_between("usage.cache_read_tokens", usage.cache_read_tokens, 0, MAX_TOKENS)
        check_between("usage.cache_write_tokens", usage.cache_write_tokens, 0, MAX_TOKENS)
        check_between("usage.reasoning_tokens", usage.reasoning_tokens, 0, MAX_TOKENS)
        if self.latency is not None:
            check_between("latency", self.latency, 0.0, MAX_DURATION)
        if self.time_to_first_token is not None:
            check_between("time_to_first_token", self.time_to_first_token, 0.0, MAX_DURATION)
        check_started(self.started)

    @property
    def rank(self) -> int:
        """The quality of the record, 1 to 7; a better one replaces a worse one of the same attempt. A known end beats
        an unknown one, then exact beats estimated beats uncertain. Stored: numbers must keep their meaning."""
        known = 0 if self.outcome is Outcome.UNKNOWN else _KNOWN_END
        return known + _ACCURACY_RANK[self.usage.accuracy]


def best_by_id(attempts: Iterable[Attempt]) -> dict[str, Attempt]:
    """Returns the best record of each attempt; of equally good ones the first."""
    best: dict[str, Attempt] = {}
    for attempt in attempts:
        kept = best.setdefault(attempt.attempt_id, attempt)
        if kept is not attempt and attempt.rank > kept.rank:
            best[attempt.attempt_id] = attempt
    return best
