"""The limit of calls at once that each provider shows by its latency: counted, shown and, where wanted, enforced.

In front of the other limits: a provider that is full is passed over without asking the limiter, as if it had a limit
of concurrency. Each router adapts its own share of what the provider takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from libs.catalog.model import Model
from libs.clock import Clock
from libs.errors import QuotaViolation
from libs.limits import Amounts, LimitKey, Period, Scope, ScopeKind, Unit
from libs.telemetry import Metrics
from libs.types import ErrorClass
from services.router.admission.adaptive_concurrency import Bounds, ProviderLimit
from services.router.admission.admission import Admission, Claim, Permit
from services.router.admission.amounts import AdmissionDenied

#: After these a provider has more than it can take.
_OVERLOAD = frozenset({ErrorClass.OVERLOADED, ErrorClass.RATE_LIMITED, ErrorClass.TIMEOUT})
#: The first limit, calls at once.
INITIAL = 20
#: Providers that are remembered; a catalog has some tens.
PROVIDERS = 1024


class ConcurrencyMode(StrEnum):
    """The use of the limits. `count`: they are shown, and so is how often they would have refused."""

    OFF = "off"
    COUNT = "count"
    ENFORCE = "enforce"


class Concurrency:
    """One per process: what runs at each provider, and what may."""

    def __init__(
        self, mode: ConcurrencyMode, floor: int, ceiling: int, clock: Clock, metrics: Metrics
    ) -> None:
        """`floor` and `ceiling` of every provider's limit, calls at once. Raises ValueError."""
        self.mode = mode
        self._bounds = Bounds(floor, ceiling, min(ceiling, max(floor, INITIAL)))
        self._clock = clock
        self._limits: dict[str, ProviderLimit] = {}
        labels = ("provider",)
        self._limit = metrics.gauge(
            "concurrency_limit", "Calls at once that the provider takes from this router", labels
        )
        self._in_flight = metrics.gauge("concurrency_in_flight", "Calls that run at the provider", labels)
        self._refused = metrics.counter(
            "concurrency_refused",
            "Calls that met a provider at its limit: refused, or where limits are only counted admitted",
            labels,
        )

    def of(self, provider: str) -> ProviderLimit:
        """Returns the provider's limit."""
        found = self._limits.get(provider)
        if found is None:
            if len(self._limits) >= PROVIDERS:
                # Of providers that left the catalog.
                self._limits = {name: limit for name, limit in self._limits.items() if limit.in_flight}
            enforced = self.mode is ConcurrencyMode.ENFORCE
            found = ProviderLimit(self._bounds, self._clock.monotonic(), enforced=enforced)
            self._limits[provider] = found
            self._limit.labels(provider).set_function(lambda: found.limit)
            self._in_flight.labels(provider).set_function(lambda: found.in_flight)
        return found

    def refused(self, provider: str) -> None:
        """Counts a call that was refused, or would have been."""
        self._refused.labels(provider).inc()

    def load(self, model: Model) -> int:
        """Returns the calls that run at the model's provider as one begins, itself included."""
        if self.mode is ConcurrencyMode.OFF:
            return 0
        return (self._limits.get(model.provider) or self.of(model.provider)).in_flight

    def succeeded(self, model: Model, load: int, seconds: float, tokens: int) -> None:
        """Takes in a call that began under `load` and gave its answer of so many output tokens."""
        if self.mode is not ConcurrencyMode.OFF:
            limit = self._limits.get(model.provider) or self.of(model.provider)
            limit.succeeded(model.id, load, seconds, tokens, self._clock.monotonic())

    def failed(self, model: Model, error_class: ErrorClass) -> None:
        """Takes in a call that failed; overload shrinks the limit."""
        if self.mode is not ConcurrencyMode.OFF and error_class in _OVERLOAD:
            self.of(model.provider).overloaded(self._clock.monotonic())


class ConcurrentAdmission:
    """Satisfies `Admission` in front of another; never waits for room."""

    def __init__(self, inner: Admission, concurrency: Concurrency) -> None:
        self._inner = inner
        self._concurrency = concurrency
        self._enforced = concurrency.mode is ConcurrencyMode.ENFORCE

    def try_admit(self, scopes: Sequence[Scope], amounts: Amounts) -> Permit | None:
        """Admits from what is held, unless the provider is full."""
        provider = _provider_of(scopes)
        limit = self._concurrency.of(provider)
        full = limit.full
        if full and self._enforced:
            return None
        permit = self._inner.try_admit(scopes, amounts)
        if permit is None:
            return None
        if full:
            self._concurrency.refused(provider)
        limit.begin()
        permit.on_end(limit.end)
        return permit

    async def admit(self, claim: Claim, timeout: float) -> Permit:
        """Asks, unless the provider is full. Raises AdmissionDenied."""
        provider = _provider_of(claim.scopes)
        limit = self._concurrency.of(provider)
        if self._enforced and limit.full:
            raise self._refusal(provider, limit, claim)
        permit = await self._inner.admit(claim, timeout)
        # Again, since others asked at the same time. Who still asks takes no slot: what the limiter then refuses must
        # not have kept others out.
        if limit.full:
            if self._enforced:
                permit.cancel()
                raise self._refusal(provider, limit, claim)
            self._concurrency.refused(provider)
        limit.begin()
        permit.on_end(limit.end)
        return permit

    def _refusal(self, provider: str, limit: ProviderLimit, claim: Claim) -> AdmissionDenied:
        # Who waits in the queue asks again and again, and counts once.
        if claim.patience <= 0:
            self._concurrency.refused(provider)
        return _denied(provider, limit)


def _provider_of(scopes: Sequence[Scope]) -> str:
    """Empty: of none."""
    for scope in scopes:
        if scope.kind is ScopeKind.PROVIDER:
            return scope.name
    return ""


def _denied(provider: str, limit: ProviderLimit) -> AdmissionDenied:
    wait = limit.retry_after
    violation = QuotaViolation(
        LimitKey(Scope(ScopeKind.PROVIDER, provider), Unit.CONCURRENCY, Period.NONE),
        f"{provider} takes {limit.limit} calls at once without getting slower; {limit.in_flight} are running",
        limit.limit,
        limit.in_flight,
        1,
        wait,
    )
    return AdmissionDenied([violation], wait)
