"""Holds one tenant's failures at a target back while others are answered there. Pure; bounded memory.

A tenant's own text may be the reason why its provider fails, which says nothing about the target. So its failures are
held until another tenant's call decides: a failure confirms them, an answer to a call that began after them drops
them. Where no other tenant has been answered for CONTRADICTED seconds, nobody can decide, and they count.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from services.router.health.answer_times import CONTRADICTED, AnswerTimes

#: Failures that are held at most: more than it takes to open a circuit.
MOST: Final = 20
#: Seconds for which a failure is held: as long as a circuit's window.
LONGEST: Final = 10.0

T = TypeVar("T")


class HeldFailures(Generic[T]):
    """The held failures of one target. Instants in seconds on any one clock."""

    __slots__ = ("_answered", "_held", "_tenant")

    def __init__(self) -> None:
        self._answered = AnswerTimes()
        #: (instant of its end, the failure); all of one tenant.
        self._held: list[tuple[float, T]] = []
        self._tenant = ""

    def record_answer(self, began: float, ended: float, tenant: str) -> None:
        """Records a tenant's answered call; drops the failures of another tenant that it disproves."""
        self._answered.add(ended, tenant)
        if self._held and tenant != self._tenant and began >= self._held[0][0]:
            self._held.clear()

    def last_answer_to_others(self, tenant: str) -> float:
        """Returns the instant of the last answer to another tenant than this; minus infinity: never."""
        return self._answered.last_of_others(tenant)

    def record_failure(self, now: float, tenant: str, failure: T) -> list[T]:
        """Records a tenant's failed call. Returns the failures that count because of it, earlier ones first; empty
        where it is held."""
        held = [entry for entry in self._held if now - entry[0] <= LONGEST]
        alone = not held or tenant == self._tenant
        if alone and now - self._answered.last_of_others(tenant) <= CONTRADICTED:
            self._tenant = tenant
            self._held = [*held[1 - MOST :], (now, failure)]
            return []
        self._held = []
        return [*[entry[1] for entry in held], failure]
