"""What the router's use cases need from the world."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.catalog.model import Model, Provider
from libs.errors import QuotaViolation
from libs.types import ErrorClass
from services.router.domain.events import UsageRecord
from services.router.domain.generation import Completion, Prompt, StreamEvent
from services.router.domain.health import TargetHealth


class Providers(Protocol):
    """Calls providers. Raises ProviderFailure, already classified; cancelling the task cancels the call."""

    async def complete(self, provider: Provider, model: Model, prompt: Prompt, timeout: float) -> Completion:
        """A whole answer within `timeout` seconds."""
        ...

    def stream(
        self, provider: Provider, model: Model, prompt: Prompt, timeout: float
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """An answer as it comes: one batch of events for each piece of the network's. The last event of the last
        batch is a StreamEnd. `timeout` bounds the whole; the provider's own limits bound silence. Closing it ends the call."""
        ...


class HealthView(Protocol):
    """The router's picture of its targets: the health service's judgement merged with its own evidence. Never
    waits: without a health service it lives on what it saw last."""

    def target(self, model: Model) -> TargetHealth:
        """The present judgement."""
        ...

    def begin(self, model: Model) -> str | None:
        """Before a call: takes the probe permit a recovering target needs ("" where none is needed). None: the
        target may not be called after all."""
        ...

    def succeeded(
        self, model: Model, permit: str, latency: float, first_token: float | None, tokens: int
    ) -> None:
        """After a call that gave the answer. Seconds; `tokens`: generated ones."""
        ...

    def failed(self, model: Model, permit: str, error_class: ErrorClass, retry_after: float | None) -> None:
        """After one that did not."""
        ...


@dataclass(frozen=True, slots=True)
class Amounts:
    """What one attempt takes from limits. All >= 0."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    micro_usd: int = 0


class AdmissionDenied(Exception):
    """Limits have no room for this attempt. `retry_after`: seconds, None when waiting does not help."""

    def __init__(self, violations: Sequence[QuotaViolation], retry_after: float | None) -> None:
        super().__init__("; ".join(v.description for v in violations))
        self.violations = tuple(violations)
        self.retry_after = retry_after


class Permit(Protocol):
    """Admission of one attempt; exactly one of its methods is called, once."""

    def settle(self, used: Amounts) -> None:
        """The attempt used this much."""
        ...

    def cancel(self) -> None:
        """The attempt never happened."""
        ...


class Admission(Protocol):
    """Limits, quotas and budgets."""

    def try_admit(self, scopes: Sequence[str], amounts: Amounts) -> Permit | None:
        """Admits at once from what is leased; None: ask `admit`."""
        ...

    async def admit(self, scopes: Sequence[str], amounts: Amounts, timeout: float) -> Permit:
        """Admits after asking the limiter. Raises AdmissionDenied."""
        ...


class UsageSpool(Protocol):
    """The ledger's doorstep: what is handed over here survives a crash of this process."""

    def begin(self, record: UsageRecord) -> None:
        """Before a call: if its end is never seen, this record stands (outcome unknown, usage uncertain)."""
        ...

    def end(self, record: UsageRecord) -> None:
        """After it, in the same attempt_id."""
        ...
