"""Failovers of some calls, by an operator's word: who leaves which target, for whom, until when.

A failover of all calls to no one in particular opens the target's circuit, and is none of these. The health service
sends them with its judgements; each ends by itself, whether the service is there or not.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from libs.catalog.model import Model
from services.router.health.target_health import Availability, TargetHealth


class Failover(Struct, frozen=True):
    """Calls that leave a target until an instant (epoch seconds), by an operator's word: those of these tenants and
    content types, empty: of all. `to_provider`, `to_model`: who is tried first in its place; empty: the next, and any
    model of the provider."""

    until: float
    reason: str
    tenants: frozenset[str] = frozenset()
    content_types: frozenset[str] = frozenset()
    to_provider: str = ""
    to_model: str = ""

    def concerns(self, tenant: str, content_type: str) -> bool:
        """Returns True for a call of this tenant with this content type."""
        return (not self.tenants or tenant in self.tenants) and (
            not self.content_types or content_type in self.content_types
        )

    def names(self, model: Model) -> bool:
        """Returns True for a model that is to be tried first."""
        return model.provider == self.to_provider and self.to_model in ("", model.name)


class OperatorFailovers:
    """The failovers by target: of most there are none."""

    def __init__(self) -> None:
        self._by_target: dict[tuple[str, str], tuple[Failover, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_target)

    def replace(self, provider: str, model: str, failovers: tuple[Failover, ...]) -> None:
        """Takes those of a model, or (`model` empty) of a provider, in place of those before."""
        if failovers:
            self._by_target[provider, model] = failovers
        else:
            self._by_target.pop((provider, model), None)

    def find(self, model: Model, tenant: str, content_type: str, now: float) -> Failover | None:
        """Returns the one by which such a call leaves a model now (epoch seconds); None: it may go there."""
        for name in ("", model.name):
            for failover in self._by_target.get((model.provider, name), ()):
                if failover.until > now and failover.concerns(tenant, content_type):
                    return failover
        return None


class FailedOverHealth:
    """Health as the calls of one plan see it: what they leave is down for them. Keeps what it has found."""

    def __init__(
        self,
        health: Callable[[Model], TargetHealth],
        failovers: OperatorFailovers,
        tenant: str,
        content_type: str,
        now: float,
    ) -> None:
        self._health = health
        self._failovers = failovers
        self._tenant = tenant
        self._content_type = content_type
        self._now = now
        self._found: list[Failover] = []

    def health_of(self, model: Model) -> TargetHealth:
        """Returns the present health of a model for these calls."""
        failover = self._failovers.find(model, self._tenant, self._content_type, self._now)
        if failover is None:
            return self._health(model)
        self._found.append(failover)
        return TargetHealth(
            Availability.DOWN,
            reason=f"an operator has failed it over: {failover.reason}",
            retry_after=failover.until - self._now,
        )

    def comes_first(self, model: Model) -> bool:
        """Returns True for a model that a failover of one that was asked about names in its place."""
        return any(failover.names(model) for failover in self._found)
