"""Issues permits for trying a target that may be broken: one at a time for all routers of the fleet."""

from __future__ import annotations

from libs.clock import Clock
from libs.errors import Unavailable
from libs.resilience.circuit import BreakerState, CircuitState, worse
from libs.resilience.evidence import BreakerSettings
from libs.resilience.permits import CircuitPermits
from libs.telemetry import Metrics, get_logger
from services.health.domain.evidence import ProbePermit, permit_generations, permit_prefix
from services.health.domain.target import Target, TargetState
from services.health.judge import Judge
from services.health.ports import HealthStore

log = get_logger(__name__)


class PermitIssuer:
    """Leases probe permits. One covers the model's circuit and its provider's: one call tests both."""

    def __init__(
        self, judge: Judge, store: HealthStore, settings: BreakerSettings, clock: Clock, metrics: Metrics
    ) -> None:
        self._judge = judge
        self._store = store
        self._settings = settings
        self._clock = clock
        self._local: dict[Target, CircuitPermits] = {}
        self._decisions = metrics.counter("health_permits", "Probe permits asked for, by answer.", ["answer"])

    async def acquire(self, target: Target, holder: str) -> tuple[ProbePermit | None, TargetState]:
        """Returns a permit or None, and the state that decided it. Raises NotFound."""
        own = self._judge.state(target)
        provider = self._judge.state(target.parent)
        decisive = provider if provider.circuit is worse(provider.circuit, own.circuit) else own
        for state in (provider, own):
            if state.mode.takes_out:
                return self._refuse("mode", state)
        if decisive.circuit.state is CircuitState.OPEN:
            return self._refuse("open", decisive)
        # While the provider itself is being tried, all its models share its permits.
        scope = target.parent if provider.circuit.state is CircuitState.HALF_OPEN else target
        permit = await self._lease(scope, provider.circuit, own.circuit, holder)
        if permit is None:
            return self._refuse("taken", decisive)
        self._decisions.labels("granted").inc()
        return permit, decisive

    def _refuse(self, answer: str, state: TargetState) -> tuple[None, TargetState]:
        self._decisions.labels(answer).inc()
        return None, state

    async def _lease(
        self, scope: Target, provider: BreakerState, own: BreakerState, holder: str
    ) -> ProbePermit | None:
        limit, ttl = self._settings.half_open_permits, self._settings.permit_ttl
        generation = own.generation if scope.model else provider.generation
        prefix = permit_prefix(provider.generation, own.generation)
        try:
            permit = await self._store.acquire(scope, generation, prefix, limit, ttl)
        except Unavailable:
            # Alone: one permit per replica is the best that can be promised.
            self._decisions.labels("store_gone").inc()
            local = self._local.setdefault(scope, CircuitPermits(limit, ttl))
            taken = local.acquire(self._clock.now(), generation, prefix)
            permit = ProbePermit(taken.id, taken.expires) if taken else None
        if permit is not None:
            log.info("probe_permitted", target=str(scope), generation=generation, holder=holder)
        return permit

    async def release(self, target: Target, permit_id: str) -> None:
        """Gives the permit of a call that ended back: where it brought no verdict (the caller went away, a rate
        limit), another may try. Best effort: a permit that is not given back expires by itself."""
        of_provider, of_model = permit_generations(permit_id)
        if of_provider is None or of_model is None:
            return
        for scope in (target, target.parent):
            if scope in self._local:
                self._local[scope].release(permit_id)
        try:
            await self._store.release(target, of_model, permit_id)
            await self._store.release(target.parent, of_provider, permit_id)
        except Unavailable:
            log.info("permit_not_released", target=str(target), consequence="it expires by itself")
