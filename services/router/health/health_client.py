"""The health service's judgements, brought to the router's targets, and their evidence, carried to the service.

Two streams and a rare call: `WatchProviders` brings judgements, `ReportOutcomes` carries evidence away (failures
within a quarter of a second, mere successes within a second), and `AcquireProbe` takes the permit for a call that is
about to begin where a circuit is half-open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from random import Random

import grpc
from pointsman.health.v1 import health_pb2, health_pb2_grpc

from libs.catalog.model import Model
from libs.clock import Clock
from libs.resilience.backoff import Backoff
from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from libs.resilience.evidence import BreakerSettings
from libs.rpc import channel as rpc
from libs.rpc.convert import (
    duration_from_proto,
    duration_to_proto,
    error_class_from_proto,
    error_class_to_proto,
    route_part_from_proto,
    route_part_to_proto,
    timestamp_from_proto,
    timestamp_to_proto,
)
from libs.rpc.status import from_rpc_error
from libs.rpc.stream_keeper import StreamEnded, StreamKeeper
from libs.telemetry import Metrics, get_logger
from libs.throttle import Throttle
from services.router.health.exchanged import Judgement, Tally, TallyKey
from services.router.health.failovers import Failover
from services.router.health.probes import PermitsUnavailable, ProbePermit
from services.router.health.route_changes import Outage, Place, RouteChanges
from services.router.health.targets import Targets

#: Seconds between reports of evidence that other routers need at once, and of any other.
REPORT_INTERVAL = 0.25
ROUTINE_INTERVAL = 1.0
#: Heartbeats come every 5 s; a stream silent for longer than this is dead.
WATCH_SILENCE = 16.0
#: The longest that a call waits for the permit, seconds; then it takes the router's own.
PERMIT_TIMEOUT = 0.25
#: The health service refuses a report of more.
MOST_OUTCOMES = 1000
#: And longer names, characters.
MOST_TEXT = 256
_STATES = {
    health_pb2.CIRCUIT_STATE_OPEN: CircuitState.OPEN,
    health_pb2.CIRCUIT_STATE_HALF_OPEN: CircuitState.HALF_OPEN,
}
_CAUSES = {
    health_pb2.CIRCUIT_CAUSE_FAULTS: TripCause.FAULTS,
    health_pb2.CIRCUIT_CAUSE_TRANSPORT: TripCause.TRANSPORT,
    health_pb2.CIRCUIT_CAUSE_SLOW: TripCause.SLOW,
    health_pb2.CIRCUIT_CAUSE_COOLDOWN: TripCause.COOLDOWN,
    health_pb2.CIRCUIT_CAUSE_OPERATOR: TripCause.OPERATOR,
}
_TAKEN_OUT = frozenset(
    {
        health_pb2.PROVIDER_MODE_MAINTENANCE,
        health_pb2.PROVIDER_MODE_DRAIN,
        health_pb2.PROVIDER_MODE_BLOCKED,
    }
)

log = get_logger(__name__)

_Watch = grpc.aio.UnaryStreamCall[health_pb2.WatchProvidersRequest, health_pb2.WatchProvidersResponse]
_Reports = grpc.aio.StreamStreamCall[health_pb2.ReportOutcomesRequest, health_pb2.ReportOutcomesResponse]


class HealthMonitorClient:
    """Keeps `targets` fed. `watch` and `report` run for ever. Satisfies `PermitSource`."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        token: str,
        router_id: str,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        settings: BreakerSettings | None = None,
    ) -> None:
        self._stub = health_pb2_grpc.ProviderHealthStub(channel)
        self._token = token
        self._router_id = router_id
        self.targets = Targets(clock, rng, self, settings)
        #: Keys and endpoints, told to the other routers and by them; None: nobody is interested.
        self.routes: RouteChanges | None = None
        self._permit_failed = Throttle(clock)
        self._epoch, self._version = "", 0
        backoff = Backoff(base=0.1, cap=2.0)
        self._watch = StreamKeeper[_Watch](
            "health_watch",
            self._open_watch,
            backoff,
            clock,
            rng,
            metrics.gauge("health_connected", "1 while the watch on the health service is up"),
        )
        self._reports = StreamKeeper[_Reports](
            "health_report",
            lambda: self._stub.ReportOutcomes(metadata=rpc.metadata(token), wait_for_ready=True),
            backoff,
            clock,
            rng,
        )
        #: Set once the first judgements are here.
        self.known = self._watch.known

    async def watch(self) -> None:
        """Follows the health service's judgements for ever."""
        await self._watch.run(self._watch_session)

    async def report(self) -> None:
        """Sends evidence for ever. What a broken stream did not acknowledge is not sent again: evidence is a sample,
        not an account."""
        await self._reports.run(self._report_session)

    def _open_watch(self) -> _Watch:
        """Asks for the judgements since the last that came."""
        return self._stub.WatchProviders(
            health_pb2.WatchProvidersRequest(
                watcher_id=self._router_id, epoch=self._epoch, version=self._version
            ),
            metadata=rpc.metadata(self._token),
            wait_for_ready=True,
        )

    async def _watch_session(self, call: _Watch) -> None:
        while True:
            async with asyncio.timeout(WATCH_SILENCE):
                answer = await call.read()
            if not isinstance(answer, health_pb2.WatchProvidersResponse):
                raise StreamEnded
            self._watch.answered()
            self._apply(answer)

    async def _report_session(self, call: _Reports) -> None:
        numbers, waited = count(1), 0.0
        # Unlike evidence they are an account: whatever service answers now learns all of it.
        changes = [*self.routes.all_out()] if self.routes is not None else []
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            waited += REPORT_INTERVAL
            changes += self.routes.take_changes() if self.routes is not None else ()
            if waited < ROUTINE_INTERVAL and not changes and not self.targets.has_urgent_evidence:
                continue
            evidence, waited = self.targets.take_evidence(), 0.0
            if not evidence and not changes:
                continue
            await self._send(call, numbers, evidence, changes)
            changes = []
            self._reports.answered()

    async def _send(
        self,
        call: _Reports,
        numbers: Iterator[int],
        evidence: Mapping[TallyKey, Tally],
        changes: Sequence[Outage],
    ) -> None:
        """Sends evidence and changes in as many reports as it takes. Raises StreamEnded."""
        summaries, routes = iter(_summaries(evidence)), map(_route_change, changes)
        while True:
            report = health_pb2.ReportOutcomesRequest(
                reporter_id=self._router_id,
                outcomes=islice(summaries, MOST_OUTCOMES),
                routes=islice(routes, MOST_OUTCOMES),
            )
            if not report.outcomes and not report.routes:
                return
            report.sequence = next(numbers)
            await call.write(report)
            if not isinstance(await call.read(), health_pb2.ReportOutcomesResponse):
                raise StreamEnded

    async def acquire_permit(self, model: Model) -> ProbePermit | None:
        """See `PermitSource.acquire_permit`. Fail-open: without the service each router tries for itself."""
        if not self._watch.connected:
            raise PermitsUnavailable("The health service is not connected")
        request = health_pb2.AcquireProbeRequest(
            provider=model.provider, model=model.name, holder_id=self._router_id
        )
        try:
            answer = await self._stub.AcquireProbe(
                request, metadata=rpc.metadata(self._token), timeout=PERMIT_TIMEOUT
            )
        except grpc.aio.AioRpcError as error:
            why = from_rpc_error(error)
            if times := self._permit_failed.due():
                log.warning("probe_permit_failed", target=model.id, error=str(why), times=times)
            raise PermitsUnavailable("The health service gives no permits") from why
        return ProbePermit(answer.permit, timestamp_from_proto(answer.expires)) if answer.permit else None

    def _apply(self, answer: health_pb2.WatchProvidersResponse) -> None:
        self._epoch, self._version = answer.epoch, answer.version
        for state in answer.providers:
            self.targets.apply_judgement(state.provider, state.model, _judgement(state))
        if self.routes is not None:
            for change in answer.routes:
                outage = _outage(change)
                if outage is not None:
                    self.routes.merge(outage)


