"""What the router's use cases need from the world."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from msgspec import Struct

from libs.catalog.model import Model, Provider
from libs.limits import Amounts, Period, Scope
from libs.types import ErrorClass, Priority
from services.router.domain.events import UsageRecord
from services.router.domain.generation import Completion, Prompt, StreamEvent
from services.router.domain.health import TargetHealth
from services.router.domain.limit_state import LimitState
from services.router.domain.timeouts import Learned, Limits


class Providers(Protocol):
    """Calls providers. Raises ProviderFailure, already classified; cancelling the task cancels the call."""

    def unusable(self, provider: Provider) -> str:
        """Why no call can be made, whatever is asked (no key, no wire); empty: it can. Costs next to nothing."""
        ...

    def learned(self, model: Model, prompt: Prompt, tenant: str) -> Learned:
        """What earlier calls to the model have taught about its times, those of the tenant before those of others."""
        ...

    async def complete(self, provider: Provider, model: Model, prompt: Prompt, limits: Limits) -> Completion:
        """A whole answer within `limits.total`."""
        ...

    def stream(
        self, provider: Provider, model: Model, prompt: Prompt, limits: Limits
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """An answer as it comes: one batch of events for each piece of the network's. The last event of the last
        batch is a StreamEnd. `limits` bound the whole and every silence. Closing it ends the call."""
        ...


class CallTicket(Struct, frozen=True):
    """Leave to call a target. Names the circuits' generations under which the call began, so that its outcome does
    not count against a later one."""

    permit: str = ""
    generation: int = 0
    provider_generation: int = 0


class HealthView(Protocol):
    """The router's picture of its targets: the health service's judgement merged with its own evidence. Never
    waits: without a health service it lives on what it saw last."""

    def target(self, model: Model) -> TargetHealth:
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


class Permit(Protocol):
    """Admission of one attempt; exactly one of its methods is called, once."""

    def settle(self, used: Amounts) -> None:
        """The attempt used this much."""
        ...

    def cancel(self) -> None:
        """The attempt never happened."""
        ...


class Claim(Struct, frozen=True):
    """What an attempt asks limits for, and how it stands in the queue for them."""

    scopes: tuple[Scope, ...]
    amounts: Amounts
    tenant: str
    priority: Priority
    #: How long it may wait in the queue, seconds; 0: not at all.
    patience: float = 0.0
    #: It may wait for limits that are paced, and for no others.
    only_paced: bool = False


class Admission(Protocol):
    """Limits, quotas and budgets."""

    def try_admit(self, scopes: Sequence[Scope], amounts: Amounts) -> Permit | None:
        """Admits at once from what is leased; None: ask `admit`."""
        ...

    async def admit(self, claim: Claim, timeout: float) -> Permit:
        """Admits after asking the limiter, whose answer is waited for at most `timeout` seconds, and after waiting in
        the queue where the claim may. Raises AdmissionDenied."""
        ...


class BudgetView(Protocol):
    """What is known of limits. Never waits."""

    def budget_use(self, scope: Scope, period: Period) -> tuple[int, int] | None:
        """Used of the scope's limit per `day` or `month` by all routers, money that calls have reserved included, and
        the limit, in micro-USD. None: not known."""
        ...

    def limit_states(self, scope: Scope) -> tuple[LimitState, ...]:
        """The scope's limits of requests and tokens, those that are known."""
        ...


class UsageSpool(Protocol):
    """The ledger's doorstep: what is handed over here survives a crash of this process."""

    def begin(self, record: UsageRecord) -> None:
        """Before a call: if its end is never seen, this record stands (outcome unknown, usage uncertain)."""
        ...

    def end(self, record: UsageRecord) -> None:
        """After it, in the same attempt_id."""
        ...
