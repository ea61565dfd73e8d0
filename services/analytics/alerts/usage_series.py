"""The history that the detection reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.analytics.alerts.alert import Subject
from services.analytics.alerts.shares import Count

#: The dimensions by which a change is explained, and of those the ones that have a spend of their own to watch.
DIMENSIONS = ("tenant", "provider", "model", "content_type", "campaign")
#: Values of a dimension that are watched, or looked through for an explanation: those that are foremost by what they
#: cost, by their attempts, or by those that failed.
MOST_VALUES = 200
#: Reasons in errors that a caller, its limits or its content are the cause of: they say nothing of reliability.
CALLERS_OWN = (
    "INVALID_ARGUMENT",
    "INVALID_REQUEST",
    "CONTENT_REFUSED",
    "CONTEXT_TOO_LONG",
    "UNSUPPORTED_HERE",
    "NO_CANDIDATE",
    "LIMIT_EXCEEDED",
    "REQUEST_ABOVE_LIMIT",
    "REQUEST_ID_IN_USE",
    "UNKNOWN_MODEL",
)


@dataclass(frozen=True, slots=True)
class Use:
    """Attempts of one span: what they cost in micro-USD, and how many ended and failed."""

    cost: int
    count: Count


class UsageSeries(Protocol):
    """Sums over spans of time, from the ledger. A span is from one of `bounds` (epoch seconds, ascending) to the
    next, its end not included. Both methods raise Unavailable while the store is gone, and DeadlineExceeded."""

    async def attempts(
        self, dimension: str | None, bounds: Sequence[float], subject: Subject = ()
    ) -> Mapping[str, Sequence[Use]]:
        """Returns the sums of each span by the values of a dimension ("tenant", ..., "error_class"), of the
        MOST_VALUES that are foremost; None: of all traffic, under "". `subject`: only attempts of it."""
        ...

    async def requests(self, dimension: str | None, bounds: Sequence[float]) -> Mapping[str, Sequence[Count]]:
        """Returns how many requests of each span got an answer or an error that was not their caller's own, and how
        many of them an error, as `attempts` by "tenant" or None."""
        ...
