"""The refusal of an attempt for which limits have no room."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from libs.errors import QuotaViolation


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