def _outage(change: health_pb2.RouteChange) -> Outage | None:
    """Returns the change; None: it is of a later version than this router."""
    part, error_class = route_part_from_proto(change.part), error_class_from_proto(change.error_class)
    if part is None or error_class is None:
        return None
    return Outage(
        Place(change.provider, part, change.name, change.model),
        error_class,
        timestamp_from_proto(change.since),
        timestamp_from_proto(change.until) if change.HasField("until") else 0.0,
        max(1, change.times),
        change.key_version,
    )


def _route_change(outage: Outage) -> health_pb2.RouteChange:
    place = outage.place
    return health_pb2.RouteChange(
        provider=place.provider,
        part=route_part_to_proto(place.part),
        name=place.name,
        model=place.model,
        error_class=error_class_to_proto(outage.error_class),
        since=timestamp_to_proto(outage.since),
        until=timestamp_to_proto(outage.until or None),
        times=outage.times,
        key_version=outage.key_version,
    )


def _judgement(state: health_pb2.ProviderHealthState) -> Judgement:
    taken_out = state.mode in _TAKEN_OUT
    latency = max(0.0, duration_from_proto(state.response_time)) if state.HasField("response_time") else None
    first = duration_from_proto(state.time_to_first_token) if state.HasField("time_to_first_token") else None
    return Judgement(
        _circuit(state.circuit),
        taken_out=(state.reason or "an operator has taken it out") if taken_out else "",
        # Of a recovering target the circuit says it too, and since when.
        degraded_share=state.ramp if state.status == health_pb2.PROVIDER_STATUS_DEGRADED else None,
        success_rate=min(1.0, max(0.0, state.success_rate)),
        latency=latency,
        first_token=first,
        probe_failed_by=state.probe_failed_by,
        probes_failed=state.probes_failed,
        rehabilitated_share=(
            min(1.0, max(0.0, state.ramp))
            if state.mode == health_pb2.PROVIDER_MODE_REHABILITATING
            and state.circuit.state == health_pb2.CIRCUIT_STATE_CLOSED
            else 1.0
        ),
        failovers=tuple(map(_failover, state.failovers)),
    )


