"""Keys and endpoints that are out of service or back, as routers tell each other by way of the health service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from libs.types import ErrorClass, RoutePart


class Place(Struct, frozen=True, cache_hash=True):
    """A key or an endpoint of a provider, by its name; for one model, or (empty) for all."""

    provider: str
    part: RoutePart
    name: str
    model: str = ""


class Outage(Struct, frozen=True):
    """The state of a place from `since` on, epoch seconds. `until` 0: it is in service again. `times`: outages in a
    row, this one included. `key_version`: of the key that was found wanting; empty: an endpoint."""

    place: Place
    error_class: ErrorClass
    since: float
    until: float
    times: int
    key_version: str = ""


class RouteChanges(Protocol):
    """This router's keys and endpoints."""

    def take_changes(self) -> Sequence[Outage]:
        """Returns what has changed here since the last call of this, for the other routers."""
        ...

    def all_out(self) -> Sequence[Outage]:
        """Returns every outage, for a health service that may have forgotten."""
        ...

    def merge(self, change: Outage) -> None:
        """Takes another router's change."""
        ...
