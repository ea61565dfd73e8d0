"""What one attempt takes from limits, and what it means when they have no room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from libs.errors import QuotaViolation

#: Unit names as in the catalog.
CONCURRENCY: Final = "concurrency"


class Amounts(Struct, frozen=True):
    """All >= 0. `requests` is also the concurrency taken."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    micro_usd: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.micro_usd + other.micro_usd,
        )

    def times(self, factor: float) -> Amounts:
        """Scaled and rounded up."""
        return Amounts(
            -int(-self.requests * factor // 1),
            -int(-self.input_tokens * factor // 1),
            -int(-self.output_tokens * factor // 1),
            -int(-self.micro_usd * factor // 1),
        )


class AdmissionDenied(Exception):
    """Limits have no room for this attempt. `retry_after`: seconds, None when waiting does not help."""

    def __init__(self, violations: Sequence[QuotaViolation], retry_after: float | None) -> None:
        super().__init__("; ".join(v.description for v in violations))
        self.violations = tuple(violations)
        self.retry_after = retry_after


def amount_of(unit: str, amounts: Amounts) -> int:
    """What an admission takes from a limit of this unit. Raises ValueError for a unit nobody knows."""
    if unit in ("requests", CONCURRENCY):
        return amounts.requests
    if unit == "input_tokens":
        return amounts.input_tokens
    if unit == "output_tokens":
        return amounts.output_tokens
    if unit == "total_tokens":
        return amounts.input_tokens + amounts.output_tokens
    if unit == "micro_usd":
        return amounts.micro_usd
    raise ValueError(f"unknown unit {unit!r}")
