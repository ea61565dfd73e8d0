"""ProviderHealth over gRPC: proto ↔ domain, no decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from pointsman.health.v1 import health_pb2 as pb
from pointsman.health.v1 import health_pb2_grpc

from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from libs.rpc.change_wire import change_to_proto
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
from libs.types import ErrorClass
from services.health.connectivity.proto_connectivity import endpoint_test_to_proto
from services.health.connectivity.tester import ProviderTester
from services.health.control.operators import Operators
from services.health.control.windows import MaintenanceWindows
from services.health.domain.evidence import Outcome
from services.health.domain.routes import RouteChange
from services.health.domain.target import Status, TargetState
from services.health.judge import Judge
from services.health.permits import PermitIssuer
from services.health.proto_control import (
    MODES,
    check_words,
    failover_from_proto,
    failover_to_proto,
    mode_from_proto,
    target_from_proto,
    window_from_proto,
    window_to_proto,
)
from services.health.report import Reports
from services.health.watch import Publisher

SERVICE: str = pb.DESCRIPTOR.services_by_name["ProviderHealth"].full_name
MAX_OUTCOMES = 1000
#: More classes than there are.
MAX_FAILURES = 100

_STATUS = {
    Status.UNKNOWN: pb.PROVIDER_STATUS_UNSPECIFIED,
    Status.HEALTHY: pb.PROVIDER_STATUS_HEALTHY,
    Status.RECOVERING: pb.PROVIDER_STATUS_RECOVERING,
    Status.DEGRADED: pb.PROVIDER_STATUS_DEGRADED,
    Status.DOWN: pb.PROVIDER_STATUS_DOWN,
    Status.MAINTENANCE: pb.PROVIDER_STATUS_MAINTENANCE,
}
_CIRCUIT = {
    CircuitState.CLOSED: pb.CIRCUIT_STATE_CLOSED,
    CircuitState.OPEN: pb.CIRCUIT_STATE_OPEN,
    CircuitState.HALF_OPEN: pb.CIRCUIT_STATE_HALF_OPEN,
}
_CAUSE = {
    TripCause.NONE: pb.CIRCUIT_CAUSE_UNSPECIFIED,
    TripCause.FAULTS: pb.CIRCUIT_CAUSE_FAULTS,
    TripCause.TRANSPORT: pb.CIRCUIT_CAUSE_TRANSPORT,
    TripCause.SLOW: pb.CIRCUIT_CAUSE_SLOW,
    TripCause.COOLDOWN: pb.CIRCUIT_CAUSE_COOLDOWN,
    TripCause.OPERATOR: pb.CIRCUIT_CAUSE_OPERATOR,
}
Context = grpc.aio.ServicerContext[Any, Any]


class ProviderHealthServicer(health_pb2_grpc.ProviderHealthServicer):
    """Translates each rpc; raises `libs.errors`, which the server's layers turn into statuses."""

    def __init__(
        self,
        judge: Judge,
        publisher: Publisher,
        reports: Reports,
        permits: PermitIssuer,
        tester: ProviderTester,
        operators: Operators,
        windows: MaintenanceWindows,
        heartbeat: float,
    ) -> None:
        self._judge = judge
        self._publisher = publisher
        self._reports = reports
        self._permits = permits
        self._tester = tester
        self._operators = operators
        self._windows = windows
        self._heartbeat = heartbeat

    async def WatchProviders(
        self, request: pb.WatchProvidersRequest, context: Context
    ) -> AsyncIterator[pb.WatchProvidersResponse]:
        async for update in self._publisher.updates(request.epoch, request.version, self._heartbeat):
            yield pb.WatchProvidersResponse(
                epoch=update.epoch,
                version=update.version,
                snapshot=update.snapshot,
                providers=[_state(state) for state in update.states],
                routes=[_route(change) for change in update.routes],
            )

    async def ListProviders(
        self, request: pb.ListProvidersRequest, context: Context
    ) -> pb.ListProvidersResponse:
        targets = [t for t in self._judge.fleet.targets if request.provider in ("", t.provider)]
        return pb.ListProvidersResponse(providers=[_state(self._judge.state(target)) for target in targets])

    async def ReportOutcomes(
        self, request_iterator: AsyncIterator[pb.ReportOutcomesRequest], context: Context
    ) -> AsyncIterator[pb.ReportOutcomesResponse]:
        async for report in request_iterator:
            await self._reports.record(_outcomes(report), _routes(report))
            yield pb.ReportOutcomesResponse(sequence=report.sequence)

    async def AcquireProbe(
        self, request: pb.AcquireProbeRequest, context: Context
    ) -> pb.AcquireProbeResponse:
        permit, state = await self._permits.acquire(
            target_from_proto(request.provider, request.model), request.holder_id[:256]
        )
        return pb.AcquireProbeResponse(
            permit=permit.id if permit else "",
            expires=timestamp_to_proto(permit.expires if permit else None),
            state=_state(state),
        )

    async def TestProvider(
        self, request: pb.TestProviderRequest, context: Context
    ) -> pb.TestProviderResponse:
        tests = await self._tester.test(target_from_proto(request.provider, "").provider)
        return pb.TestProviderResponse(endpoints=map(endpoint_test_to_proto, tests))

    async def SetProviderMode(
        self, request: pb.SetProviderModeRequest, context: Context
    ) -> pb.SetProviderModeResponse:
        target, setting = target_from_proto(request.provider, request.model), mode_from_proto(request)
        check_words(request.author, request.reason)
        state, change = await self._operators.set_mode(
            target,
            setting,
            request.author,
            request.reason,
            generation=request.generation if request.HasField("generation") else None,
            version=request.version if request.HasField("version") else None,
        )
        return pb.SetProviderModeResponse(state=_state(state), change=change_to_proto(change))

    async def TriggerFailover(
        self, request: pb.TriggerFailoverRequest, context: Context
    ) -> pb.TriggerFailoverResponse:
        failover = failover_from_proto(request)
        check_words(request.author, request.reason)
        seconds = duration_from_proto(request.duration) if request.HasField("duration") else None
        state, change = await self._operators.fail_over(failover, seconds, request.author)
        return pb.TriggerFailoverResponse(state=_state(state), change=change_to_proto(change))

    async def UndoChange(self, request: pb.UndoChangeRequest, context: Context) -> pb.UndoChangeResponse:
        check_words(request.author, request.reason)
        change = await self._operators.undo(request.change_id, request.author, request.reason)
        return pb.UndoChangeResponse(change=change_to_proto(change))

    async def AddMaintenanceWindow(
        self, request: pb.AddMaintenanceWindowRequest, context: Context
    ) -> pb.AddMaintenanceWindowResponse:
        window = window_from_proto(request.window)
        check_words(request.author, window.reason, "window.reason")
        added, change = await self._windows.add(window, request.author)
        return pb.AddMaintenanceWindowResponse(window=window_to_proto(added), change=change_to_proto(change))

    async def ListMaintenanceWindows(
        self, request: pb.ListMaintenanceWindowsRequest, context: Context
    ) -> pb.ListMaintenanceWindowsResponse:
        found = self._windows.list(request.provider)
        return pb.ListMaintenanceWindowsResponse(windows=[window_to_proto(window) for window in found])

    async def RemoveMaintenanceWindow(
        self, request: pb.RemoveMaintenanceWindowRequest, context: Context
    ) -> pb.RemoveMaintenanceWindowResponse:
        check_words(request.author, request.reason)
        change = await self._windows.remove(request.window_id, request.author, request.reason)
        return pb.RemoveMaintenanceWindowResponse(change=change_to_proto(change))


