"""Messages between a router and the limiter on a lease stream."""

from __future__ import annotations

from dataclasses import dataclass

from libs.limits import Amounts, Scope
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Denial


@dataclass(frozen=True, slots=True)
class Acquire:
    """A request for slices. `whole`: all that the waiting request takes, from slices already held too."""

    sequence: int
    scopes: tuple[Scope, ...]
    need: Amounts
    want: Amounts
    whole: Amounts


@dataclass(frozen=True, slots=True)
class SliceReport:
    """The use of one slice, in absolute amounts."""

    slice_id: str
    used: int
    overrun: int
    closed: bool
    renew: bool


@dataclass(frozen=True, slots=True)
class Report:
    """A report about slices."""

    sequence: int
    slices: tuple[SliceReport, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer to the stream's opening: its epoch."""

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
    """No slices: limits are exhausted."""

    sequence: int
    denial: Denial


@dataclass(frozen=True, slots=True)
class SliceLife:
    """A slice that is alive, until `expires` (epoch seconds), `ttl` seconds from now."""

    slice_id: str
    expires: float
    ttl: float


@dataclass(frozen=True, slots=True)
class Reported:
    """The acknowledgement of a report."""

    sequence: int
    alive: tuple[SliceLife, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Slices to drop; none named: all. `cause`: limit_changed, dead_epoch or unknown_slice."""

    slice_ids: tuple[str, ...]
    cause: str
    reason: str


Answer = Opened | SlicesGranted | SlicesDenied | Reported | Revoked
