"""What one attempt takes from limits, and what it means when they have no room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from libs.errors import QuotaViolation

#: Unit names as in the catalog.
CONCURRENCY: Final = "concurrency"


class Amounts(Struct, frozen=True):
    """All >= 0. `concurrency` None: as `requests`."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    micro_usd: int = 0
    concurrency: int | None = None

    @property
    def slots(self) -> int:
        """The concurrency taken."""
        return self.requests if self.concurrency is None else self.concurrency

    def most(self, other: Amounts) -> Amounts:
        """The larger of both, of each."""
        return Amounts(
            max(self.requests, other.requests),
            max(self.input_tokens, other.input_tokens),
            max(self.output_tokens, other.output_tokens),
            max(self.micro_usd, other.micro_usd),
            max(self.slots, other.slots),
        )

    def times(self, times: int) -> Amounts:
        """So many of them."""
        return Amounts(
            self.requests * times,
            self.input_tokens * times,
            self.output_tokens * times,
            self.micro_usd * times,
            self.slots * times,
        )


class AdmissionDenied(Exception):
    """Limits have no room for this attempt. `retry_after`: seconds, None when waiting does not help."""

    def __init__(self, violations: Sequence[QuotaViolation], retry_after: float | None) -> None:
        super().__init__("; ".join(v.description for v in violations))
        self.violations = tuple(violations)
        self.retry_after = retry_after

    @property
    def paced(self) -> bool:
        """Whether every limit without room is to be waited for rather than refused."""
        return bool(self.violations) and all(v.paced for v in self.violations)


def by_unit(amounts: Amounts) -> dict[str, int]:
    """What an admission takes from a limit of each unit."""
    return {
        "requests": amounts.requests,
        CONCURRENCY: amounts.slots,
        "input_tokens": amounts.input_tokens,
        "output_tokens": amounts.output_tokens,
        "total_tokens": amounts.input_tokens + amounts.output_tokens,
        "micro_usd": amounts.micro_usd,
    }


def amounts_of(units: Mapping[str, int]) -> Amounts:
    """The least amounts that give every unit so much."""
    incoming = units.get("input_tokens", 0)
    outgoing = max(units.get("output_tokens", 0), units.get("total_tokens", 0) - incoming)
    return Amounts(
        units.get("requests", 0),
        incoming,
        outgoing,
        units.get("micro_usd", 0),
        units.get(CONCURRENCY, 0),
    )
