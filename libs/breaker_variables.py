"""The circuit breakers' environment variables, which routers and health monitors share.

Both judge the same targets and merge what they conclude, so what only one of them was told would be undone by the
other.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from libs.resilience.evidence import BreakerSettings
from libs.settings import shared

_DEFAULT = BreakerSettings()


class BreakerVariables(BaseSettings):
    """A part of a service's settings. Durations in seconds."""

    #: Failures in a row that open the circuit of a target that otherwise hardly fails; the failure rate that does.
    consecutive_failures: int = Field(
        _DEFAULT.consecutive_failures, ge=1, le=1000, validation_alias=shared("BREAKER_CONSECUTIVE_FAILURES")
    )
    failure_rate: float = Field(
        _DEFAULT.failure_rate, gt=0, le=1, validation_alias=shared("BREAKER_FAILURE_RATE")
    )
    #: Duration of the first opening, and of the longest.
    open_seconds: float = Field(
        _DEFAULT.open_seconds, gt=0, le=3600, validation_alias=shared("BREAKER_OPEN_SECONDS")
    )
    open_cap: float = Field(_DEFAULT.open_cap, gt=0, le=3600, validation_alias=shared("BREAKER_OPEN_CAP"))
    #: After recovery traffic grows from the floor, a share of the usual, to all of it over this time.
    ramp_seconds: float = Field(
        _DEFAULT.ramp_seconds, gt=0, le=60, validation_alias=shared("BREAKER_RAMP_SECONDS")
    )
    ramp_floor: float = Field(_DEFAULT.ramp_floor, gt=0, le=1, validation_alias=shared("BREAKER_RAMP_FLOOR"))

    def breaker(self) -> BreakerSettings:
        """Returns the settings of the breakers."""
        return BreakerSettings(
            consecutive_failures=self.consecutive_failures,
            failure_rate=self.failure_rate,
            open_seconds=self.open_seconds,
            open_cap=max(self.open_cap, self.open_seconds),
            ramp_seconds=self.ramp_seconds,
            ramp_floor=self.ramp_floor,
        )
