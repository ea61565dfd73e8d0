"""The published states, versioned so that a watcher gets only what changed since its last update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.health.domain.routes import RouteBoard, RouteChange
from services.health.domain.target import Target, TargetState


@dataclass(frozen=True, slots=True)
class Update:
    """One message to a watcher. `snapshot`: `states` are those of all targets, else only changed ones; empty: a
    heartbeat."""

    epoch: str
    version: int
    snapshot: bool
    states: tuple[TargetState, ...] = ()
    #: The keys and endpoints that changed.
    routes: tuple[RouteChange, ...] = ()


class PublishedStates:
    """The states of all targets, each with the version of its last change: one number each, however many watchers
    there are and however slow. A watcher that falls behind finds the changes it missed already merged."""

    def __init__(self, epoch: str) -> None:
        if not epoch:
            raise ValueError("an epoch needs a name")
        self.epoch = epoch
        self.version = 0
        self._states: dict[Target, TargetState] = {}
        self._changed: dict[Target, int] = {}
        self._removed = 0
        self._routes = RouteBoard()

    @property
    def states(self) -> Mapping[Target, TargetState]:
        """The published state of each target."""
        return self._states

    def publish(self, states: Iterable[TargetState], *, all_changes: bool) -> bool:
        """Replaces states that changed. Returns True if there is a new version; without `all_changes` only urgent
        changes make one."""
        version = self.version + 1
        for state in states:
            old = self._states.get(state.target)
            if old == state or (old is not None and not all_changes and old.urgent == state.urgent):
                continue
            self._states[state.target] = state
            self._changed[state.target] = self.version = version
        return self.version == version

    def publish_routes(self, changes: Iterable[RouteChange]) -> list[RouteChange]:
        """Takes changes of keys and endpoints in. Returns those that are new, which make a new version."""
        new = self._routes.take(changes, self.version + 1)
        self.version += bool(new)
        return new

    def remove(self, targets: Iterable[Target]) -> None:
        """Targets that left the catalog: whoever has not seen this version needs a snapshot."""
        for target in targets:
            if self._states.pop(target, None) is not None:
                del self._changed[target]
                self._removed = self.version = self.version + 1

    def since(self, epoch: str, version: int) -> Update:
        """Returns the changes since `version` of `epoch`; a snapshot where they cannot be known."""
        resumable = epoch == self.epoch and self._removed <= version <= self.version
        states = (s for t, s in self._states.items() if not resumable or self._changed[t] > version)
        routes = self._routes.since(version if resumable else -1)
        return Update(self.epoch, self.version, not resumable, tuple(states), routes)
