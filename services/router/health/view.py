"""The router's picture of its targets, as planning and the attempt loop need it: see the room's head."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from libs.catalog.model import Model
from libs.types import ErrorClass
from services.router.health.target_health import TargetHealth


class CallTicket(Struct, frozen=True):
    """Leave to call a target, with the probe permit where one is needed, and the circuits' generations under which
    the call began, so that its outcome does not count against a later one."""

    permit: str = ""
    generation: int = 0
    provider_generation: int = 0


class HealthView(Protocol):
    """The health of every target, and the outcomes of calls to it."""

    def health_of(self, model: Model) -> TargetHealth:
        """Returns the present health of a model on its provider, both considered."""
        ...

    async def begin_call(self, model: Model, tenant: str) -> CallTicket | None:
        """Takes leave for a call of the tenant's that begins now, with the probe permit that a half-open target
        needs: only for that it waits. Returns None where the target may not be called after all. Every ticket comes
        back by `record_success` or `record_failure`."""
        ...

    def record_success(
        self,
        model: Model,
        ticket: CallTicket,
        latency: float,
        first_token: float | None,
        tokens: int,
        tenant: str,
    ) -> None:
        """Records a call of the tenant's that gave the answer. Times in seconds; `tokens`: generated ones."""
        ...

    def record_failure(
        self,
        model: Model,
        ticket: CallTicket,
        error_class: ErrorClass,
        retry_after: float | None,
        tenant: str,
    ) -> None:
        """Records one that did not. `retry_after`: seconds that the provider asked for."""
        ...
