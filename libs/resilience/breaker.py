"""The circuit breaker: judges one target on evidence of its calls.

States as in resilience4j's CircuitBreaker (error-rate window, slow-call rate, half-open), generations as in
sony/gobreaker (late results of an earlier state do not count), growing ejection times as in Envoy's outlier
detection, slow start after recovery as in Envoy's load balancers.

When it acts: three faults in a row open it, more where the target fails now and then anyway; or half of ten calls in
a window. Open, it lets nothing through until its period is over; half-open, one call at a time, with a permit. A
success closes it, and traffic grows from a tenth to all over ten seconds; a fault opens it again, for longer.
Each period is counted from the first fault of the row, then from the instant at which a trial was due, not from the
call that came to make it: trials keep their distance from the outage's begin however seldom calls come. First start:
closed, with a prior belief in place of evidence.

Only faults of the target count. What is wrong with the caller's request, or with our account there (its key, its
quota), says nothing about the target and is nothing that time mends.
"""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from libs.resilience.evidence import BreakerSettings, Evidence
from libs.resilience.permits import CircuitPermit, CircuitPermits
from libs.resilience.window import Counts, SlidingCounts
from libs.types import ErrorClass

#: The prior belief about a target: one failure in a hundred calls, as firmly as after ten calls.
_PRIOR_FAILURES, _PRIOR_CALLS = 0.1, 10
#: The false alarms allowed in a window: one circuit a day or less opens by mere chance.
_FALSE_ALARMS = 1e-4