def _outcomes(report: pb.ReportOutcomesRequest) -> list[Outcome]:
    check_count("outcomes", len(report.outcomes), MAX_OUTCOMES)
    for index, summary in enumerate(report.outcomes):
        check_count(f"outcomes[{index}].failures", len(summary.failures), MAX_FAILURES)
    return [_outcome(index, summary) for index, summary in enumerate(report.outcomes)]


def _outcome(index: int, summary: pb.OutcomeSummary) -> Outcome:
    failures: dict[ErrorClass, int] = {}
    for failure in summary.failures:
        # A class from the future cannot be judged; it still was no success.
        error_class = error_class_from_proto(failure.error_class)
        if error_class is not None:
            failures[error_class] = failures.get(error_class, 0) + failure.count
    try:
        return Outcome(
            provider=summary.provider,
            model=summary.model,
            successes=summary.successes,
            failures=failures,
            latency_sum=duration_from_proto(summary.latency_sum),
            first_token_sum=duration_from_proto(summary.time_to_first_token_sum),
            first_token_count=summary.time_to_first_token_count,
            output_tokens=summary.output_tokens,
            retry_not_before=(
                timestamp_from_proto(summary.retry_not_before)
                if summary.HasField("retry_not_before")
                else None
            ),
            row=summary.faults_in_row,
            permit=summary.probe_permit,
            probe_tenant=summary.probe_tenant,
            generation=summary.generation if summary.HasField("generation") else None,
            provider_generation=(
                summary.provider_generation if summary.HasField("provider_generation") else None
            ),
        )
    except ValueError as error:
        raise InvalidArgument([FieldViolation(f"outcomes[{index}]", str(error))]) from error


