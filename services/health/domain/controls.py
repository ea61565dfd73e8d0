"""The words of operators: of each thing the change that stands, and what follows from it now. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from libs.change import Change
from services.health.domain.setting import (
    FailoversSetting,
    Kind,
    ModeSetting,
    WindowsSetting,
    decode_setting,
)
from services.health.domain.target import Failover, ModeInForce, Target
from services.health.domain.window import Window

Thing = tuple[str, str]


class Controls:
    """The standing changes. They merge by their order, so replicas agree in whatever order they hear of them."""

    def __init__(self) -> None:
        self._standing: dict[Thing, Change] = {}
        # Parts of those that this release understands, by what they are asked for.
        self._modes: dict[Target, tuple[ModeSetting, Change]] = {}
        self._windows: dict[str, tuple[Window, ...]] = {}
        self._failovers: dict[Target, tuple[Failover, ...]] = {}

    @property
    def changes(self) -> Iterable[Change]:
        """The change of each thing that stands."""
        return self._standing.values()

    def is_news(self, change: Change) -> bool:
        """Returns False where a later one of the same thing, or itself, stands already."""
        standing = self._standing.get(change.thing)
        return standing is None or standing.order < change.order

    def adopt(self, change: Change) -> None:
        """Takes a change that is news."""
        self._standing[change.thing] = change
        target, setting = Target.of(change.name), decode_setting(change.kind, change.after)
        match change.kind:
            case Kind.MODE:
                known = setting if isinstance(setting, ModeSetting) else ModeSetting()
                self._modes[target] = (known, change)
            case Kind.WINDOWS:
                self._windows[change.name] = setting.windows if isinstance(setting, WindowsSetting) else ()
            case Kind.FAILOVERS:
                found = setting.failovers if isinstance(setting, FailoversSetting) else ()
                self._failovers[target] = found

    def standing(self, thing: Thing) -> Change | None:
        """Returns the change of a thing that stands; None: nobody has changed it."""
        return self._standing.get(thing)

    def by_id(self, change_id: str) -> Change | None:
        """Returns a standing change; None: it is not one of them."""
        return next((c for c in self._standing.values() if c.change_id == change_id), None)

    def mode_setting(self, target: Target) -> ModeSetting:
        """Returns the mode as operators have set it."""
        found = self._modes.get(target)
        return found[0] if found is not None else _AUTOMATIC

    def windows(self, provider: str) -> tuple[Window, ...]:
        """Returns the windows of a provider and of its models, also those that are over."""
        return self._windows.get(provider, ())

    def failovers(self, source: Target, now: float) -> tuple[Failover, ...]:
        """Returns the failovers from a target that have not ended."""
        found = self._failovers.get(source)
        return tuple(failover for failover in found if failover.until > now) if found else ()

    def in_force(self, target: Target, now: float) -> ModeInForce:
        """Returns the target's mode now: a person's word, else that of a window."""
        said, windows = self._modes.get(target), self._windows.get(target.provider)
        if said is None and not windows:
            return _NOBODY
        setting, change = said if said is not None else (_AUTOMATIC, None)
        version = change.version if change is not None else 0
        if not setting.mode.takes_out:
            for window in windows or ():
                if window.target == target and (mode := window.mode_at(now)) is not None:
                    return ModeInForce(mode, window.reason, version=version, by_window=True)
        reason = change.reason if change is not None else ""
        return ModeInForce(setting.mode, reason, setting.share, version)


_AUTOMATIC, _NOBODY = ModeSetting(), ModeInForce()
