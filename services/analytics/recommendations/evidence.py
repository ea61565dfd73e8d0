"""The daily figures that rules look at, and the port for those of which no sums are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from libs.types import Usage


@dataclass(frozen=True, slots=True)
class ModelUse:
    """The use of a model for a content type on one day (`day`: its place in the window, from 0). Money in
    micro-USD."""

    day: int
    content_type: str
    model: str
    calls: int
    cost: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class ProviderCalls:
    """Calls of a provider for a content type on one day. `faults`: those that failed by its own doing."""

    day: int
    content_type: str
    provider: str
    calls: int
    faults: int


@dataclass(frozen=True, slots=True)
class TenantUse:
    """Requests of a tenant for a content type on one day that reached a provider; `cost` in micro-USD."""

    day: int
    tenant: str
    content_type: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost: int


@dataclass(frozen=True, slots=True)
class HedgeUse:
    """Hedges for a content type on one day. `won`: those that gave the answer; `extra_cost`: micro-USD for the
    attempts of these requests that lost."""

    day: int
    content_type: str
    hedges: int
    won: int
    extra_cost: int


@dataclass(frozen=True, slots=True)
class CutAnswers:
    """Answers to a tenant for a content type on one day that ended at the limit of their tokens."""

    day: int
    tenant: str
    content_type: str
    answers: int
    cost: int


@dataclass(frozen=True, slots=True)
class Refusals:
    """Requests of a tenant on one day that a limit refused."""

    day: int
    tenant: str
    requests: int


@dataclass(frozen=True, slots=True)
class ExhaustedQuota:
    """A quota that was used up on some days of the window (of a month: on those left of it). `windows`: how often."""

    scope: str
    unit: str
    period: str
    limit: int
    windows: int
    days: frozenset[int]


@dataclass(frozen=True, slots=True)
class StrategyUse:
    """Requests that were chosen for by one strategy."""

    strategy: str
    requests: int


@dataclass(frozen=True, slots=True)
class Details:
    """Figures that no report has."""

    hedges: Sequence[HedgeUse] = ()
    cut: Sequence[CutAnswers] = ()
    refusals: Sequence[Refusals] = ()
    strategies: Sequence[StrategyUse] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that rules look at: `days` whole days. `hours`: cost by hour of the owner's day; `cache_saving`:
    by providers' prompt caches; micro-USD."""

    days: int
    models: Sequence[ModelUse] = ()
    providers: Sequence[ProviderCalls] = ()
    tenants: Sequence[TenantUse] = ()
    quotas: Sequence[ExhaustedQuota] = ()
    details: Details = field(default_factory=Details)
    hours: Mapping[int, int] = field(default_factory=dict)
    cache_saving: int = 0

    @property
    def cost(self) -> int:
        """Returns what everything cost, micro-USD."""
        return sum(use.cost for use in self.models)


@dataclass(frozen=True, slots=True)
class Window:
    """Whole days: `starts` are their beginnings (epoch seconds), rising; the last one ends at `end`."""

    starts: tuple[float, ...]
    end: float
    time_zone: str


class DetailReader(Protocol):
    """Reads figures from attempts and requests. Raises Unavailable, DeadlineExceeded."""

    async def details(self, window: Window) -> Details:
        """Returns the window's; of more than MAX_DETAILS rows of a kind those with the most in them."""
        ...
