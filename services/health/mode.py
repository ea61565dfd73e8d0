"""Operators' overrides: modes that outrank the evidence, and failovers."""

from __future__ import annotations

from libs.bounds import MAX_REASON
from libs.clock import Clock
from libs.errors import Aborted, FieldViolation, InvalidArgument
from libs.resilience.circuit import TripCause
from libs.telemetry import get_logger
from services.health.domain.target import Mode, Target, TargetState
from services.health.judge import Judge
from services.health.share import Sharer

MIN_SECONDS, MAX_SECONDS = 1.0, 86_400.0
log = get_logger(__name__)


class Operators:
    """Use cases of operators. An override holds here at once, and is shared with the other replicas before the call
    returns, if the store is there; otherwise as soon as it is back."""

    def __init__(self, judge: Judge, sharer: Sharer, clock: Clock) -> None:
        self._judge = judge
        self._sharer = sharer
        self._clock = clock

    async def set_mode(self, target: Target, mode: Mode, reason: str, generation: int | None) -> TargetState:
        """Sets a mode; AUTOMATIC rehabilitates. Raises NotFound, InvalidArgument, or Aborted where the circuit's
        generation is not `generation` (None: whatever it is)."""
        _check_reason(reason)
        before = self._judge.state(target)
        if generation is not None and before.circuit.generation != generation:
            raise Aborted(
                f"The circuit of {target} is at generation {before.circuit.generation}, not {generation}: look again",
                reason="GENERATION_MISMATCH",
                metadata={"generation": str(before.circuit.generation)},
            )
        self._judge.fleet.set_mode(self._clock.now(), target, mode, reason)
        return await self._share("mode_set", target, mode=mode.value, before=before.mode.value, reason=reason)

    async def fail_over(self, target: Target, reason: str, seconds: float | None) -> TargetState:
        """Opens the circuit for `seconds`, None: for one breaker period. Raises NotFound, InvalidArgument."""
        _check_reason(reason)
        if seconds is not None and not MIN_SECONDS <= seconds <= MAX_SECONDS:
            raise InvalidArgument([FieldViolation("duration", "must be 1 second to 24 hours")])
        judgement = self._judge.fleet.judgement(target)
        judgement.breaker.trip(self._clock.now(), TripCause.OPERATOR, seconds)
        judgement.explain(reason)
        return await self._share("failover_triggered", target, reason=reason)

    async def _share(self, event: str, target: Target, **details: str) -> TargetState:
        self._judge.tick(all_changes=True)
        shared = await self._sharer.exchange()
        log.info(event, target=str(target), shared=shared, **details)
        return self._judge.state(target)


def _check_reason(reason: str) -> None:
    if not 1 <= len(reason.strip()) <= MAX_REASON:
        raise InvalidArgument([FieldViolation("reason", f"must be 1 to {MAX_REASON} characters")])
