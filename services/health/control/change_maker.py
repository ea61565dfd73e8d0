"""Makes changes: one after another of each thing, in the whole fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from libs.change import Change
from libs.clock import Clock
from libs.errors import Aborted, Unavailable
from libs.ids import TimeOrderedIds
from libs.telemetry import get_logger
from services.health.domain.controls import Thing
from services.health.domain.setting import Setting, encode_setting
from services.health.judge import Judge
from services.health.ports import HealthStore
from services.health.share import Sharer

#: How often a change is made anew behind another that came first.
TRIES = 10
log = get_logger(__name__)


class ChangeMaker:
    """A change holds here at once, and is shared with the other replicas before the call returns, if the store is
    there; otherwise as soon as it is back."""

    def __init__(
        self,
        judge: Judge,
        sharer: Sharer,
        store: HealthStore,
        ids: TimeOrderedIds,
        clock: Clock,
        *,
        recorded: bool,
    ) -> None:
        """`recorded`: there is a history, which is to have every change."""
        self._judge = judge
        self._sharer = sharer
        self._store = store
        self._ids = ids
        self._clock = clock
        self._recorded = recorded
        self._lock = asyncio.Lock()

    async def make(
        self,
        thing: Thing,
        decide: Callable[[], Setting | str],
        author: str,
        reason: str,
        *,
        version: int | None = None,
        undoes: str = "",
    ) -> Change:
        """Makes the change to what `decide` returns, which is asked again where another change came first. Raises
        what it raises, InvalidArgument, and Aborted where the thing is not at `version` (None: whatever it is)."""
        kind, name = thing
        async with self._lock:
            await self._sharer.exchange()
            for _ in range(TRIES):
                standing = self._judge.fleet.controls.standing(thing)
                present = standing.version if standing else 0
                if version is not None and version != present:
                    raise Aborted(
                        f"The {kind} of {name} is at version {present}, not {version}: look again",
                        reason="VERSION_MISMATCH",
                        metadata={
                            "version": str(present),
                            "change_id": standing.change_id if standing else "",
                            "author": standing.author if standing else "",
                        },
                    )
                setting = decide()
                change = Change(
                    self._ids.make(self._clock.now()),
                    *(kind, name, present + 1, self._clock.now(), author, reason),
                    before=standing.after if standing else "",
                    after=setting if isinstance(setting, str) else encode_setting(setting),
                    undoes=undoes,
                )
                other = await self._keep(change, standing.change_id if standing else "")
                if other is None:
                    break
                self._judge.obey(other)
            else:
                raise Aborted(
                    f"The {kind} of {name} is being changed by others: try again", reason="VERSION_MISMATCH"
                )
            self._judge.obey(change)
            if self._recorded:
                self._judge.note_unrecorded(change)
            shared = await self._sharer.exchange()
        log.info(
            "changed",
            change_id=change.change_id,
            kind=kind,
            name=name,
            version=change.version,
            author=author,
            reason=reason,
            before=change.before,
            after=change.after,
            shared=shared,
        )
        return change

    async def share(self) -> None:
        """Hears of the other replicas' changes, and tells them of this one's."""
        await self._sharer.exchange()

    async def _keep(self, change: Change, follows: str) -> Change | None:
        """Returns the change that stands where another came first. Fail-open: without the store this replica obeys
        alone."""
        try:
            return await self._store.change(change, follows, unrecorded=self._recorded)
        except Unavailable:
            return None
