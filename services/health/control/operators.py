"""Use cases of operators: modes that outrank the evidence, failovers, and taking either back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from libs.catalog.catalog import Catalog
from libs.change import Change
from libs.clock import Clock
from libs.errors import Aborted, FailedPrecondition, FieldViolation, InvalidArgument, NotFound
from services.health.control.change_maker import ChangeMaker
from services.health.control.history import History
from services.health.domain.rehabilitation import STEPS
from services.health.domain.setting import FailoversSetting, Kind, ModeSetting
from services.health.domain.target import Failover, Mode, Target, TargetState
from services.health.judge import Judge

MIN_SECONDS, MAX_SECONDS = 1.0, 86_400.0
#: Failovers from one target that have not ended.
MAX_FAILOVERS = 20


class Operators:
    """Changes of modes and failovers."""

    def __init__(
        self,
        judge: Judge,
        maker: ChangeMaker,
        history: History,
        catalog: Callable[[], Catalog],
        clock: Clock,
        breaker_period: float,
    ) -> None:
        """`breaker_period`: seconds of a failover for which none are said."""
        self._judge = judge
        self._maker = maker
        self._history = history
        self._catalog = catalog
        self._clock = clock
        self._breaker_period = breaker_period

    async def set_mode(
        self,
        target: Target,
        setting: ModeSetting,
        author: str,
        reason: str,
        *,
        generation: int | None = None,
        version: int | None = None,
    ) -> tuple[TargetState, Change]:
        """Sets a mode. AUTOMATIC ends failovers from the target too, and drops the evidence against it. Raises
        NotFound, InvalidArgument, or Aborted where the circuit's generation is not `generation`, or the mode's
        version not `version` (None: whatever it is)."""
        before = self._judge.state(target)
        if setting.mode is Mode.REHABILITATING and setting.share not in STEPS:
            steps = ", ".join(f"{step:g}" for step in STEPS)
            raise InvalidArgument([FieldViolation("share", f"must be one of {steps}")])
        if generation is not None and before.circuit.generation != generation:
            raise Aborted(
                f"The circuit of {target} is at generation {before.circuit.generation}, not {generation}: look again",
                reason="GENERATION_MISMATCH",
                metadata={"generation": str(before.circuit.generation)},
            )
        thing = (Kind.MODE.value, str(target))
        change = await self._maker.make(thing, lambda: setting, author, reason, version=version)
        if setting.mode is Mode.AUTOMATIC:
            self._judge.rehabilitate(target)
            if self._judge.fleet.controls.failovers(target, self._clock.now()):
                await self._maker.make((Kind.FAILOVERS.value, str(target)), FailoversSetting, author, reason)
            await self._maker.share()
        return self._judge.state(target), change

    async def fail_over(
        self, failover: Failover, seconds: float | None, author: str
    ) -> tuple[TargetState, Change]:
        """Makes calls leave a target for `seconds`, None: for one breaker period; its `until` is found by that.
        Raises NotFound, InvalidArgument, FailedPrecondition."""
        source = failover.source
        self._judge.state(source)
        self._check(failover, seconds)
        now = self._clock.now()
        made = replace(failover, until=round(now + (seconds or self._breaker_period), 6))

        def add() -> FailoversSetting:
            standing = self._judge.fleet.controls.failovers(source, self._clock.now())
            if len(standing) >= MAX_FAILOVERS:
                raise FailedPrecondition(
                    f"{MAX_FAILOVERS} failovers from {source} have not ended: end some",
                    reason="TOO_MANY_FAILOVERS",
                )
            return FailoversSetting((*standing, made))

        change = await self._maker.make((Kind.FAILOVERS.value, str(source)), add, author, failover.reason)
        return self._judge.state(source), change

    async def undo(self, change_id: str, author: str, reason: str) -> Change:
        """Takes a change back: what was before it is again. Raises NotFound, and FailedPrecondition where the thing
        was changed since."""
        controls = self._judge.fleet.controls
        await self._maker.share()
        change = controls.by_id(change_id)
        if change is None:
            found = await self._history.find(change_id)
            if found is not None and found.kind not in set(Kind):
                raise FailedPrecondition(
                    f"A change of a {found.kind} is not undone here: set it as it was",
                    reason="CHANGE_NOT_UNDOABLE",
                )
            if found is not None:
                raise _changed_since(change_id, controls.standing(found.thing))
            raise NotFound(f"There is no change {change_id[:200]!r}", reason="CHANGE_NOT_FOUND")
        undone = change

        def before() -> str:
            standing = controls.standing(undone.thing)
            if standing is None or standing.change_id != change_id:
                raise _changed_since(change_id, standing)
            return undone.before

        return await self._maker.make(undone.thing, before, author, reason, undoes=change_id)

    def _check(self, failover: Failover, seconds: float | None) -> None:
        faults = []
        if seconds is not None and not MIN_SECONDS <= seconds <= MAX_SECONDS:
            faults.append(FieldViolation("duration", "must be 1 second to 24 hours"))
        if failover.to is not None and failover.source.covers(failover.to):
            faults.append(FieldViolation("to_provider", f"is {failover.source} itself"))
        if faults:
            raise InvalidArgument(faults)
        if failover.to is not None:
            self._judge.state(failover.to)
        catalog = self._catalog()
        for what, names, known in (
            ("tenant", failover.tenants, catalog.tenants),
            ("content type", failover.content_types, catalog.content_types),
        ):
            for name in names:
                if name not in known:
                    raise NotFound(f"The catalog has no {what} {name[:200]!r}")


def _changed_since(change_id: str, standing: Change | None) -> FailedPrecondition:
    by = f" by {standing.author}" if standing is not None else ""
    return FailedPrecondition(
        f"What change {change_id} was about has been changed since{by}: undo that first, or set it anew",
        reason="CHANGED_SINCE",
        metadata={"change_id": standing.change_id} if standing is not None else {},
    )
