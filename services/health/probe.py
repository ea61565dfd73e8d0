"""Probes free endpoints of idle and broken providers, so that their state is known without spending tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from libs.catalog.catalog import Catalog
from libs.catalog.model import Provider
from libs.clock import Clock
from libs.errors import Unavailable
from libs.resilience.circuit import CircuitState
from libs.telemetry import Metrics
from services.health.domain.evidence import ProbeResult
from services.health.domain.target import Mode, Target
from services.health.judge import Judge
from services.health.ports import Endpoints, HealthStore


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """Intervals in seconds. `idle_interval`: between probes of a provider without traffic; `broken_interval`: of one
    whose circuit is not closed; `check_interval`: between decisions which are due. `concurrency`: probes at once."""

    idle_interval: float = 30.0
    broken_interval: float = 5.0
    check_interval: float = 1.0
    concurrency: int = 10

    def __post_init__(self) -> None:
        if min(self.idle_interval, self.broken_interval, self.check_interval, self.concurrency) <= 0:
            raise ValueError("probe intervals and concurrency must be > 0")


class Prober:
    """Probes what is due. Traffic is better evidence: a provider that has some and a closed circuit is left alone.
    One replica probes for all; without the store each probes for itself."""

    def __init__(
        self,
        judge: Judge,
        endpoints: Endpoints,
        store: HealthStore,
        catalog: Callable[[], Catalog],
        settings: ProbeSettings,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._judge = judge
        self._endpoints = endpoints
        self._store = store
        self._catalog = catalog
        self._settings = settings
        self._clock = clock
        self._probed_at: dict[str, float] = {}
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._probes = metrics.counter("health_probes", "Probes of free endpoints.", ["provider", "result"])

    async def probe_due(self) -> None:
        """Probes all that are due."""
        providers = self._catalog().providers
        self._probed_at = {name: at for name, at in self._probed_at.items() if name in providers}
        due = [
            (p, interval) for p in providers.values() if (interval := self._due_interval(p.name)) is not None
        ]
        if due:
            await asyncio.gather(*(self._probe_if_claimed(provider, interval) for provider, interval in due))

    async def run(self) -> None:
        """Probes until cancelled."""
        while True:
            await self.probe_due()
            await asyncio.sleep(self._settings.check_interval)

    def _due_interval(self, name: str) -> float | None:
        """Returns the interval that is over for this provider; None: no probe is due."""
        state = self._judge.state(Target(name))
        # Who was blocked by rule may come back by a probe.
        if state.mode is Mode.BLOCKED and self._judge.fleet.controls.mode_setting(Target(name)).cause is None:
            return None
        settings = self._settings
        healthy = state.circuit.state is CircuitState.CLOSED
        interval = settings.idle_interval if healthy else settings.broken_interval
        now = self._clock.now()
        if healthy and self._judge.fleet.has_traffic(name, now, interval):
            return None
        last = self._probed_at.get(name)
        return interval if last is None or not 0 <= now - last < interval else None

    async def _probe_if_claimed(self, provider: Provider, interval: float) -> None:
        self._probed_at[provider.name] = self._clock.now()
        try:
            # A little less than the interval: the claim must be gone when the next one is due.
            mine = await self._store.claim(f"probe:{provider.name}", 0.9 * interval)
        except Unavailable:
            mine = True
        if mine:
            async with self._slots:
                await self._probe(provider)

    async def _probe(self, provider: Provider) -> ProbeResult:
        result = await self._endpoints.probe(provider)
        self._probes.labels(provider.name, result.error.value if result.error else "ok").inc()
        self._judge.record_probe(result)
        return result
