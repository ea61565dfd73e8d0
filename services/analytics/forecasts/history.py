"""Hourly use as forecasts need it, and the port that reads it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from libs.limits import Scope, ScopeKind

HOUR: Final = 3600
#: Days of the past that are read.
HISTORY_DAYS: Final = 60
#: Rows (an hour of one key) of one history; more are refused.
MAX_HISTORY_ROWS: Final = 200_000


class Part(StrEnum):
    """A part that use is split by; a model is named with its provider."""

    TENANT = "tenant"
    PROVIDER = "provider"
    MODEL = "model"


class Measure(StrEnum):
    """An amount that is counted per hour. ATTEMPTS are calls of providers, REQUESTS those of callers."""

    COST = "cost"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    TOKENS = "tokens"
    REQUESTS = "requests"
    ATTEMPTS = "attempts"


#: The measures that are read; TOKENS is the sum of two.
COUNTED: Final = (
    Measure.COST,
    Measure.INPUT_TOKENS,
    Measure.OUTPUT_TOKENS,
    Measure.REQUESTS,
    Measure.ATTEMPTS,
)


@dataclass(frozen=True, slots=True)
class UseKey:
    """The parts that use belongs to; "" where it is not split by one."""

    tenant: str = ""
    provider: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class HourOfUse:
    """Use by one key in one hour (`hour`: hours since the epoch), by measure of COUNTED; money in micro-USD."""

    key: UseKey
    hour: int
    amounts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Filters:
    """Only the use of these; None takes all. `model`: by its name, or as "provider/model"."""

    tenant: str | None = None
    provider: str | None = None
    model: str | None = None

    def take(self, key: UseKey) -> bool:
        """Returns True if they take use by provider and model; of tenants nothing is asked."""
        return self.provider in (None, key.provider) and self.model in (
            None,
            key.model,
            f"{key.provider}/{key.model}",
        )

    def take_all(self, scope: Scope) -> bool:
        """Returns True if they take all use of a tenant, provider or model: a limit can be compared with it."""
        if self.tenant is not None and (scope.kind is not ScopeKind.TENANT or scope.name != self.tenant):
            return False
        if self.model is not None:
            named = scope.name in (self.model, f"{self.provider}/{self.model}")
            return scope.kind is ScopeKind.MODEL and (
                named or (self.provider is None and scope.name.endswith(f"/{self.model}"))
            )
        if self.provider is None:
            return True
        whole = scope.kind is ScopeKind.PROVIDER and scope.name == self.provider
        return whole or (scope.kind is ScopeKind.MODEL and scope.name.startswith(f"{self.provider}/"))


class UseHistory(Protocol):
    """Reads hourly use from what the ledger holds."""

    async def hours(
        self, first: int, end: int, parts: Collection[Part], filters: Filters
    ) -> Sequence[HourOfUse]:
        """Returns the use in the hours [first, end) since the epoch, at most HISTORY_DAYS of them, split by `parts`;
        hours without use are left out. Raises FailedPrecondition for more than MAX_HISTORY_ROWS, Unavailable,
        DeadlineExceeded."""
        ...


@dataclass(slots=True)
class History:
    """Series of use in the hours from `first` on, one a key, all `count` long."""

    first: int
    count: int
    series: dict[UseKey, dict[Measure, list[float]]] = field(default_factory=dict)

    def add(self, key: UseKey, measure: Measure, amounts: Iterable[float]) -> None:
        """Adds amounts, one an hour, to the key's."""
        own = self.series.setdefault(key, {one: [0.0] * self.count for one in COUNTED})[measure]
        for i, amount in enumerate(amounts):
            own[i] += amount

    def taken(self, filters: Filters) -> History:
        """Returns the history of the providers and models that filters take."""
        chosen = {key: series for key, series in self.series.items() if filters.take(key)}
        return History(self.first, self.count, chosen)

    def total(self, measure: Measure, keys: Iterable[UseKey]) -> list[float]:
        """Returns the sum over some of its keys, hour by hour."""
        measures = (Measure.INPUT_TOKENS, Measure.OUTPUT_TOKENS) if measure is Measure.TOKENS else (measure,)
        columns = [self.series[key][one] for key in keys for one in measures]
        return [sum(column) for column in zip(*columns, strict=True)] if columns else [0.0] * self.count

    def sums(self, keys: Iterable[UseKey]) -> Mapping[Measure, float]:
        """Returns the sum over some of its keys and all hours, by measure of COUNTED."""
        chosen = list(keys)
        return {one: sum(sum(self.series[key][one]) for key in chosen) for one in COUNTED}


def history_of(rows: Iterable[HourOfUse], first: int, end: int) -> History:
    """Returns the rows as series."""
    found = History(first, end - first)
    for row in rows:
        own = found.series.setdefault(row.key, {one: [0.0] * found.count for one in COUNTED})
        for measure, amount in zip(COUNTED, row.amounts, strict=True):
            own[measure][row.hour - first] += amount
    return found
