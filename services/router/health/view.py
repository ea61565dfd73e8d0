"""The router's picture of its targets, as planning and the attempt loop need it."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from libs.catalog.model import Model
from libs.types import ErrorClass
from services.router.health.target_health import TargetHealth


class CallTicket(Struct, frozen=True):
    """Leave to call a target. Names the circuits' generations under which the call began, so that its outcome does
    not count against a later one."""

    permit: str = ""
    generation: int = 0
    provider_generation: int = 0


class HealthView(Protocol):
    """The router's picture of its targets: the health service's judgement merged with its own evidence. Never
    waits: without a health service it lives on what it saw last."""

    def health_of(self, model: Model) -> TargetHealth:
        """The present judgement."""
        ...

    def hedge_after(self, model: Model, *, stream: bool) -> float | None:
        """The learned 95th percentile of the time to the first content (stream) or the whole answer, in seconds;
        None: too little is known."""
        ...

    def begin(self, model: Model) -> CallTicket | None:
        """Before a call; takes the probe permit that a recovering target needs. None: the target may not be called
        after all. A ticket is given back by `succeeded` or `failed`."""
        ...

    def succeeded(
        self,
        model: Model,
        ticket: CallTicket,
        latency: float,
        first_token: float | None,
        tokens: int,
        tenant: str,
    ) -> None:
        """After a call of the tenant's that gave the answer. Seconds; `tokens`: generated ones."""
        ...

    def failed(
        self,
        model: Model,
        ticket: CallTicket,
        error_class: ErrorClass,
        retry_after: float | None,
        tenant: str,
    ) -> None:
        """After one that did not. `retry_after`: seconds that the provider asked for."""
        ...
