"""Use cases of maintenance windows."""

from __future__ import annotations

from dataclasses import replace

from libs.change import Change
from libs.clock import Clock
from libs.errors import AlreadyExists, FailedPrecondition, FieldViolation, InvalidArgument, NotFound
from libs.ids import TimeOrderedIds
from libs.zones import load_zone
from services.health.control.change_maker import ChangeMaker
from services.health.domain.setting import Kind, WindowsSetting
from services.health.domain.window import WEEK, Window, find_overlap
from services.health.judge import Judge

#: Seconds: the longest window and the longest drain before it; how far ahead one may begin.
LONGEST, LONGEST_DRAIN, FURTHEST = 31 * 86_400.0, 86_400.0, 366 * 86_400.0
#: Windows of one provider that are not over.
MAX_WINDOWS = 50


class MaintenanceWindows:
    """Windows are kept by provider, so that of two that overlap the second is refused, wherever it is added."""

    def __init__(self, judge: Judge, maker: ChangeMaker, ids: TimeOrderedIds, clock: Clock) -> None:
        self._judge = judge
        self._maker = maker
        self._ids = ids
        self._clock = clock

    async def add(self, window: Window, author: str) -> tuple[Window, Change]:
        """Adds a window, whose id is made here. Raises NotFound, InvalidArgument naming each wrong field,
        AlreadyExists where it overlaps another, FailedPrecondition for too many."""
        self._judge.state(window.target)
        self._check(window)
        provider, added = window.target.provider, replace(window, window_id=self._ids.make(self._clock.now()))

        def add() -> WindowsSetting:
            standing = self.list(provider)
            other = find_overlap(added, standing, self._clock.now())
            if other is not None:
                raise AlreadyExists(
                    f"{added.target} is taken out then by window {other.window_id}: {other.reason}",
                    reason="WINDOWS_OVERLAP",
                    metadata={"window_id": other.window_id},
                )
            if len(standing) >= MAX_WINDOWS:
                raise FailedPrecondition(
                    f"{provider} has {MAX_WINDOWS} windows: remove some", reason="TOO_MANY_WINDOWS"
                )
            return WindowsSetting((*standing, added))

        change = await self._maker.make((Kind.WINDOWS.value, provider), add, author, window.reason)
        return added, change

    async def remove(self, window_id: str, author: str, reason: str) -> Change:
        """Removes a window; one in force ends. Raises NotFound."""
        provider = next((w.target.provider for w in self.list() if w.window_id == window_id), None)
        if provider is None:
            raise _no_window(window_id)

        def remove() -> WindowsSetting:
            standing = self.list(provider)
            left = tuple(window for window in standing if window.window_id != window_id)
            if len(left) == len(standing):
                raise _no_window(window_id)
            return WindowsSetting(left)

        return await self._maker.make((Kind.WINDOWS.value, provider), remove, author, reason)

    def list(self, provider: str = "") -> tuple[Window, ...]:
        """Returns the windows that are not over, of one provider or of all, in the order of their next times."""
        now, controls = self._clock.now(), self._judge.fleet.controls
        providers = [
            t.provider for t in self._judge.fleet.targets if not t.model and provider in ("", t.provider)
        ]
        found = [
            (times, window)
            for name in providers
            for window in controls.windows(name)
            if (times := window.next_time(now)) is not None
        ]
        return tuple(window for _, window in sorted(found, key=lambda each: (each[0], each[1].window_id)))

    def _check(self, window: Window) -> None:
        now, faults = self._clock.now(), []
        length = window.ends - window.starts
        if length <= 0:
            faults.append(FieldViolation("ends", "must be after starts"))
        elif length > LONGEST or (window.weekly and length + window.drain > WEEK - 86_400.0):
            faults.append(
                FieldViolation("ends", "is too late: at most 31 days after starts; weekly, 6 with the drain")
            )
        if not window.weekly and window.ends <= now:
            faults.append(FieldViolation("ends", "is over"))
        if not now - LONGEST <= window.starts <= now + FURTHEST:
            faults.append(FieldViolation("starts", "must be at most a month ago and a year ahead"))
        if not 0 <= window.drain <= LONGEST_DRAIN:
            faults.append(FieldViolation("drain", "must be 0 seconds to 24 hours"))
        if load_zone(window.zone) is None:
            faults.append(FieldViolation("time_zone", "is no IANA time zone"))
        if faults:
            raise InvalidArgument(faults, reason="BAD_WINDOW")


def _no_window(window_id: str) -> NotFound:
    return NotFound(f"There is no window {window_id[:200]!r}", reason="WINDOW_NOT_FOUND")
