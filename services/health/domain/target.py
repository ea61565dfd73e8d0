"""Targets of judgement, operators' modes, and the state that is published of a target."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libs.resilience.circuit import BreakerState


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """A provider (`model` empty) or one of its models, by catalog names."""

    provider: str
    model: str = ""

    @property
    def parent(self) -> Target:
        """The provider that the model belongs to; of a provider itself."""
        return Target(self.provider)

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider


class Mode(StrEnum):
    """An operator's override of the evidence; AUTOMATIC: none."""

    AUTOMATIC = "automatic"
    MAINTENANCE = "maintenance"
    DRAIN = "drain"
    BLOCKED = "blocked"


class Status(StrEnum):
    """The judgement, in one value."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    RECOVERING = "recovering"
    DEGRADED = "degraded"
    DOWN = "down"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class ModeRecord:
    """A mode that merges between replicas: the later setting wins. `at`: epoch seconds."""

    mode: Mode = Mode.AUTOMATIC
    version: int = 0
    at: float = 0.0
    reason: str = ""

    @property
    def order(self) -> tuple[int, float, str, str]:
        """The sort key of `merge`; total, so that replicas cannot disagree."""
        return (self.version, self.at, self.mode.value, self.reason)

    def merge(self, other: ModeRecord) -> ModeRecord:
        """Returns the later of two settings."""
        return self if self.order >= other.order else other


@dataclass(frozen=True, slots=True)
class TargetState:
    """The published judgement. Durations in seconds, instants in epoch seconds, rates over the last minute."""

    target: Target
    status: Status
    circuit: BreakerState
    mode: Mode
    reason: str
    ramp: float
    response_time: float | None = None
    time_to_first_token: float | None = None
    error_rate: float = 0.0
    success_rate: float = 1.0
    calls: int = 0
    consecutive_failures: int = 0
    last_checked: float | None = None
    probe_failed_by: str = ""
    probes_failed: int = 0

    @property
    def urgent(self) -> tuple[object, ...]:
        """The part that changes what routers do, which is published at once. The rest is published once a second."""
        return (self.status, self.circuit, self.mode, self.ramp == 1.0, self.probes_failed)
