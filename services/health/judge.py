"""Records evidence, merges that of other replicas, and publishes the judgements that change."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from libs.catalog.catalog import Catalog
from libs.change import Change
from libs.clock import Clock
from libs.resilience.circuit import CircuitState
from libs.telemetry import Metrics, get_logger
from services.health.domain.evidence import Outcome, ProbeResult
from services.health.domain.fleet import Fleet
from services.health.domain.routes import RouteChange
from services.health.domain.target import Target, TargetState
from services.health.ports import Exchange
from services.health.watch import Publisher

#: Seconds between checks of what time alone changes (circuits, ramps), and between publications of mere figures.
TICK_SECONDS = 0.25
FIGURES_SECONDS = 1.0
#: Evidence kept for the other replicas; while the store is gone the oldest is dropped.
MAX_OUTBOX = 2000
#: Changes kept for the history; while it is gone the oldest is given up.
MAX_UNRECORDED = 1000

_CIRCUIT_VALUE = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}
log = get_logger(__name__)


class Judge:
    """One replica's judgements. No method waits, so evidence and merges never interleave."""

    def __init__(self, fleet: Fleet, publisher: Publisher, clock: Clock, metrics: Metrics) -> None:
        self.fleet = fleet
        self._publisher = publisher
        self._clock = clock
        self._outcomes: deque[Outcome] = deque(maxlen=MAX_OUTBOX)
        self._probes: deque[ProbeResult] = deque(maxlen=MAX_OUTBOX)
        self._routes: deque[RouteChange] = deque(maxlen=MAX_OUTBOX)
        #: Operators' changes that the history does not have yet, by id.
        self.unrecorded: dict[str, Change] = {}
        self._logged: dict[Target, TargetState] = {}
        self._outcomes_total = metrics.counter(
            "health_outcomes", "Outcome summaries by what became of them.", ["result"]
        )
        self._circuits = metrics.gauge(
            "health_circuit_state", "0 closed, 1 half-open, 2 open.", ["provider", "model"]
        )

    def replace_catalog(self, catalog: Catalog) -> None:
        """Judges the catalog's providers and models from now on."""
        targets = [Target(name) for name in catalog.providers]
        targets += [Target(model.provider, model.name) for model in catalog.models.values()]
        gone = self.fleet.replace_targets(targets)
        for target in gone:
            self._logged.pop(target, None)
            self._circuits.remove(target.provider, target.model)
        if gone:
            self._publisher.remove(gone)
        self.tick(all_changes=True)

    def record_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Records a router's evidence. That of unknown targets is counted and ignored: catalogs reload at different
        times."""
        known = self._record(outcomes)
        self._outcomes.extend(known)
        self._outcomes_total.labels("taken").inc(len(known))
        self._outcomes_total.labels("unknown").inc(len(outcomes) - len(known))

    def record_routes(self, changes: Iterable[RouteChange]) -> None:
        """Passes a router's changes of keys and endpoints on to the other routers; those of unknown providers are
        ignored."""
        self._routes.extend(self._publish_routes(changes))

    def _publish_routes(self, changes: Iterable[RouteChange]) -> list[RouteChange]:
        known = set(self.fleet.targets)
        return self._publisher.publish_routes([c for c in changes if Target(c.provider) in known])

    def record_probe(self, result: ProbeResult) -> None:
        """Records the result of a probe of this replica."""
        self.fleet.record_probe(self._clock.now(), result)
        self._probes.append(result)
        self.tick(all_changes=False)

    def take_outgoing(self) -> Exchange:
        """Returns the states and the new evidence for the other replicas; evidence is handed over once."""
        exchange = Exchange(
            self.fleet.export(self._clock.now()),
            tuple(self._outcomes),
            tuple(self._probes),
            tuple(self._routes),
            changes=tuple(self.fleet.controls.changes),
            unrecorded=tuple(self.unrecorded.values()),
        )
        self._routes.clear()
        self._outcomes.clear()
        self._probes.clear()
        return exchange

    def merge_incoming(self, exchange: Exchange) -> None:
        """Merges what other replicas sent. States first: evidence that led to them must not count twice."""
        now = self._clock.now()
        self.fleet.merge(now, exchange.circuits)
        for change in exchange.changes:
            self.fleet.obey(now, change)
        for change in exchange.unrecorded:
            self.note_unrecorded(change)
        self._record(exchange.outcomes)
        for result in exchange.probes:
            self.fleet.record_probe(now, result)
        if exchange.routes:
            self._publish_routes(exchange.routes)
        self.tick(all_changes=False)

    def obey(self, *changes: Change) -> None:
        """Takes operators' changes, and publishes what follows."""
        for change in changes:
            self.fleet.obey(self._clock.now(), change)
        self.tick(all_changes=True)

    def rehabilitate(self, target: Target) -> None:
        """Drops the evidence against a target, and publishes. Raises NotFound."""
        self.fleet.rehabilitate(self._clock.now(), target)
        self.tick(all_changes=True)

    def note_unrecorded(self, change: Change) -> None:
        """Notes that a change is to be sent to the history. The oldest of too many is given up, and logged."""
        self.unrecorded.setdefault(change.change_id, change)
        if len(self.unrecorded) > MAX_UNRECORDED:
            oldest = min(self.unrecorded.values(), key=lambda each: (each.at, each.change_id))
            del self.unrecorded[oldest.change_id]
            log.error("change_not_recorded", change_id=oldest.change_id, author=oldest.author)

    def tick(self, *, all_changes: bool) -> None:
        """Applies the time that has passed to every target, and publishes."""
        self._publish(self.fleet.states(self._clock.now()), all_changes=all_changes)

    def state(self, target: Target) -> TargetState:
        """Returns the target's present judgement. Raises NotFound."""
        return self.fleet.state(self._clock.now(), target)

    async def run(self) -> None:
        """Ticks until cancelled."""
        figures = self._clock.monotonic()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            due = self._clock.monotonic() - figures >= FIGURES_SECONDS
            if due:
                figures = self._clock.monotonic()
            self.tick(all_changes=due)

    def _record(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        now = self._clock.now()
        known = [outcome for outcome in outcomes if self.fleet.record(now, outcome)]
        touched = {o.target for o in known} | {o.target.parent for o in known}
        states = [self.fleet.state(now, target) for target in sorted(touched)]
        self._publish(states, all_changes=False)
        return known

    def _publish(self, states: Iterable[TargetState], *, all_changes: bool) -> None:
        states = list(states)
        for state in states:
            old = self._logged.get(state.target)
            if old is None or old.circuit.generation != state.circuit.generation or old.mode != state.mode:
                self._logged[state.target] = state
                self._circuits.labels(state.target.provider, state.target.model).set(
                    _CIRCUIT_VALUE[state.circuit.state]
                )
                if old is not None:
                    log.info(
                        "judgement_changed",
                        target=str(state.target),
                        circuit=state.circuit.state.value,
                        generation=state.circuit.generation,
                        mode=state.mode.value,
                        reason=state.reason,
                    )
        self._publisher.publish(states, all_changes=all_changes)
