"""The holders of a server's connections: tenants, and addresses until the first request says whose a connection is.

Each holder may have SHARE times as many connections as are free. So one alone never takes all, each further one
takes less, and there is room for one more as long as there are fewer than some dozens of them; where nobody else
calls, one has two thirds. Nothing is set aside for anybody, and nobody is counted in advance. (A dynamic threshold:
Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998.) Pure.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from msgspec import Struct

#: The connections that one holder may have for each that is free.
SHARE = 2
C = TypeVar("C")


class Holder(NamedTuple):
    """A tenant, or an address as long as no tenant is known; the other is empty."""

    tenant: str = ""
    address: str = ""


class _Held(Struct, Generic[C], eq=False):
    """One holder's connections: all, and those that wait for a request, the oldest first."""

    all: dict[C, None]
    waiting: dict[C, None]


class Holders(Generic[C]):
    """Counts connections by holder."""

    __slots__ = ("_held", "_holders", "_most")

    def __init__(self, most: int) -> None:
        """`most` is the bound of all connections."""
        self._most = most
        self._held: dict[Holder, _Held[C]] = {}
        self._holders: dict[C, Holder] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def __contains__(self, connection: C) -> bool:
        return connection in self._holders

    def holder_of(self, connection: C) -> Holder | None:
        """Returns the connection's holder; None where it is gone."""
        return self._holders.get(connection)

    def waiting(self) -> list[C]:
        """Returns the connections that wait for a request."""
        return [connection for held in self._held.values() for connection in held.waiting]

    def in_the_way(self, connection: C, holder: Holder) -> tuple[bool, C | None]:
        """Returns True if there is no room for the connection, which is new or of another holder, and the one that
        may end to make room: the one that has waited longest, of the holder itself where that has its share, else of
        the one with the most that wait. None: there is none."""
        free = self._most - len(self._holders) - (connection not in self._holders)
        if free < 0:
            waits = max(self._held.values(), key=lambda held: len(held.waiting), default=None)
        else:
            waits = self._held.get(holder)
            if waits is None or len(waits.all) + 1 <= SHARE * free:
                return False, None
        return True, None if waits is None else next(iter(waits.waiting), None)

    def give(self, connection: C, holder: Holder) -> None:
        """Counts it to the holder, and to no other any more."""
        waited = self.forget(connection)
        held = self._held.get(holder)
        if held is None:
            held = self._held[holder] = _Held({}, {})
        held.all[connection] = None
        self._holders[connection] = holder
        if waited:
            held.waiting[connection] = None

    def forget(self, connection: C) -> bool:
        """Counts it no more, if it was; returns True if it waited."""
        holder = self._holders.pop(connection, None)
        if holder is None:
            return False
        held = self._held[holder]
        del held.all[connection]
        waited = connection in held.waiting
        held.waiting.pop(connection, None)
        if not held.all:
            del self._held[holder]
        return waited

    def mark_waiting(self, connection: C) -> None:
        """Notes that it waits for a request from now on."""
        holder = self._holders.get(connection)
        if holder is not None:
            self._held[holder].waiting[connection] = None

    def mark_busy(self, connection: C) -> None:
        """Notes that a request has come."""
        holder = self._holders.get(connection)
        if holder is not None:
            self._held[holder].waiting.pop(connection, None)
