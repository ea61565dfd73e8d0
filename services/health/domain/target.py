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

    @classmethod
    def of(cls, text: str) -> Target:
        """Returns the target of `str(target)`."""
        provider, _, model = text.partition("/")
        return cls(provider, model)

    @property
    def parent(self) -> Target:
        """The provider that the model belongs to; of a provider itself."""
        return Target(self.provider)

    def covers(self, other: Target) -> bool:
        """Returns True for itself, and where it is the other's provider."""
        return self in (other, other.parent)

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}" if self.model else self.provider


@dataclass(frozen=True, slots=True)
class Failover:
    """Calls leave `source` until an instant (epoch seconds): those of all tenants and content types, or of those
    named. `to`: who is tried first in its place; None: the next of the policy."""

    source: Target
    until: float
    reason: str
    to: Target | None = None
    tenants: tuple[str, ...] = ()
    content_types: tuple[str, ...] = ()

    @property
    def opens_circuit(self) -> bool:
        """True: it says no more than that the source is not to be called, which its circuit tells the routers."""
        return self.to is None and not self.tenants and not self.content_types


class Mode(StrEnum):
    """An operator's override of the evidence; AUTOMATIC: none. Stored."""

    AUTOMATIC = "automatic"
    MAINTENANCE = "maintenance"
    DRAIN = "drain"
    BLOCKED = "blocked"
    REHABILITATING = "rehabilitating"

    @property
    def takes_out(self) -> bool:
        """True: no new calls go there."""
        return self not in (Mode.AUTOMATIC, Mode.REHABILITATING)


class BlockCause(StrEnum):
    """The cause of a block by rule. Stored."""

    KEY_REFUSED = "key_refused"
    QUOTA_GONE = "quota_gone"
    MODEL_GONE = "model_gone"


class Status(StrEnum):
    """The judgement, in one value."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    RECOVERING = "recovering"
    DEGRADED = "degraded"
    DOWN = "down"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True, slots=True)
class ModeInForce:
    """The mode that a target is in now, and why. `share`: of its usual traffic, while it is rehabilitated; `version`:
    counts the settings of its mode; `by_window`: a maintenance window says so."""

    mode: Mode = Mode.AUTOMATIC
    reason: str = ""
    share: float = 1.0
    version: int = 0
    by_window: bool = False


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
    mode_version: int = 0
    failovers: tuple[Failover, ...] = ()

    @property
    def urgent(self) -> tuple[object, ...]:
        """The part that changes what routers do, which is published at once. The rest is published once a second."""
        return (self.status, self.circuit, self.mode, self._share, self.probes_failed, self.failovers)

    @property
    def _share(self) -> float | None:
        """Of a share that grows with time routers know it by the circuit; a step of a rehabilitation is news."""
        return self.ramp if self.mode is Mode.REHABILITATING or self.ramp == 1.0 else None
