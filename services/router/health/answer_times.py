"""Times of the last answers by tenant, which tell one caller's failures from everybody's. Pure; constant memory.

A caller's text can make a provider fail, or answer with words that sound like a failure of its own. So nothing that
all callers share is concluded from one caller's failures while others are answered at the same place.
"""

from __future__ import annotations

#: Callers that were answered within this time still call, seconds.
RECENT = 60.0
#: For this time another caller's answer contradicts one caller's failures, however plain they are, seconds.
CONTRADICTED = 5.0


class AnswerTimes:
    """The last answers of one place: a model, or a region's providers. `now`: seconds on any one clock."""

    __slots__ = ("at", "count", "other", "other_at", "tenant")

    def __init__(self) -> None:
        self.count = 0
        #: The tenant that was answered last, and the last one before it that was another.
        self.tenant = self.other = ""
        self.at = self.other_at = float("-inf")

    def add(self, now: float, tenant: str) -> None:
        """Records an answer to the tenant."""
        self.count += 1
        if tenant != self.tenant:
            self.other, self.other_at = self.tenant, self.at
            self.tenant = tenant
        self.at = now

    def last_of_others(self, tenant: str) -> float:
        """Returns the instant of the last answer to another tenant than this; minus infinity: never."""
        return self.other_at if tenant == self.tenant else self.at
