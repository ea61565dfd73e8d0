"""Leased permission to try a target that may be broken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CircuitPermit:
    """A permit for one call. `expires` is on the clock that granted it; `generation` is the circuit's at that
    moment."""

    id: str
    generation: int
    expires: float


class CircuitPermits:
    """Grants at most `limit` permits at a time, each returning by itself after `ttl` seconds: a lost one blocks
    nobody."""

    __slots__ = ("_held", "_issued", "_limit", "_ttl")

    def __init__(self, limit: int = 1, ttl: float = 30.0) -> None:
        if limit < 1 or ttl <= 0:
            raise ValueError("permits need limit >= 1 and ttl > 0 seconds")
        self._limit = limit
        self._ttl = ttl
        self._issued = 0
        self._held: dict[str, CircuitPermit] = {}

    def acquire(self, now: float, generation: int, prefix: str = "") -> CircuitPermit | None:
        """Returns a permit for this generation, its id beginning with `prefix`; those of other generations do not
        count. None: all are taken."""
        self._held = {i: p for i, p in self._held.items() if p.expires > now and p.generation == generation}
        if len(self._held) >= self._limit:
            return None
        self._issued += 1
        permit = CircuitPermit(f"{prefix}{self._issued}", generation, now + self._ttl)
        self._held[permit.id] = permit
        return permit

    def release(self, permit_id: str) -> None:
        """Gives a permit back before it expires; unknown ones are ignored."""
        self._held.pop(permit_id, None)
