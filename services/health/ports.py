"""Ports: the interfaces that the use cases need from outside, each with its contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from libs.catalog.model import Provider
from libs.change import Change
from libs.resilience.circuit import BreakerState
from services.health.domain.evidence import Outcome, ProbePermit, ProbeResult
from services.health.domain.routes import RouteChange
from services.health.domain.target import Target


@dataclass(frozen=True, slots=True)
class Exchange:
    """Circuits, evidence and operators' changes that one replica sends to the others, or receives from them.
    `changes`: of each thing the one that stands; `unrecorded`: those that the history does not have yet."""

    circuits: Mapping[Target, BreakerState] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    probes: tuple[ProbeResult, ...] = ()
    routes: tuple[RouteChange, ...] = ()
    changes: tuple[Change, ...] = ()
    unrecorded: tuple[Change, ...] = ()


class HealthStore(Protocol):
    """The store that replicas share. Every method raises Unavailable while it is gone."""

    async def exchange(self, outgoing: Exchange) -> Exchange:
        """Merges circuits and changes into what is kept (the larger of each stays), adds what is unrecorded, hands
        evidence to the other replicas, and returns everything kept and the evidence that others have handed over
        since the last call. Each replica gets each piece of evidence at most once; old pieces are dropped. None of it
        is its own."""
        ...

    async def change(self, change: Change, follows: str, *, unrecorded: bool) -> Change | None:
        """Keeps a change, and adds it to what is unrecorded, unless one of its version or a later one stands, or one
        of the version before whose id is not `follows`; in one step. Returns None, or the one that stands where
        nothing has happened."""
        ...

    async def recorded(self, change_ids: Collection[str]) -> None:
        """Takes changes from those that are unrecorded."""
        ...

    async def acquire(
        self, target: Target, generation: int, prefix: str, limit: int, ttl: float
    ) -> ProbePermit | None:
        """Leases a permit whose id begins with `prefix`: at most `limit` at a time for this target and generation in
        the whole fleet. It returns by itself after `ttl` seconds. None: all are taken."""
        ...

    async def release(self, target: Target, generation: int, permit_id: str) -> None:
        """Gives a permit of this target and generation back early; an unknown one is ignored."""
        ...

    async def claim(self, name: str, ttl: float) -> bool:
        """Claims a task that is done once for the fleet. Returns True to one replica per `ttl` seconds."""
        ...


class ChangeLog(Protocol):
    """The history of changes. Every method raises Unavailable while it is gone."""

    async def record(self, changes: Sequence[Change]) -> None:
        """Keeps changes; those that it has already stay as they are."""
        ...

    async def standing(self) -> list[Change]:
        """Returns the change that stands of each thing of a `Kind`; the history may hold others too."""
        ...

    async def find(self, change_id: str) -> Change | None:
        """Returns the change of an id; None: it has none."""
        ...


class Endpoints(Protocol):
    """The free endpoints of providers."""

    async def probe(self, provider: Provider) -> ProbeResult:
        """Requests something that costs nothing. Never raises for what the provider does; never spends a token."""
        ...