def _failover(failover: health_pb2.Failover) -> Failover:
    return Failover(
        timestamp_from_proto(failover.until),
        failover.reason,
        frozenset(failover.tenants),
        frozenset(failover.content_types),
        failover.to_provider,
        failover.to_model,
    )


def _circuit(circuit: health_pb2.Circuit) -> BreakerState:
    state = _STATES.get(circuit.state, CircuitState.CLOSED)
    until = timestamp_from_proto(circuit.open_until) if state is CircuitState.OPEN else 0.0
    cause = _CAUSES.get(circuit.cause, TripCause.NONE)
    since = timestamp_from_proto(circuit.since)
    return BreakerState(state, circuit.generation, until, cause, since, circuit.trips)


def _summaries(evidence: Mapping[TallyKey, Tally]) -> list[health_pb2.OutcomeSummary]:
    return [
        health_pb2.OutcomeSummary(
            provider=provider,
            model=model,
            successes=tally.successes,
            failures=[
                health_pb2.FailureCount(error_class=error_class_to_proto(error_class), count=count)
                for error_class, count in tally.failures.items()
            ],
            latency_sum=duration_to_proto(tally.latency_sum),
            latency_max=duration_to_proto(tally.latency_max),
            time_to_first_token_sum=duration_to_proto(tally.first_token_sum),
            time_to_first_token_count=tally.first_token_count,
            output_tokens=tally.tokens,
            retry_not_before=timestamp_to_proto(tally.retry_not_before or None),
            faults_in_row=tally.row,
            probe_permit=ticket.permit,
            probe_tenant=tally.probe_tenant[:MOST_TEXT],
            generation=ticket.generation,
            provider_generation=ticket.provider_generation,
        )
        for (provider, model, ticket), tally in evidence.items()
    ]
