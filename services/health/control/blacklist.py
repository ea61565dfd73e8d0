"""Blocks what is refused again and again, and lets it be rehabilitated in time."""

from __future__ import annotations

import asyncio

from libs.clock import Clock
from libs.errors import Aborted
from services.health.control.change_maker import ChangeMaker
from services.health.domain.blacklist import may_come_back
from services.health.domain.rehabilitation import STEPS
from services.health.domain.setting import Kind, ModeSetting
from services.health.domain.target import BlockCause, Mode, Target
from services.health.judge import Judge

#: Seconds between two looks.
LOOK_INTERVAL = 5.0
AUTHOR = "rule:blacklist"
_WHY = {
    BlockCause.KEY_REFUSED: "its key was refused",
    BlockCause.QUOTA_GONE: "our quota there was spent",
    BlockCause.MODEL_GONE: "it does not know the model",
}
_BACK = {
    BlockCause.KEY_REFUSED: "its free endpoint has accepted our key since",
    BlockCause.QUOTA_GONE: "a day is over: there may be a quota again",
    BlockCause.MODEL_GONE: "a day is over: the model may be there again",
}


class Blacklist:
    """Each replica looks at the evidence, which all have; of those that would act one does."""

    def __init__(self, judge: Judge, maker: ChangeMaker, clock: Clock) -> None:
        self._judge = judge
        self._maker = maker
        self._clock = clock

    async def look(self) -> None:
        """Blocks, and lets come back, what is due."""
        fleet = self._judge.fleet
        for target in tuple(fleet.targets):
            setting = fleet.controls.mode_setting(target)
            change = fleet.controls.standing((Kind.MODE.value, str(target)))
            accepted = fleet.judgement(target.parent).key_accepted_at
            if setting.mode is Mode.BLOCKED and change is not None:
                await self._let_back(target, setting, change.at, accepted)
            elif setting.mode is Mode.AUTOMATIC:
                await self._block(target, change.at if change is not None else 0.0, accepted)
            else:
                fleet.forget_refusals(target)

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            await self.look()

    async def _block(self, target: Target, changed: float, accepted: float | None) -> None:
        refusals = self._judge.fleet.refused(target)
        if refusals.count and refusals.since <= changed:
            # Of a time before somebody said how it is: counted anew.
            self._judge.fleet.forget_refusals(target)
        cause = refusals.verdict(changed, accepted)
        if cause is not None:
            minutes = (refusals.last - refusals.since) / 60
            times = f"{refusals.count} times in {minutes:.0f} minutes"
            reason = f"{_WHY[cause]} {times}, and no call was answered"
            await self._make(target, ModeSetting(Mode.BLOCKED, cause=cause), reason)

    async def _let_back(
        self, target: Target, setting: ModeSetting, blocked_at: float, accepted: float | None
    ) -> None:
        if setting.cause is None:
            return
        if may_come_back(setting.cause, blocked_at, accepted, self._clock.now()):
            following = ModeSetting(Mode.REHABILITATING, STEPS[0], cause=setting.cause)
            await self._make(target, following, _BACK[setting.cause])

    async def _make(self, target: Target, setting: ModeSetting, reason: str) -> None:
        version = self._judge.state(target).mode_version
        thing = (Kind.MODE.value, str(target))
        try:
            await self._maker.make(thing, lambda: setting, AUTHOR, reason, version=version)
        except Aborted:
            # Another replica, or a person, came first.
            return
