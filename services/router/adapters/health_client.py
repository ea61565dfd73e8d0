"""The router's picture of its targets: what the health service says, merged with what this router sees itself.

Two streams and a rare call: `WatchProviders` brings judgements, `ReportOutcomes` carries evidence away four times a
second, `AcquireProbe` is asked beside the request path when a circuit is half-open. Without a health service all
goes on with the last known judgements and the local breakers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from random import Random
from typing import NamedTuple

import grpc
from msgspec import structs
from pointsman.health.v1 import health_pb2, health_pb2_grpc

from libs.catalog.model import Model
from libs.clock import Clock
from libs.resilience.backoff import Backoff
from libs.resilience.breaker import Breaker, BreakerSettings, Evidence
from libs.resilience.circuit import BreakerState, CircuitState, TripCause, worse
from libs.resilience.quantile import DecayingQuantile
from libs.rpc import channel as rpc
from libs.rpc.convert import (
    duration_from_proto,
    duration_to_proto,
    error_class_to_proto,
    timestamp_from_proto,
    timestamp_to_proto,
)
from libs.rpc.status import from_rpc_error
from libs.telemetry import Metrics, get_logger
from libs.types import ErrorClass
from services.router.domain.health import Availability, TargetHealth
from services.router.ports import CallTicket

#: How often evidence is sent, seconds.
REPORT_INTERVAL = 0.25
#: Heartbeats come every 5 s; a stream silent for longer than this is dead.
WATCH_SILENCE = 16.0
#: How often a permit is asked for while a circuit is half-open, and how long an answer may take, seconds.
PROBE_INTERVAL = 0.25
PROBE_TIMEOUT = 1.0
#: How often the local window is counted, seconds: often enough to order candidates by.
COUNT_INTERVAL = 0.1
#: Successes that wait to be taken in, at most.
SUCCESSES = 1000
#: Calls from which on a learned percentile is believed.
HEDGE_SAMPLES = 20
#: In a total outage each target is tried this often, seconds, so that the first to recover is found at once.
TRIAL_INTERVAL = 1.0
#: Open by evidence of faults, which a success disproves; not by an operator, a Retry-After or a bad account.
_TRIED = frozenset({TripCause.FAULTS, TripCause.TRANSPORT, TripCause.SLOW, TripCause.NONE})
#: Weight of the newest call in the local latency average.
EWMA = 0.2
#: Calls in the local window from which its success rate says more than the health service's.
LOCAL_EVIDENCE = 5

_STATES = {
    health_pb2.CIRCUIT_STATE_OPEN: CircuitState.OPEN,
    health_pb2.CIRCUIT_STATE_HALF_OPEN: CircuitState.HALF_OPEN,
}
_CAUSES = {
    health_pb2.CIRCUIT_CAUSE_FAULTS: TripCause.FAULTS,
    health_pb2.CIRCUIT_CAUSE_TRANSPORT: TripCause.TRANSPORT,
    health_pb2.CIRCUIT_CAUSE_SLOW: TripCause.SLOW,
    health_pb2.CIRCUIT_CAUSE_COOLDOWN: TripCause.COOLDOWN,
    health_pb2.CIRCUIT_CAUSE_AUTHENTICATION: TripCause.AUTHENTICATION,
    health_pb2.CIRCUIT_CAUSE_QUOTA: TripCause.QUOTA,
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


@dataclass(slots=True)
class _Target:
    """A provider, or a model on it."""

    breaker: Breaker
    taken_out: str = ""
    degraded: bool = False
    ramp: float = 1.0
    success_rate: float = 1.0
    latency: float | None = None
    first_token: float | None = None
    permit: str | None = None
    permit_until: float = 0.0
    ask_again: float = 0.0
    next_trial: float = 0.0
    #: The local success rate as last counted; None: too few calls.
    counted: float | None = None
    counted_until: float = 0.0
    #: The judgement made with that count, as of so many changes; None: calls may not just go there.
    known: TargetHealth | None = None
    known_as_of: int = 0
    latencies: DecayingQuantile = field(default_factory=DecayingQuantile)
    first_tokens: DecayingQuantile = field(default_factory=DecayingQuantile)
    #: While its circuit is closed: not taken in yet.
    successes: list[_Success] = field(default_factory=list)


class _Success(NamedTuple):
    """A call that gave the answer. `at`: epoch seconds."""

    at: float
    model: Model
    ticket: CallTicket
    latency: float
    first_token: float | None
    tokens: int


@dataclass(slots=True)
class _Tally:
    """Outcomes not reported yet."""

    successes: int = 0
    failures: dict[ErrorClass, int] = field(default_factory=dict)
    latency_sum: float = 0.0
    latency_max: float = 0.0
    first_token_sum: float = 0.0
    first_token_count: int = 0
    tokens: int = 0
    retry_not_before: float = 0.0


_Key = tuple[str, str, int, int, str]
_ticket = attrgetter("ticket")


class HealthClient:
    """Satisfies `ports.HealthView`. `watch`, `report` and `probe` run beside it for ever."""

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
        self._clock = clock
        self._rng = rng
        self._settings = settings or BreakerSettings()
        self._targets: dict[tuple[str, str], _Target] = {}
        self._pairs: dict[str, tuple[_Target, _Target]] = {}
        self._tallies: dict[_Key, _Tally] = {}
        self._wanted: asyncio.Queue[Model] = asyncio.Queue()
        self._watching = False
        self._epoch, self._version = "", 0
        #: How often something happened that judgements must not miss.
        self._changes = 0
        #: Set once the first judgements are here.
        self.known = asyncio.Event()
        self._connected = metrics.gauge("health_connected", "1 while the watch on the health service is up")

    def target(self, model: Model) -> TargetHealth:
        """The present judgement."""
        now = self._clock.now()
        provider, target = self._pair(model)
        if target.known is not None and target.known_as_of == self._changes and now < target.counted_until:
            return target.known
        taken_out = provider.taken_out or target.taken_out
        if taken_out:
            return TargetHealth(Availability.DOWN, reason=taken_out)
        state = worse(provider.breaker.tick(now), target.breaker.tick(now))
        if state.state is CircuitState.OPEN:
            wait = max(0.0, state.open_until - now)
            reason = f"its circuit is open for another {wait:.0f} s {state.cause}".rstrip()
            tried = state.cause in _TRIED
            back = min(wait, max(0.0, target.next_trial - now)) if tried else wait
            return TargetHealth(
                Availability.DOWN, reason=reason, retry_after=back, trial=tried and now >= target.next_trial
            )
        if now >= target.counted_until:
            self._take_in(target)
            counts = target.breaker.counts(now)
            enough = counts.calls >= LOCAL_EVIDENCE
            target.counted = 1 - counts.failure_rate if enough else None
            target.counted_until = now + COUNT_INTERVAL
        success_rate = target.success_rate if target.counted is None else target.counted
        availability = Availability.DEGRADED if target.degraded or provider.degraded else Availability.HEALTHY
        if state.state is CircuitState.HALF_OPEN:
            if target.permit is None or now >= target.permit_until:
                self._want(model, target, now)
                return TargetHealth(
                    Availability.DOWN, reason="it is being probed after a failure", retry_after=PROBE_INTERVAL
                )
            availability = Availability.PROBING
        probing = availability is Availability.PROBING
        ramp = 1.0 if probing else min(provider.ramp, target.ramp)
        known = TargetHealth(availability, success_rate, target.latency, target.first_token, ramp)
        if not probing:
            target.known, target.known_as_of = known, self._changes
        return known

    def hedge_after(self, model: Model, *, stream: bool) -> float | None:
        """The learned 95th percentile."""
        target = self._target(model.provider, model.name)
        self._take_in(target)
        learned = target.first_tokens if stream else target.latencies
        if learned.samples(self._clock.now()) < HEDGE_SAMPLES:
            return None
        return learned.quantile(0.95)

    def begin(self, model: Model) -> CallTicket | None:
        """Before a call."""
        now = self._clock.now()
        provider, target = self._pair(model)
        mine, theirs = target.breaker.tick(now), provider.breaker.tick(now)
        if mine.state is CircuitState.CLOSED and theirs.state is CircuitState.CLOSED:
            return CallTicket("", mine.generation, theirs.generation)
        permit = ""
        state = worse(theirs, mine)
        if state.state is CircuitState.OPEN:
            if state.cause not in _TRIED or now < target.next_trial:
                return None
            target.next_trial = now + TRIAL_INTERVAL
        if state.state is CircuitState.HALF_OPEN:
            if target.permit is None or now >= target.permit_until:
                return None
            permit, target.permit = target.permit, None
        return CallTicket(permit, mine.generation, theirs.generation)

    def succeeded(
        self, model: Model, ticket: CallTicket, latency: float, first_token: float | None, tokens: int
    ) -> None:
        """After a call that gave the answer."""
        success = _Success(self._clock.now(), model, ticket, latency, first_token, tokens)
        provider, target = self._pair(model)
        if (
            provider.breaker.state.state is CircuitState.CLOSED
            and target.breaker.state.state is CircuitState.CLOSED
            and len(target.successes) < SUCCESSES
        ):
            target.successes.append(success)
        else:
            self._take_in(target)
            self._succeeded([success])

    def _take_in(self, target: _Target) -> None:
        """Successes only matter where something is decided. Until then they wait: a few taken in together cost much
        less than each by itself."""
        if target.successes:
            successes, target.successes = target.successes, []
            for _, alike in groupby(successes, _ticket):
                self._succeeded(list(alike))

    def _succeeded(self, successes: Sequence[_Success]) -> None:
        """Calls that began under one ticket, as if all had ended with the last of them."""
        now, model, ticket = successes[-1][:3]
        provider, target = self._pair(model)
        tally = self._tally(model, ticket)
        whole: list[float] = []
        streamed: list[float] = []
        slow = 0
        for _, _, _, latency, first_token, tokens in successes:
            slow += self._settings.is_slow(latency, tokens)
            target.latency = _average(target.latency, latency)
            tally.latency_sum += latency
            tally.latency_max = max(tally.latency_max, latency)
            tally.tokens += tokens
            if first_token is None:
                whole.append(latency)
            else:
                streamed.append(first_token)
                target.first_token = _average(target.first_token, first_token)
        tally.successes += len(successes)
        tally.first_token_sum += sum(streamed)
        tally.first_token_count += len(streamed)
        target.latencies.add(now, *whole)
        target.first_tokens.add(now, *streamed)
        evidence = Evidence(len(successes), slow=slow, generation=ticket.generation)
        self._record(now, model, ticket, provider, target, evidence)

    def failed(
        self, model: Model, ticket: CallTicket, error_class: ErrorClass, retry_after: float | None
    ) -> None:
        """After one that did not."""
        now = self._clock.now()
        provider, target = self._pair(model)
        self._take_in(target)
        self._changes += 1
        until = now + retry_after if retry_after is not None else None
        evidence = Evidence(failures={error_class: 1}, generation=ticket.generation, retry_not_before=until)
        self._record(now, model, ticket, provider, target, evidence)
        tally = self._tally(model, ticket)
        tally.failures[error_class] = tally.failures.get(error_class, 0) + 1
        if until is not None:
            tally.retry_not_before = max(tally.retry_not_before, until)

    async def watch(self) -> None:
        """Follows the health service's judgements for ever."""
        backoff, failures = Backoff(base=0.1, cap=2.0), 0
        while True:
            call = self._stub.WatchProviders(
                health_pb2.WatchProvidersRequest(
                    watcher_id=self._router_id, epoch=self._epoch, version=self._version
                ),
                metadata=rpc.metadata(self._token),
                wait_for_ready=True,
            )
            try:
                while True:
                    async with asyncio.timeout(WATCH_SILENCE):
                        answer = await call.read()
                    if not isinstance(answer, health_pb2.WatchProvidersResponse):
                        break
                    failures = 0
                    self._watching = True
                    self._connected.set(1)
                    self._apply(answer)
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                known = from_rpc_error(error) if isinstance(error, grpc.aio.AioRpcError) else "silent"
                log.warning("health_watch_broken", error=str(known))
                failures += 1
            finally:
                call.cancel()
                self._watching = False
                self._connected.set(0)
            await asyncio.sleep(backoff.delay(failures, self._rng) or 0.0)

    async def report(self) -> None:
        """Sends evidence for ever. What a broken stream did not acknowledge is sent again only if it is still
        fresh news: evidence is a sample, not an account."""
        backoff, failures = Backoff(base=0.1, cap=2.0), 0
        while True:
            call = self._stub.ReportOutcomes(metadata=rpc.metadata(self._token), wait_for_ready=True)
            try:
                sequence = 0
                while True:
                    await asyncio.sleep(REPORT_INTERVAL)
                    for target in self._targets.values():
                        self._take_in(target)
                    if not self._tallies:
                        continue
                    tallies, self._tallies = self._tallies, {}
                    sequence += 1
                    await call.write(
                        health_pb2.ReportOutcomesRequest(
                            reporter_id=self._router_id,
                            sequence=sequence,
                            outcomes=_summaries(tallies.items()),
                        )
                    )
                    if not isinstance(await call.read(), health_pb2.ReportOutcomesResponse):
                        break
                    failures = 0
            # InvalidStateError: grpc.aio's word for writing to a call that has ended.
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                known = from_rpc_error(error) if isinstance(error, grpc.aio.AioRpcError) else "it ended"
                log.warning("health_report_broken", error=str(known))
                failures += 1
            finally:
                call.cancel()
            await asyncio.sleep(backoff.delay(failures, self._rng) or 0.0)

    async def probe(self) -> None:
        """Fetches permits for half-open targets for ever, beside the request path."""
        while True:
            model = await self._wanted.get()
            target = self._target(model.provider, model.name)
            now = self._clock.now()
            if not self._watching:
                permit = target.breaker.acquire(now)
                if permit is not None:
                    target.permit, target.permit_until = permit.id, permit.expires
                continue
            try:
                answer = await self._stub.AcquireProbe(
                    health_pb2.AcquireProbeRequest(
                        provider=model.provider, model=model.name, holder_id=self._router_id
                    ),
                    metadata=rpc.metadata(self._token),
                    timeout=PROBE_TIMEOUT,
                )
            except grpc.aio.AioRpcError as error:
                log.warning("probe_permit_failed", target=model.id, error=str(from_rpc_error(error)))
                continue
            if answer.permit:
                target.permit, target.permit_until = answer.permit, timestamp_from_proto(answer.expires)

    def _target(self, provider: str, model: str) -> _Target:
        target = self._targets.get((provider, model))
        if target is None:
            target = self._targets[provider, model] = _Target(Breaker(self._settings, self._rng))
        return target

    def _pair(self, model: Model) -> tuple[_Target, _Target]:
        """The model's provider and the model."""
        pair = self._pairs.get(model.id)
        if pair is None:
            pair = self._target(model.provider, ""), self._target(model.provider, model.name)
            self._pairs[model.id] = pair
        return pair

    def _tally(self, model: Model, ticket: CallTicket) -> _Tally:
        key = (model.provider, model.name, ticket.generation, ticket.provider_generation, ticket.permit)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally()
        return tally

    def _record(
        self,
        now: float,
        model: Model,
        ticket: CallTicket,
        provider: _Target,
        target: _Target,
        evidence: Evidence,
    ) -> None:
        if provider.breaker.state.state is not CircuitState.CLOSED:
            # Closed, it is judged by the health service over all models; recovering, one probe says it all.
            provider.breaker.record(now, structs.replace(evidence, generation=ticket.provider_generation))
        before = target.breaker.state
        after = target.breaker.record(now, evidence)
        if after.state is not before.state:
            self._changes += 1
            log.info("circuit_changed", target=model.id, state=after.state, cause=after.cause)

    def _want(self, model: Model, target: _Target, now: float) -> None:
        if now >= target.ask_again:
            target.ask_again = now + PROBE_INTERVAL
            self._wanted.put_nowait(model)

    def _apply(self, answer: health_pb2.WatchProvidersResponse) -> None:
        self._epoch, self._version = answer.epoch, answer.version
        self._changes += 1
        now = self._clock.now()
        for state in answer.providers:
            target = self._target(state.provider, state.model)
            self._take_in(target)
            taken_out = state.mode in _TAKEN_OUT
            target.taken_out = (state.reason or "an operator has taken it out") if taken_out else ""
            target.degraded = state.status == health_pb2.PROVIDER_STATUS_DEGRADED
            # A ramp of 0 only says that a permit is needed, which the circuit says too.
            target.ramp = state.ramp or 1.0
            target.success_rate = min(1.0, max(0.0, state.success_rate))
            if state.HasField("response_time"):
                target.latency = max(0.0, duration_from_proto(state.response_time))
            if state.HasField("time_to_first_token"):
                target.first_token = duration_from_proto(state.time_to_first_token)
            target.breaker.merge(now, _circuit(state.circuit))
        self.known.set()


def _circuit(circuit: health_pb2.Circuit) -> BreakerState:
    state = _STATES.get(circuit.state, CircuitState.CLOSED)
    until = timestamp_from_proto(circuit.open_until) if state is CircuitState.OPEN else 0.0
    cause = _CAUSES.get(circuit.cause, TripCause.NONE)
    since = timestamp_from_proto(circuit.since)
    return BreakerState(state, circuit.generation, until, cause, since, circuit.trips)


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + EWMA * (new - old)


def _summaries(tallies: Iterable[tuple[_Key, _Tally]]) -> list[health_pb2.OutcomeSummary]:
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
            probe_permit=permit,
            generation=generation,
            provider_generation=provider_generation,
        )
        for (provider, model, generation, provider_generation, permit), tally in tallies
    ]
