"""Holds one tenant's failures at a target back while others are answered there. Pure; bounded memory.

What a tenant sends may be what its provider fails at, and then says nothing about the target. So its failures are
held until somebody else's call decides: another tenant's failure confirms them, another tenant's answer to a call
that began after them drops them. Where nobody else has been answered for CONTRADICTED seconds, nobody can decide, and
they count.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from services.router.health.answer_times import CONTRADICTED, AnswerTimes

#: Failures that are held, at most: more than it takes to open a circuit.
MOST: Final = 20
#: How long one is held, seconds: as long as a circuit's window.
LONGEST: Final = 10.0

T = TypeVar("T")


class HeldFailures(Generic[T]):
    """One target's. Instants in seconds on any one clock."""

    __slots__ = ("_answered", "_held", "_tenant")

    def __init__(self) -> None:
        self._answered = AnswerTimes()
        #: When it ended, and the failure; all of one tenant.
        self._held: list[tuple[float, T]] = []
        self._tenant = ""

    def answered(self, began: float, ended: float, tenant: str) -> None:
        """A call of the tenant's was."""
        self._answered.add(ended, tenant)
        if self._held and tenant != self._tenant and began >= self._held[0][0]:
            self._held.clear()

    def failed(self, now: float, tenant: str, failure: T) -> list[T]:
        """A call of the tenant's has failed: the failures that count because of it."""
        held = [entry for entry in self._held if now - entry[0] <= LONGEST]
        alone = not held or tenant == self._tenant
        if alone and now - self._answered.last_of_others(tenant) <= CONTRADICTED:
            self._tenant = tenant
            self._held = [*held[1 - MOST :], (now, failure)]
            return []
        self._held = []
        return [*[entry[1] for entry in held], failure]
