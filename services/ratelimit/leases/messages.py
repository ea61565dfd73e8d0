"""What a router and the limiter say to each other on a lease stream."""

from __future__ import annotations

from dataclasses import dataclass

from libs.limits import Amounts, Scope
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Denial


@dataclass(frozen=True, slots=True)
class Acquire:
    """Ask for slices. `whole`: all that the waiting request takes, from what is already held too."""

    sequence: int
    scopes: tuple[Scope, ...]
    need: Amounts
    want: Amounts
    whole: Amounts


@dataclass(frozen=True, slots=True)
class SliceReport:
    """What became of a slice; absolute amounts."""

    slice_id: str
    used: int
    overrun: int
    closed: bool
    renew: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What became of slices."""

    sequence: int
    slices: tuple[SliceReport, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """The session's epoch."""

    epoch: str


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a limit, to be spent until `expires` (epoch seconds), `ttl` seconds from now. `window_left`: seconds
    until the calendar window in use is over; None: there is none."""

    slice_id: str
    limit: Limit
    amount: int
    expires: float
    ttl: float
    remaining: int
    window_left: float | None = None


@dataclass(frozen=True, slots=True)
class SlicesGranted:
    """One slice per limit; scopes without limits are free until `unlimited_until` (epoch seconds)."""

    sequence: int
    slices: tuple[Slice, ...]
    unlimited: tuple[Scope, ...]
    unlimited_until: float | None


@dataclass(frozen=True, slots=True)
class SlicesDenied:
    """None."""

    sequence: int
    denial: Denial


@dataclass(frozen=True, slots=True)
class SliceLife:
    """A slice that is alive."""

    slice_id: str
    expires: float
    ttl: float


@dataclass(frozen=True, slots=True)
class Reported:
    """A report was taken in."""

    sequence: int
    alive: tuple[SliceLife, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Slices to drop; none named: all. `cause`: limit_changed, dead_epoch or unknown_slice."""

    slice_ids: tuple[str, ...]
    cause: str
    reason: str


Answer = Opened | SlicesGranted | SlicesDenied | Reported | Revoked
