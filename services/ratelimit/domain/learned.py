"""Limits that routers learned from providers: their evidence merged, and the limits that hold because of it. Pure.

A limit that headers state is the account's: the latest statement counts. A rate learned from refusals is one router's
own share: the account's is the sum over the routers that were refused, and what the others let through meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.limits import LimitKey, Period, Scope, ScopeKind, Unit
from services.ratelimit.domain.limits import MAX_BUCKET, MAX_COUNTER, Limit

#: From this confidence on a learned limit is enforced; below, it is counted and shown.
TRUST = 0.75
#: A word older than this counts no more, seconds: of headers, of refusals; and of a router's load.
HEADERS_COUNT = 3600.0
REFUSALS_COUNT = 900.0
LOADS_COUNT = 30.0
#: Routers that were not refused may grow by this factor.
ROOM = 1.05
#: Confidence in a rate that routers with more than half of the load have not found, or found to explain nothing, as a
#: factor: too little to act on.
OUTVOTED = 0.5
#: A sum over routers moves all the time: what holds is replaced when it is off by more than this share.
DRIFT = 0.1
#: A rate learned from refusals may be used at once by this part of it: a provider that refuses has no full bucket.
REFUSED_BURST = 10
MAX_OBSERVED = 4096

_KINDS = (ScopeKind.MODEL, ScopeKind.PROVIDER)


class Source(StrEnum):
    """The kind of evidence that a learned limit rests on."""

    HEADERS = "headers"
    REFUSALS = "refusals"


@dataclass(frozen=True, slots=True)
class Observation:
    """One router's word on one limit. `value`: the account's (HEADERS) or the router's own share (REFUSALS).
    `confidence` 0 to 1; `seen` in epoch seconds. Raises InvalidArgument."""

    key: LimitKey
    value: int
    confidence: float
    source: Source
    seen: float
    observations: int

    def __post_init__(self) -> None:
        faults = []
        if self.key.scope.kind not in _KINDS:
            faults.append(FieldViolation("observed.limits.scope", "must be of kind model or provider"))
        if self.key.unit in (Unit.CONCURRENCY, Unit.MICRO_USD) or self.key.period is Period.NONE:
            faults.append(FieldViolation("observed.limits.unit", "must be requests or tokens, per period"))
        most = MAX_BUCKET if self.key.period.seconds else MAX_COUNTER
        if not 1 <= self.value <= most:
            faults.append(FieldViolation("observed.limits.limit", f"must be from 1 to {most}"))
        if not 0 <= self.confidence <= 1:
            faults.append(FieldViolation("observed.limits.confidence", "must be from 0 to 1"))
        if self.observations < 1:
            faults.append(FieldViolation("observed.limits.observations", "must be at least 1"))
        if faults:
            raise InvalidArgument(faults, reason="BAD_OBSERVATION")


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a router has learned. `loads`: calls in the last minute by scope. `at`: when it was sent, epoch
    seconds. Raises InvalidArgument."""

    limits: tuple[Observation, ...] = ()
    loads: Mapping[Scope, int] = field(default_factory=dict)
    at: float = 0.0

    def __post_init__(self) -> None:
        faults = []
        check_count("observed", len(self.limits) + len(self.loads), MAX_OBSERVED)
        if any(load < 0 for load in self.loads.values()):
            faults.append(FieldViolation("observed.loads.calls", "must be at least 0"))
        if faults:
            raise InvalidArgument(faults, reason="BAD_OBSERVATION")


@dataclass(frozen=True, slots=True)
class Learned:
    """The evidence of all routers together for one limit. `value`: the account's."""

    value: int
    confidence: float
    source: Source
    seen: float
    observations: int

    @property
    def trusted(self) -> bool:
        """Returns True if it is sure enough to act on."""
        return self.confidence >= TRUST


def merge(said: Mapping[str, Observed], now: float) -> dict[LimitKey, Learned]:
    """By router → by limit. Where both sources are trusted, the lower value counts; else the surer one."""
    headers: dict[LimitKey, list[Observation]] = {}
    refusals: dict[LimitKey, dict[str, Observation]] = {}
    for holder, observed in said.items():
        for entry in observed.limits:
            if entry.source is Source.HEADERS and now - entry.seen <= HEADERS_COUNT:
                headers.setdefault(entry.key, []).append(entry)
            elif entry.source is Source.REFUSALS and now - entry.seen <= REFUSALS_COUNT:
                refusals.setdefault(entry.key, {})[holder] = entry
    found: dict[LimitKey, list[Learned]] = {}
    for key, entries in headers.items():
        found.setdefault(key, []).append(_stated(entries))
    for key, shares in refusals.items():
        found.setdefault(key, []).append(_summed(key, shares, said, now))
    return {key: _chosen(words) for key, words in found.items()}


def apply(
    configured: Mapping[LimitKey, Limit],
    learned: Mapping[LimitKey, Learned],
    before: Mapping[LimitKey, Limit],
    *,
    share: float,
    enforce: bool,
) -> dict[LimitKey, Limit]:
    """The limits that hold because something was learned, by name; the others are as configured.

    Only trusted ones: each caps a configured limit, and holds where none is configured, at `share` of what the
    provider said, or at all of what refusals taught, which is below the provider's limit by itself. Where they are
    not to be enforced, they are counted as shadow limits. `before`: what held because of this so far."""
    holding: dict[LimitKey, Limit] = {}
    for key, word in learned.items():
        base = configured.get(key)
        if not word.trusted:
            continue
        value = word.value
        burst = None
        if word.source is Source.HEADERS:
            value = max(1, int(value * share))
        else:
            old = before.get(key)
            if old is not None and abs(old.limit - value) <= DRIFT * old.limit:
                value = old.limit
            burst = max(1, value // REFUSED_BURST)
        if base is None:
            holding[key] = Limit(key, value, burst, shadow=not enforce)
        elif enforce and not base.shadow and value < base.limit:
            if base.burst is not None:
                burst = min(base.burst, burst or value)
            holding[key] = replace(base, limit=value, burst=burst)
    return holding


def _stated(entries: Sequence[Observation]) -> Learned:
    latest = max(entries, key=lambda entry: entry.seen)
    agreeing = [entry.confidence for entry in entries if entry.value == latest.value]
    total = sum(entry.observations for entry in entries)
    return Learned(latest.value, max(agreeing), Source.HEADERS, latest.seen, total)


def _summed(
    key: LimitKey, shares: Mapping[str, Observation], said: Mapping[str, Observed], now: float
) -> Learned:
    loads = {
        holder: observed.loads.get(key.scope, 0)
        for holder, observed in said.items()
        if now - observed.at <= LOADS_COUNT
    }
    # A router that is gone takes its share with it.
    live = [entry for holder, entry in shares.items() if holder in loads] or list(shares.values())
    others = sum(load for holder, load in loads.items() if holder not in shares)
    refused = sum(load for holder, load in loads.items() if holder in shares)
    confidence = max(entry.confidence for entry in shares.values())
    most = MAX_BUCKET if key.period.seconds else MAX_COUNTER
    return Learned(
        min(most, sum(entry.value for entry in live) + int(ROOM * others)),
        confidence if refused >= others else confidence * OUTVOTED,
        Source.REFUSALS,
        max(entry.seen for entry in shares.values()),
        sum(entry.observations for entry in shares.values()),
    )


def _chosen(words: Sequence[Learned]) -> Learned:
    trusted = [word for word in words if word.trusted]
    if trusted:
        return min(trusted, key=lambda word: word.value)
    return max(words, key=lambda word: word.confidence)
