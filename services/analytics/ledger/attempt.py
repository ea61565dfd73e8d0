"""One provider attempt as the ledger keeps it, and the order of records of one attempt from worse to better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from libs.bounds import MAX_ID
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy

MAX_TRACE_ID = 32
MAX_ATTEMPT_NUMBER = 10_000
MAX_HTTP_STATUS = 999
#: Seconds: 7 days. No provider call lives that long; a longer one is a unit gone wrong.
MAX_DURATION = 7 * 86_400.0
MAX_TOKENS = 10**9
#: A million dollars for one attempt. Nine million such attempts still fit a signed 64-bit sum.
MAX_COST_MICRO_USD = 10**12
MAX_LABELS = 32
MAX_LABEL_VALUE = 512
#: 2020-01-01T00:00:00Z. Earlier than any attempt, later than the zero of a clock never set.
MIN_STARTED = 1_577_836_800.0
#: Seconds that a reporter's clock may be ahead of ours: losing usage is worse than dating it badly.
MAX_AHEAD = 86_400.0


class UnusableAttempt(ValueError):
    """A record that can never be kept; the message gives the reason."""


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

    Raises UnusableAttempt where a field is out of its bounds (those of `UsageEvent` in the proto).
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
    #: What the same usage would have cost more without the provider's prompt cache.
    cache_saving_micro_usd: int = 0
    finish_reason: FinishReason | None = None
    streamed: bool = False
    hedge: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    trace_id: str = ""

    def __post_init__(self) -> None:
        _required("attempt_id", self.attempt_id)
        _required("request_id", self.request_id)
        _required("tenant", self.tenant)
        _required("provider", self.provider)
        _required("model", self.model)
        _text("campaign", self.campaign, MAX_ID)
        _text("content_type", self.content_type, MAX_ID)
        _text("trace_id", self.trace_id, MAX_TRACE_ID)
        if self.labels:
            _labels(self.labels)
        _between("attempt_number", self.attempt_number, 1, MAX_ATTEMPT_NUMBER)
        _between("http_status", self.http_status, 0, MAX_HTTP_STATUS)
        _between("cost.micro_usd", self.cost_micro_usd, 0, MAX_COST_MICRO_USD)
        _between("cache_saving.micro_usd", self.cache_saving_micro_usd, 0, MAX_COST_MICRO_USD)
        usage = self.usage
        _between("usage.input_tokens", usage.input_tokens, 0, MAX_TOKENS)
        _between("usage.output_tokens", usage.output_tokens, 0, MAX_TOKENS)
        _between("usage.cache_read_tokens", usage.cache_read_tokens, 0, MAX_TOKENS)
        _between("usage.cache_write_tokens", usage.cache_write_tokens, 0, MAX_TOKENS)
        _between("usage.reasoning_tokens", usage.reasoning_tokens, 0, MAX_TOKENS)
        if self.latency is not None:
            _between("latency", self.latency, 0.0, MAX_DURATION)
        if self.time_to_first_token is not None:
            _between("time_to_first_token", self.time_to_first_token, 0.0, MAX_DURATION)
        if not self.started >= MIN_STARTED:
            raise UnusableAttempt("started must be set and not before 2020-01-01")

    @property
    def rank(self) -> int:
        """The quality of the record, 1 to 7; a better one replaces a worse one of the same attempt. A known end beats
        an unknown one, then exact beats estimated beats uncertain. Stored: numbers must keep their meaning."""
        known = 0 if self.outcome is Outcome.UNKNOWN else _KNOWN_END
        return known + _ACCURACY_RANK[self.usage.accuracy]


def check_not_ahead(attempt: Attempt, now: float) -> None:
    """Raises UnusableAttempt where the attempt begins more than a day after `now` (epoch seconds)."""
    if attempt.started > now + MAX_AHEAD:
        raise UnusableAttempt("started is more than a day in the future")


def check_kept(attempt: Attempt, oldest: float) -> None:
    """Raises UnusableAttempt where the attempt began before `oldest` (epoch seconds): rows of that time are dropped,
    so nobody could tell whether it is a duplicate."""
    if attempt.started < oldest:
        raise UnusableAttempt("started is longer ago than the ledger keeps attempts")


def best_by_id(attempts: Iterable[Attempt]) -> dict[str, Attempt]:
    """Returns the best record of each attempt; of equally good ones the first."""
    best: dict[str, Attempt] = {}
    for attempt in attempts:
        kept = best.setdefault(attempt.attempt_id, attempt)
        if kept is not attempt and attempt.rank > kept.rank:
            best[attempt.attempt_id] = attempt
    return best


def _required(name: str, value: str) -> None:
    if not value:
        raise UnusableAttempt(f"{name} must not be empty")
    _text(name, value, MAX_ID)


def _text(name: str, value: str, most: int) -> None:
    if len(value) > most:
        raise UnusableAttempt(f"{name} must have at most {most} characters")
    if "\0" in value:
        raise UnusableAttempt(f"{name} must not hold a NUL character")


def check_label_count(count: int) -> None:
    """Raises UnusableAttempt where there are too many labels."""
    if count > MAX_LABELS:
        raise UnusableAttempt(f"labels must have at most {MAX_LABELS} entries")


def _labels(labels: Mapping[str, str]) -> None:
    check_label_count(len(labels))
    for key, value in labels.items():
        _required("labels key", key)
        _text("labels value", value, MAX_LABEL_VALUE)


def _between(name: str, value: float, least: float, most: float) -> None:
    # Written so that NaN fails as well.
    if not least <= value <= most:
        raise UnusableAttempt(f"{name} must be from {least:g} to {most:g}")