class Breaker:
    """One target's circuit. Every `now` is seconds since the Unix epoch. Not thread-safe; never blocks.

    `state` may move in any call, with time alone too: read it after `tick`.
    """

    def __init__(self, settings: BreakerSettings, rng: Random, state: BreakerState | None = None) -> None:
        self._settings = settings
        self._rng = rng
        #: The state as of the last call; written here alone.
        self.state = state or BreakerState()
        self._window = SlidingCounts(settings.window_seconds, settings.buckets)
        self._permits = CircuitPermits(settings.half_open_permits, settings.permit_ttl)
        self._consecutive = 0
        #: The instant of the first fault of the present row, where there is one.
        self._row_since = 0.0
        self._only_transport = True
        self._probe_successes = 0
        self._not_before = 0.0

    @property
    def consecutive_failures(self) -> int:
        """Returns the provider faults since the last success."""
        return self._consecutive

    def counts(self, now: float) -> Counts:
        """Returns the calls in the judging window."""
        return self._window.totals(now)

    def ramp(self, now: float) -> float:
        """Returns the share of its usual traffic that the target should get: 0 unless closed, 1 when fully
        recovered."""
        state = self.tick(now)
        if state.state is not CircuitState.CLOSED:
            return 0.0
        if state.trips == 0:
            return 1.0
        passed = (now - state.since) / self._settings.ramp_seconds
        floor = self._settings.ramp_floor
        return floor + (1 - floor) * min(1.0, max(0.0, passed))

    def tick(self, now: float) -> BreakerState:
        """Lets time act: an open circuit whose period is over becomes half-open.

        A mere cooldown (the provider said when to come back, nothing is broken) closes instead. The new state's
        `since` is the planned instant, so that all replicas arrive at the same state.
        """
        state = self.state
        if state.state is CircuitState.OPEN and now >= state.open_until:
            closed = state.cause is TripCause.COOLDOWN
            self._enter(
                CircuitState.CLOSED if closed else CircuitState.HALF_OPEN,
                TripCause.NONE if closed else state.cause,
                since=state.open_until,
            )
        return self.state

    def acquire(self, now: float) -> CircuitPermit | None:
        """Returns a permit for one call: always when closed, leased when half-open, None when refused.

        Name `permit.generation` in the call's evidence, and release a leased permit when the call ends.
        """
        state = self.tick(now)
        if state.state is CircuitState.CLOSED:
            return CircuitPermit("", state.generation, now + self._settings.permit_ttl)
        if state.state is CircuitState.OPEN:
            return None
        return self._permits.acquire(now, state.generation)

    def release(self, permit_id: str) -> None:
        """Gives a permit back; unknown ones are ignored. Forgetting to costs `permit_ttl` seconds, no more."""
        self._permits.release(permit_id)

    def record(self, now: float, evidence: Evidence) -> BreakerState:
        """Takes in ended calls and returns the state after them."""
        state = self.tick(now)
        seen = evidence.generation
        if seen is not None and seen > state.generation:
            # Whoever saw a later generation knows more (this replica restarted); like a Lamport clock, catch up.
            self.state = state = replace(state, generation=seen)
        if state.state is CircuitState.CLOSED:
            if seen is None or seen >= state.generation:
                self._judge_calls(now, evidence)
        elif seen is not None and seen >= state.generation:
            self._judge_trials(now, evidence)
        if evidence.retry_not_before is not None and any(evidence.failures.values()):
            self._cool_down(now, evidence.retry_not_before)
        return self.state

    def trip(
        self, now: float, cause: TripCause, seconds: float | None = None, broken_since: float | None = None
    ) -> BreakerState:
        """Opens the circuit for `seconds`, or for its own next period, which is counted from `broken_since` where it
        is known, and leaves a quarter of itself at least. An open circuit only ever opens longer."""
        state = self.tick(now)
        recovering = state.state is not CircuitState.CLOSED or (
            state.trips > 0 and now - state.since < self._settings.forgive_seconds
        )
        trips = state.trips + 1 if recovering else 1
        if seconds is None:
            period = self._period(trips)
            seconds = period if broken_since is None else max(broken_since + period - now, period / 4)
        until = max(now + seconds, self._not_before)
        if state.state is CircuitState.OPEN and cause is not TripCause.OPERATOR:
            if until > state.open_until:
                self.state = replace(state, open_until=until, cause=cause)
            return self.state
        until = max(until, state.open_until)
        self._enter(CircuitState.OPEN, cause, since=now, open_until=until, trips=trips)
        return self.state

    def reset(self, now: float) -> BreakerState:
        """Closes the circuit at full traffic and forgets all evidence: an operator's rehabilitation."""
        self._not_before = 0.0
        self._enter(CircuitState.CLOSED, TripCause.NONE, since=now, trips=0)
        return self.state

    def allow_early(self, now: float) -> BreakerState:
        """Half-opens an open circuit before its time, because something free says it may be back.

        Does nothing while a Retry-After is running, nor against an operator's word.
        """
        state = self.tick(now)
        held = state.cause in (TripCause.OPERATOR, TripCause.COOLDOWN) or now < self._not_before
        if state.state is CircuitState.OPEN and not held:
            self._enter(CircuitState.HALF_OPEN, state.cause, since=now)
        return self.state

    def merge(self, now: float, other: BreakerState) -> BreakerState:
        """Takes over another replica's state where it is the larger one.

        A Retry-After that only this replica got still extends the result, unless the other side has closed the
        circuit in a later generation, which takes a success or an operator.
        """
        if other.open_until > now + self._settings.longest_open:
            return self.tick(now)
        mine = self.state
        winner = mine.merge(other)
        if winner is not mine:
            self.state = winner
            if winner.generation > mine.generation:
                self._forget_trials()
                if winner.state is CircuitState.CLOSED:
                    self._not_before = 0.0
            if winner.state is not CircuitState.CLOSED and now < self._not_before:
                self._reopen_until(self._not_before, since=now)
        return self.tick(now)

    def _judge_calls(self, now: float, evidence: Evidence) -> None:
        settings = self._settings
        faults = evidence.faults
        self._window.add(now, evidence.successes, faults, min(evidence.slow, evidence.successes))
        if evidence.successes:
            self._consecutive = 0
            self._only_transport = True
        if not self._consecutive:
            self._row_since = now
        self._consecutive += evidence.faults_in_row
        if faults != evidence.failures.get(ErrorClass.TRANSPORT, 0):
            self._only_transport = False
        if not faults and not evidence.slow:
            return  # nothing here opens a circuit
        totals = self._window.totals(now)
        enough = totals.calls >= settings.minimum_calls
        if faults and (
            self._consecutive >= self._failures_beyond_chance(totals)
            or (enough and totals.failure_rate >= settings.failure_rate)
        ):
            unreachable = self._only_transport and self._consecutive >= settings.consecutive_failures
            since = self._row_since if self._consecutive else now
            self.trip(now, TripCause.TRANSPORT if unreachable else TripCause.FAULTS, broken_since=since)
        elif enough and evidence.slow and totals.slow_rate >= settings.slow_rate:
            self.trip(now, TripCause.SLOW)

    def _failures_beyond_chance(self, totals: Counts) -> int:
        """Returns the failures in a row that are no chance, given how often the target fails otherwise: three for one
        that hardly ever does, more the more often it does and the more calls there are to be unlucky with."""
        settings = self._settings
        failures = totals.failures - min(self._consecutive, totals.failures)
        calls = totals.successes + failures + _PRIOR_CALLS
        rate = (failures + _PRIOR_FAILURES) / calls
        row = (
            math.ceil(math.log(_FALSE_ALARMS / calls) / math.log(rate))
            if rate < 1
            else settings.minimum_calls
        )
        return max(settings.consecutive_failures, min(row, settings.minimum_calls))

    def _judge_trials(self, now: float, evidence: Evidence) -> None:
        """Judges evidence of calls made although the circuit was not closed: probes, or calls with no alternative."""
        state = self.state
        faults = evidence.faults
        self._window.add(now, evidence.successes, faults, min(evidence.slow, evidence.successes))
        still_slow = state.cause is TripCause.SLOW and evidence.slow > 0
        self._consecutive = self._consecutive + faults if not evidence.successes else 0
        if faults or still_slow:
            if state.state is CircuitState.HALF_OPEN:
                self.trip(now, state.cause, broken_since=state.since)
        elif evidence.successes and state.cause is not TripCause.OPERATOR and now >= self._not_before:
            self._probe_successes += evidence.successes
            if self._probe_successes >= self._settings.half_open_successes:
                self._enter(CircuitState.CLOSED, TripCause.NONE, since=now)

    def _cool_down(self, now: float, until: float) -> None:
        until = min(until, now + self._settings.max_cooldown)
        if until <= now:
            return
        self._not_before = max(self._not_before, until)
        self._reopen_until(self._not_before, since=now)

    def _reopen_until(self, until: float, since: float) -> None:
        """Makes the circuit open at least until then. Never shortens."""
        state = self.state
        if state.state is CircuitState.OPEN:
            if until > state.open_until:
                self.state = replace(state, open_until=until)
        else:
            cause = TripCause.COOLDOWN if state.state is CircuitState.CLOSED else state.cause
            self._enter(CircuitState.OPEN, cause, since=since, open_until=until)

    def _period(self, trips: int) -> float:
        settings = self._settings
        # The exponent is bounded only to keep the power finite; the cap has won long before.
        growth = settings.open_factor ** min(trips - 1, 64)
        period = min(settings.open_cap, settings.open_seconds * growth)
        return period * (1 + self._rng.uniform(0, settings.jitter))

    def _enter(
        self,
        state: CircuitState,
        cause: TripCause,
        *,
        since: float,
        open_until: float = 0.0,
        trips: int | None = None,
    ) -> None:
        old = self.state
        self.state = BreakerState(
            state, old.generation + 1, open_until, cause, since, old.trips if trips is None else trips
        )
        self._forget_trials()

    def _forget_trials(self) -> None:
        self._probe_successes = 0
        if self.state.state is CircuitState.CLOSED:
            self._consecutive = 0
            self._only_transport = True
            self._window.clear()
