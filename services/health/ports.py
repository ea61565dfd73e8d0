"""Ports: the interfaces that the use cases need from outside, each with its contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from libs.catalog.model import Provider
from services.health.domain.evidence import Outcome, ProbePermit, ProbeResult
from services.health.domain.fleet import SharedState
from services.health.domain.routes import RouteChange
from services.health.domain.target import Target


@dataclass(frozen=True, slots=True)
class Exchange:
    """States and evidence that one replica sends to the others, or receives from them."""

    shared: Mapping[Target, SharedState] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    probes: tuple[ProbeResult, ...] = ()
    routes: tuple[RouteChange, ...] = ()


class HealthStore(Protocol):
    """The store that replicas share. Every method raises Unavailable while it is gone."""

    async def exchange(self, outgoing: Exchange) -> Exchange:
        """Merges `outgoing.shared` into what is kept (the larger of each part stays), hands its evidence to the other
        replicas, and returns everything kept and the evidence that others have handed over since the last call. Each
        replica gets each piece of evidence at most once; old pieces are dropped. None of it is its own."""
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


class Endpoints(Protocol):
    """The free endpoints of providers."""

    async def probe(self, provider: Provider) -> ProbeResult:
        """Requests something that costs nothing. Never raises for what the provider does; never spends a token."""
        ...
