"""Who was answered last, so that one caller's failures are told from everybody's. Pure; constant memory.

What a caller says can make a provider fail, or say what sounds like a failure of its own. So nothing that all callers
share is concluded from one caller's failures while others are answered at the same place.
"""

from __future__ import annotations

#: Callers that were answered this recently still call, seconds.
RECENT = 60.0
#: Another's answer contradicts one caller's failures, however plain they are, for so long, seconds.
CONTRADICTED = 5.0


class AnswerTimes:
    """Answers of one place: a model, or a region's providers. `now`: seconds on any one clock."""

    __slots__ = ("at", "count", "other", "other_at", "tenant")

    def __init__(self) -> None:
        self.count = 0
        #: The last that was answered, and the last but one of another tenant.
        self.tenant = self.other = ""
        self.at = self.other_at = float("-inf")

    def add(self, now: float, tenant: str) -> None:
        """One more."""
        self.count += 1
        if tenant != self.tenant:
            self.other, self.other_at = self.tenant, self.at
            self.tenant = tenant
        self.at = now

    def last_of_others(self, tenant: str) -> float:
        """When somebody else than `tenant` was answered last; minus infinity: never."""
        return self.other_at if tenant == self.tenant else self.at
