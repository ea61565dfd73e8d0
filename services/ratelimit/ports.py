"""Ports: the interfaces that the use cases need from outside, each with its contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.limits import Amounts, LimitKey
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Denial, Quota, Reading


class StaleLimits(Exception):
    """Limits changed at run time since these were read; they must be read again."""


class SeedNeeded(Exception):
    """The store's life began inside calendar windows whose past it does not know."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        super().__init__(", ".join(str(limit.key) for limit in limits))
        self.limits = tuple(limits)


@dataclass(frozen=True, slots=True)
class Admission:
    """A request to the store: `need` of every limit or nothing, up to `want` where there is plenty.

    `fingerprint` tells a repeated request from another one under the same id. `divisor`: at most this fraction of
    what is left goes beyond need. `version`: of the limits. `ttl` in seconds."""

    record_id: str
    holder: str
    fingerprint: str
    limits: tuple[Limit, ...]
    need: tuple[int, ...]
    want: tuple[int, ...]
    ttl: float
    divisor: int
    version: int


@dataclass(frozen=True, slots=True)
class Granted:
    """A granted admission, one amount per limit. `repeated`: it was granted before, `amounts` is empty. Instants in
    epoch seconds of the store. `shadowed`: limits that would have denied were they enforced."""

    now: float
    expires: float
    amounts: tuple[int, ...]
    quotas: tuple[Quota, ...]
    shadowed: tuple[LimitKey, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class SliceChange:
    """A report about the slice at `index` (from 0) of a record. Absolute amounts."""

    index: int
    used: int
    overrun: int
    closed: bool
    renew: bool


@dataclass(frozen=True, slots=True)
class RecordLife:
    """A record after a report. `known`: False where there is no such record of this holder in this epoch. `expires`
    (epoch seconds) None: nothing of it is open."""

    known: bool
    expires: float | None
    ttl: float = 0.0


@dataclass(frozen=True, slots=True)
class Beat:
    """The store's answer to a heartbeat. `backlog`: True if more was due or idle than one beat takes. `learning`:
    seconds until slices of an earlier life of the store are dead."""

    now: float
    version: int
    epoch: str
    holders: int
    backlog: bool
    learning: float = 0.0


@dataclass(frozen=True, slots=True)
class Override:
    """A limit as set at run time; None: removed again, so that the catalog's applies."""

    limit: Limit | None
    version: int


class LimitStore(Protocol):
    """The shared counters. All methods raise Unavailable when the store is gone."""

    @property
    def epoch(self) -> str:
        """The store's present life; empty before the first contact."""
        ...

    async def admit(self, admissions: Sequence[Admission]) -> list[Granted | Denial | Exception]:
        """Decides each admission by itself, in order. Exceptions, as values: StaleLimits, SeedNeeded, AlreadyExists,
        PermissionDenied, FailedPrecondition."""
        ...

    async def settle(self, record_id: str, holder: str, used: Amounts) -> None:
        """Replaces the estimate by what was used. Raises NotFound, PermissionDenied, FailedPrecondition."""
        ...

    async def cancel(self, record_id: str, holder: str) -> None:
        """Gives the record back whole. Raises as settle."""
        ...

    async def report(
        self, holder: str, changes: Mapping[str, Sequence[SliceChange]]
    ) -> dict[str, RecordLife]:
        """Applies reports about slices, by record. Returns the life of each record."""
        ...

    async def read(self, limits: Sequence[Limit]) -> tuple[float, list[Reading]]:
        """Returns the store's time (epoch seconds) and each limit's state. Raises SeedNeeded."""
        ...

    async def seed(self, limit: Limit, spent: int) -> None:
        """Sets what the present window had used before this life of the store; only the first seed counts."""
        ...

    async def beat(self, holders: Sequence[str]) -> Beat:
        """Expires what is due, and records that the holders are alive."""
        ...

    async def overrides(self) -> tuple[int, dict[LimitKey, Override]]:
        """Returns the limits set at run time, with their common version."""
        ...

    async def set_override(
        self, key: LimitKey, limit: Limit | None, expected_version: int | None, actor: str, reason: str
    ) -> int:
        """Sets or removes (None) a run-time limit. Returns its new version. Raises Aborted where the version
        differs."""
        ...


class LimitSource(Protocol):
    """The source of configured limits."""

    def current(self) -> Mapping[LimitKey, Limit]:
        """Returns all configured limits."""
        ...

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Calls `changed` after every change, on the event loop."""
        ...


class SpendHistory(Protocol):
    """The ledger's record of a window, for a store that lost its memory."""

    async def spent(self, limit: Limit, now: float) -> int | None:
        """Returns the use in the limit's unit in the window that holds `now` (epoch seconds), as far as it is
        recorded. None: the ledger does not keep what this limit counts. Raises Unavailable."""
        ...
