"""Amounts that one attempt takes from limits, and the refusal where they have no room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from libs.errors import QuotaViolation
from libs.limits import Amounts, Unit


class Denial(Struct, frozen=True):
    """The limiter's verdict that limits have no room. `retry_after`: seconds, None when waiting does not help. Kept
    and shared in place of the error, which holds the frames that it was raised through, and with them prompts."""

    violations: tuple[QuotaViolation, ...]
    retry_after: float | None


class AdmissionDenied(Exception):
    """Limits have no room for this attempt. `retry_after`: seconds, None when waiting does not help."""

    def __init__(self, violations: Sequence[QuotaViolation], retry_after: float | None) -> None:
        super().__init__("; ".join(v.description for v in violations))
        self.violations = tuple(violations)
        self.retry_after = retry_after

    @property
    def paced(self) -> bool:
        """Returns True if every limit without room is to be waited for rather than refused."""
        return bool(self.violations) and all(v.paced for v in self.violations)


def amounts_of(units: Mapping[Unit, int]) -> Amounts:
    """Returns the least amounts that give every unit so much."""
    incoming = units.get(Unit.INPUT_TOKENS, 0)
    outgoing = max(units.get(Unit.OUTPUT_TOKENS, 0), units.get(Unit.TOTAL_TOKENS, 0) - incoming)
    return Amounts(
        units.get(Unit.REQUESTS, 0),
        incoming,
        outgoing,
        units.get(Unit.MICRO_USD, 0),
        units.get(Unit.CONCURRENCY, 0),
    )
