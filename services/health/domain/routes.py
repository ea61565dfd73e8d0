"""Keys and endpoints of providers with several, as routers tell each other of them by way of this service.

They are no evidence about providers: nothing is judged here. Of each the latest change is kept, in memory that is
bounded; one that is forgotten is found out again by the next call that meets it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from libs.types import ErrorClass, RoutePart
from services.health.domain.evidence import MAX_COUNT, MAX_TEXT

#: Places that are kept at most; the oldest changes are forgotten first.
MOST_ROUTES = 4096


@dataclass(frozen=True, slots=True)
class RouteChange:
    """A key or an endpoint that a router took out of service at `since`, until `until`, or (0) put back. Instants in
    epoch seconds; `name`, `model` and `key_version` as in the proto. Raises ValueError where it makes no sense."""

    provider: str
    part: RoutePart
    name: str
    model: str
    error_class: ErrorClass
    since: float
    until: float
    times: int
    key_version: str = ""

    def __post_init__(self) -> None:
        texts = (self.provider, self.name, self.model, self.key_version)
        if not (self.provider and self.name) or max(map(len, texts)) > MAX_TEXT:
            raise ValueError(f"names must be set and at most {MAX_TEXT} characters")
        if not 1 <= self.times <= MAX_COUNT:
            raise ValueError(f"times must be 1 to {MAX_COUNT}")
        if not (0 < self.since < math.inf and 0 <= self.until < math.inf):
            raise ValueError("since must be set, and until finite")

    @property
    def place(self) -> tuple[str, str, str, str]:
        """The key of what has changed."""
        return self.provider, self.part, self.name, self.model


class RouteBoard:
    """The latest change of each place, each with the version in which it was published."""

    def __init__(self) -> None:
        self._changes: OrderedDict[tuple[str, str, str, str], tuple[int, RouteChange]] = OrderedDict()

    def take(self, changes: Iterable[RouteChange], version: int) -> list[RouteChange]:
        """Takes changes in as parts of a version. Returns those that are later than what was known."""
        new = []
        for change in changes:
            known = self._changes.get(change.place)
            if known is not None and known[1].since >= change.since:
                continue
            self._changes[change.place] = (version, change)
            self._changes.move_to_end(change.place)
            new.append(change)
            if len(self._changes) > MOST_ROUTES:
                self._changes.popitem(last=False)
        return new

    def since(self, version: int) -> tuple[RouteChange, ...]:
        """Returns the changes after a version; all after -1."""
        return tuple(change for of, change in self._changes.values() if of > version)
