"""A target's health as planning sees it."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Availability(StrEnum):
    """The ways in which a target may be called now."""

    #: Works.
    HEALTHY = "healthy"
    #: Fails more often than chance explains: gets only a share of its calls.
    DEGRADED = "degraded"
    #: Comes back: the next call may try it, if it gets the permit.
    PROBING = "probing"
    #: Not to be called.
    DOWN = "down"


class TargetHealth(Struct, frozen=True):
    """The health of one model on one provider. Durations in seconds, None: not known."""

    availability: Availability = Availability.HEALTHY
    #: Share of recent calls that succeeded, 0 to 1.
    success_rate: float = 1.0
    latency: float | None = None
    time_to_first_token: float | None = None
    #: Share of its usual calls that a recovering or degraded target should get, 0 to 1.
    ramp: float = 1.0
    #: The share of their usual calls that its provider's models should get together, 0 to 1: it is rehabilitated.
    provider_share: float = 1.0
    #: The reason why it may not be called, for a person.
    reason: str = ""
    #: It is down by evidence alone, and has not been tried for a while: worth a try where no other target is left.
    trial: bool = False
    #: It kept refusing requests of this kind while others succeeded: its refusal is not taken for the caller's fault.
    suspect: bool = False
    #: Seconds until it may be called again; None: not known, or now.
    retry_after: float | None = None


UNKNOWN = TargetHealth()
