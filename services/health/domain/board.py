"""The published picture, versioned so that a watcher can be told only what changed since it last looked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.health.domain.target import Target, TargetState


@dataclass(frozen=True, slots=True)
class Update:
    """What a watcher gets. `snapshot`: `states` is the whole picture, else only what changed; empty: a heartbeat."""

    epoch: str
    version: int
    snapshot: bool
    states: tuple[TargetState, ...] = ()


class Board:
    """Remembers, per target, the version of its last change: one number each, however many watchers there are and
    however slow. A watcher that falls behind finds the changes it missed already merged."""

    def __init__(self, epoch: str) -> None:
        if not epoch:
            raise ValueError("an epoch needs a name")
        self.epoch = epoch
        self.version = 0
        self._states: dict[Target, TargetState] = {}
        self._changed: dict[Target, int] = {}
        self._removed = 0

    @property
    def states(self) -> Mapping[Target, TargetState]:
        """As published."""
        return self._states

    def publish(self, states: Iterable[TargetState], *, all_changes: bool) -> bool:
        """Takes the targets' present states; True: there is a new version. Without `all_changes`, only what is
        urgent makes one."""
        version = self.version + 1
        for state in states:
            old = self._states.get(state.target)
            if old == state or (old is not None and not all_changes and old.urgent == state.urgent):
                continue
            self._states[state.target] = state
            self._changed[state.target] = self.version = version
        return self.version == version

    def remove(self, targets: Iterable[Target]) -> None:
        """Targets that left the catalog: whoever has not seen this version needs a snapshot."""
        for target in targets:
            if self._states.pop(target, None) is not None:
                del self._changed[target]
                self._removed = self.version = self.version + 1

    def since(self, epoch: str, version: int) -> Update:
        """What a watcher that last saw `version` of `epoch` must be told; a snapshot where that cannot be known."""
        resumable = epoch == self.epoch and self._removed <= version <= self.version
        states = (s for t, s in self._states.items() if not resumable or self._changed[t] > version)
        return Update(self.epoch, self.version, not resumable, tuple(states))
