"""Takes the steps of rehabilitations that no person has taken for themselves."""

from __future__ import annotations

import asyncio

from libs.errors import Aborted
from services.health.control.change_maker import ChangeMaker
from services.health.domain.rehabilitation import Trial, next_setting
from services.health.domain.setting import Kind, ModeSetting
from services.health.domain.target import Mode, Target
from services.health.judge import Judge

#: Seconds between two looks at the evidence.
LOOK_INTERVAL = 1.0
AUTHOR = "rule:rehabilitation"


class Rehabilitation:
    """Each replica looks at the evidence, which all have; of those that would take a step one does."""

    def __init__(self, judge: Judge, maker: ChangeMaker) -> None:
        self._judge = judge
        self._maker = maker

    async def look(self) -> None:
        """Takes the steps that the evidence allows."""
        fleet = self._judge.fleet
        for target in tuple(fleet.targets):
            setting, trial = fleet.controls.mode_setting(target), fleet.trial(target)
            if trial is None or setting.by_hand:
                continue
            following = next_setting(setting, trial)
            if following is not None:
                await self._step(target, setting, trial, following)

    async def _step(self, target: Target, present: ModeSetting, trial: Trial, following: ModeSetting) -> None:
        failed = f"{trial.failures} of {trial.calls} calls failed"
        verdict = "which is too many" if following.mode is Mode.BLOCKED else "which proves that it works"
        reason = f"at {present.share:.0%} of its traffic {failed}, {verdict}"
        thing = (Kind.MODE.value, str(target))
        try:
            await self._maker.make(thing, lambda: following, AUTHOR, reason, version=trial.version)
        except Aborted:
            # Another replica, or a person, came first.
            return

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL)
            await self.look()