def _routes(report: pb.ReportOutcomesRequest) -> list[RouteChange]:
    check_count("routes", len(report.routes), MAX_OUTCOMES)
    found = [_route_change(index, route) for index, route in enumerate(report.routes)]
    return [change for change in found if change is not None]


def _route_change(index: int, route: pb.RouteChange) -> RouteChange | None:
    part, error_class = route_part_from_proto(route.part), error_class_from_proto(route.error_class)
    if part is None or error_class is None:
        # From the future: routers of that version tell each other.
        return None
    try:
        return RouteChange(
            route.provider,
            part,
            route.name,
            route.model,
            error_class,
            timestamp_from_proto(route.since),
            timestamp_from_proto(route.until) if route.HasField("until") else 0.0,
            route.times,
            route.key_version,
        )
    except ValueError as error:
        raise InvalidArgument([FieldViolation(f"routes[{index}]", str(error))]) from error


def _route(change: RouteChange) -> pb.RouteChange:
    return pb.RouteChange(
        provider=change.provider,
        part=route_part_to_proto(change.part),
        name=change.name,
        model=change.model,
        error_class=error_class_to_proto(change.error_class),
        since=timestamp_to_proto(change.since),
        until=timestamp_to_proto(change.until or None),
        times=change.times,
        key_version=change.key_version,
    )


def _circuit(circuit: BreakerState) -> pb.Circuit:
    return pb.Circuit(
        state=_CIRCUIT[circuit.state],
        generation=circuit.generation,
        open_until=timestamp_to_proto(circuit.open_until or None),
        since=timestamp_to_proto(circuit.since or None),
        cause=_CAUSE[circuit.cause],
        trips=circuit.trips,
    )


def _state(state: TargetState) -> pb.ProviderHealthState:
    return pb.ProviderHealthState(
        provider=state.target.provider,
        model=state.target.model,
        status=_STATUS[state.status],
        circuit=_circuit(state.circuit),
        response_time=duration_to_proto(state.response_time),
        error_rate=state.error_rate,
        success_rate=state.success_rate,
        last_checked=timestamp_to_proto(state.last_checked),
        consecutive_failures=min(state.consecutive_failures, 2**31 - 1),
        calls=min(state.calls, 2**31 - 1),
        mode=MODES[state.mode],
        reason=state.reason,
        time_to_first_token=duration_to_proto(state.time_to_first_token),
        ramp=state.ramp,
        probe_failed_by=state.probe_failed_by,
        probes_failed=min(state.probes_failed, 2**31 - 1),
        failovers=[failover_to_proto(each) for each in state.failovers if not each.opens_circuit],
        mode_version=state.mode_version,
    )
