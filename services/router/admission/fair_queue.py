"""The order of requests that wait for the same capacity, and the wait that a newcomer would have. Pure: time is a
parameter (monotonic seconds).

Start-time fair queueing (Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996), twice: between classes by
weight, and inside a class between tenants as equals, first come first served inside a tenant. Each backlogged class
and tenant has a start tag; the lowest is next, and is moved on by cost / weight. So whoever uses less than its share
hardly waits, a flood delays its own tenant, and every class moves. What a small share promises, a slow resource may
deliver too late for anyone to wait for: a class that has waited `aging` seconds is next, whatever its weight.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from libs.types import Priority

#: Shares of a resource that everyone wants: 96, 3, 0.7 and 0.4 %; what a class leaves goes to the others by weight.
#: Nearly strict, since interactive requests must not notice an overload by the others even where they take most of
#: the room; the lower classes live off what they leave, and off `AGING`.
WEIGHTS: Final[Mapping[Priority, float]] = {
    Priority.INTERACTIVE: 256.0,
    Priority.STANDARD: 8.0,
    Priority.BULK: 2.0,
    Priority.BACKGROUND: 1.0,
}
#: The fill up to which each class may join a bounded queue: a flood of the lower leaves room for the higher.
ROOM: Final[Mapping[Priority, float]] = {
    Priority.INTERACTIVE: 1.0,
    Priority.STANDARD: 0.9,
    Priority.BULK: 0.75,
    Priority.BACKGROUND: 0.5,
}
#: A class with waiters is served at least this often, where the resource serves at all; seconds.
AGING: Final = 20.0
#: Over which the rate of service is measured, seconds.
RATE_WINDOW: Final = 5.0


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits. `cost` is what it is charged in fairness: estimated tokens, at least 1."""

    tenant: str
    priority: Priority
    cost: int

    def __post_init__(self) -> None:
        if self.cost < 1:
            raise ValueError("a waiter's cost must be at least 1")


W = TypeVar("W", bound=Waiter)


@dataclass(slots=True)
class Rate:
    """A decaying average per second."""

    since: float
    total: float = 0.0
    at: float = 0.0

    def add(self, amount: float, now: float) -> None:
        self.total = self.total * math.exp(-(now - self.at) / RATE_WINDOW) + amount
        self.at = now

    def per_second(self, now: float) -> float:
        """0 where nothing was added yet."""
        age = max(now - self.since, 0.1)
        decayed = self.total * math.exp(-(now - self.at) / RATE_WINDOW)
        return decayed / (RATE_WINDOW * (1 - math.exp(-age / RATE_WINDOW)))


@dataclass(slots=True, eq=False)
class _Flow(Generic[W]):
    """A tenant's waiters in one class. `start`: its tag in the class's virtual time."""

    tenant: str
    start: float
    waiters: OrderedDict[W, None] = field(default_factory=OrderedDict)
    cost: int = 0


class _Class(Generic[W]):
    """One class: its tenants, and its own tag among the classes."""

    def __init__(self, weight: float, now: float) -> None:
        self.weight = weight
        self.start = 0.0
        self.finish = 0.0
        self.count = 0
        self.cost = 0
        #: Since when it has waited without being served.
        self.since = now
        self.rate = Rate(now)
        self.flows: dict[str, _Flow[W]] = {}
        #: Flows by start tag; entries whose flow has moved on or is gone are skipped.
        self._heap: list[tuple[float, int, _Flow[W]]] = []
        self._sequence = 0
        self._virtual = 0.0
        #: Tags at which tenants without waiters stopped, as long as that is ahead of the class.
        self._stopped: dict[str, float] = {}

    def push(self, waiter: W) -> None:
        flow = self.flows.get(waiter.tenant)
        if flow is None:
            start = max(self._virtual, self._stopped.pop(waiter.tenant, 0.0))
            flow = self.flows[waiter.tenant] = _Flow(waiter.tenant, start)
            self._queue(flow)
        flow.waiters[waiter] = None
        flow.cost += waiter.cost
        self.count += 1
        self.cost += waiter.cost

    def head(self) -> W | None:
        while self._heap:
            if self._current(self._heap[0]):
                return next(iter(self._heap[0][2].waiters))
            heapq.heappop(self._heap)
        return None

    def remove(self, waiter: W, *, served: bool) -> None:
        """Raises KeyError where it does not wait here."""
        flow = self.flows[waiter.tenant]
        del flow.waiters[waiter]
        flow.cost -= waiter.cost
        self.count -= 1
        self.cost -= waiter.cost
        if served:
            self._virtual = max(self._virtual, flow.start)
            flow.start += waiter.cost
        if not flow.waiters:
            del self.flows[waiter.tenant]
            self._stopped[waiter.tenant] = flow.start
            if len(self._stopped) > 2 * len(self.flows) + 64:
                self._stopped = {t: s for t, s in self._stopped.items() if s > self._virtual}
        elif served:
            self._queue(flow)

    def _queue(self, flow: _Flow[W]) -> None:
        self._sequence += 1
        if len(self._heap) > 2 * len(self.flows) + 64:
            self._heap = [entry for entry in self._heap if self._current(entry)]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (flow.start, self._sequence, flow))

    def _current(self, entry: tuple[float, int, _Flow[W]]) -> bool:
        start, _, flow = entry
        return flow.start == start and self.flows.get(flow.tenant) is flow


class FairQueue(Generic[W]):
    """Requests that wait for one resource. The caller takes the `head`, and reports it `served` or `left`."""

    def __init__(self, now: float, weights: Mapping[Priority, float] = WEIGHTS, aging: float = AGING) -> None:
        """Raises ValueError. `aging` in seconds."""
        if aging <= 0 or set(weights) != set(Priority) or min(weights.values()) <= 0:
            raise ValueError("a queue needs a weight above 0 for every class and an aging above 0")
        self._classes: dict[Priority, _Class[W]] = {p: _Class(weights[p], now) for p in Priority}
        self._aging = aging
        self._virtual = 0.0
        self._rate = Rate(now)

    def __len__(self) -> int:
        return sum(c.count for c in self._classes.values())

    def push(self, waiter: W, now: float) -> None:
        """Adds a waiter."""
        found = self._classes[waiter.priority]
        if found.count == 0:
            found.start = max(self._virtual, found.finish)
            found.since = now
        found.push(waiter)

    def head(self, now: float) -> W | None:
        """Returns the next in turn; it stays in the queue."""
        found = self._next(now)
        return None if found is None else found.head()

    def served(self, waiter: W, now: float) -> None:
        """Removes a waiter that got what it waited for. Raises KeyError where it does not wait here."""
        found = self._classes[waiter.priority]
        in_turn = found is min(
            (c for c in self._classes.values() if c.count), key=lambda c: c.start, default=found
        )
        found.remove(waiter, served=True)
        if in_turn:
            # One that aged is served ahead of its tag; moving time to it would set back whoever comes next.
            self._virtual = max(self._virtual, found.start)
        found.finish = found.start + waiter.cost / found.weight
        found.start = found.finish
        found.since = now
        found.rate.add(waiter.cost, now)
        self._rate.add(waiter.cost, now)

    def left(self, waiter: W) -> bool:
        """Removes a waiter that gave up, or waits elsewhere. False: it was not here any more."""
        found = self._classes[waiter.priority]
        flow = found.flows.get(waiter.tenant)
        if flow is None or waiter not in flow.waiters:
            return False
        found.remove(waiter, served=False)
        return True

    def count(self, priority: Priority) -> int:
        """Returns how many of a class wait."""
        return self._classes[priority].count

    def ahead(self, tenant: str, priority: Priority) -> float:
        """Returns about how many of its class would be served before a newcomer: what its tenant has queued, and as
        much of each other tenant's."""
        found = self._classes[priority]
        if found.count == 0:
            return 0.0
        flow = found.flows.get(tenant)
        mine = flow.cost if flow is not None else 0
        tenants = len(found.flows) + (flow is None)
        average = found.cost / found.count
        return min(found.cost, tenants * (mine + average / 2)) / average

    def expected_wait(self, tenant: str, priority: Priority, now: float) -> float:
        """Returns about how long a newcomer would wait, in seconds; 0 while there is no evidence."""
        found = self._classes[priority]
        work = self.ahead(tenant, priority) * (found.cost / found.count if found.count else 0.0)
        if work <= 0:
            return 0.0
        # What the class has been getting, but at least its share of what there is.
        total = self._rate.per_second(now)
        if total <= 0:
            return 0.0
        active = [
            c for c in self._classes.values() if c is found or c.count or c.rate.per_second(now) > total / 100
        ]
        share = found.weight / sum(c.weight for c in active)
        aged = found.cost / found.count / self._aging
        return work / max(found.rate.per_second(now), total * share, min(aged, total))

    def _next(self, now: float) -> _Class[W] | None:
        waiting = [c for c in self._classes.values() if c.count]
        if not waiting:
            return None
        oldest = min(waiting, key=lambda c: c.since)
        if now - oldest.since >= self._aging:
            return oldest
        return min(waiting, key=lambda c: c.start)


@dataclass(slots=True)
class Room:
    """Bounds of those that wait: in all, of one tenant, and of the tokens of prompt that they hold in memory. Lower
    classes may fill only a part of each (`ROOM`)."""

    most: int
    most_of_tenant: int
    most_tokens: int
    waiting: int = 0
    tokens: int = 0
    tenants: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if min(self.most, self.most_of_tenant, self.most_tokens) < 0:
            raise ValueError("a queue's bounds must not be negative")

    def full(self, tenant: str, priority: Priority, tokens: int) -> str:
        """Returns why one more may not wait; empty: it may."""
        share = ROOM[priority]
        if self.tenants.get(tenant, 0) + 1 > self.most_of_tenant * share:
            return f"{self.tenants.get(tenant, 0)} requests of tenant {tenant} wait already"
        if self.waiting + 1 > self.most * share:
            return f"{self.waiting} requests wait already"
        if self.tokens + tokens > self.most_tokens * share:
            return f"{self.tokens} tokens of prompts wait already"
        return ""

    def enter(self, tenant: str, tokens: int) -> None:
        """Counts one more that waits."""
        self.waiting += 1
        self.tokens += tokens
        self.tenants[tenant] = self.tenants.get(tenant, 0) + 1

    def leave(self, tenant: str, tokens: int) -> None:
        """Counts one fewer."""
        self.waiting -= 1
        self.tokens -= tokens
        self.tenants[tenant] -= 1
        if not self.tenants[tenant]:
            del self.tenants[tenant]
