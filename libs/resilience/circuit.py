"""The state of a circuit breaker, as a value that replicas can merge without a leader."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CircuitState(StrEnum):
    """The state of a circuit, as in resilience4j: closed lets calls pass, open refuses them, half-open lets a few
    through as a trial."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class TripCause(StrEnum):
    """The cause for which a circuit is not closed."""

    NONE = ""
    FAULTS = "faults"
    TRANSPORT = "transport"
    SLOW = "slow"
    COOLDOWN = "cooldown"
    OPERATOR = "operator"


_SEVERITY = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Instants are seconds since the Unix epoch.

    States are totally ordered by `order`, and `merge` takes the larger, so merging is commutative, associative and
    idempotent: the higher generation wins, then the more severe state, then the later `open_until`.
    """

    state: CircuitState = CircuitState.CLOSED
    #: Grows with every change of `state`; evidence names the generation it was gathered under.
    generation: int = 0
    #: The instant at which an open circuit becomes half-open; 0 when it is not open.
    open_until: float = 0.0
    cause: TripCause = TripCause.NONE
    #: The instant at which the present state began; 0: from the start.
    since: float = 0.0
    #: Openings in a row, without a lasting recovery between them.
    trips: int = 0

    def __post_init__(self) -> None:
        if self.generation < 0 or self.trips < 0:
            raise ValueError("generation and trips count from 0")
        if (self.state is CircuitState.OPEN) != (self.open_until > 0):
            raise ValueError("exactly an open circuit has open_until")

    @property
    def order(self) -> tuple[int, int, float, float, int, str]:
        """Returns the sort key of `merge`."""
        return (
            self.generation,
            _SEVERITY[self.state],
            self.open_until,
            self.since,
            self.trips,
            self.cause.value,
        )

    def merge(self, other: BreakerState) -> BreakerState:
        """Returns the state that two replicas agree on."""
        return self if self.order >= other.order else other


def worse(provider: BreakerState, model: BreakerState) -> BreakerState:
    """Returns the state that a call to a model must respect: the more severe of its own circuit and its
    provider's."""
    if provider.state is CircuitState.CLOSED and model.state is CircuitState.CLOSED:
        return provider
    if (_SEVERITY[provider.state], provider.open_until) >= (_SEVERITY[model.state], model.open_until):
        return provider
    return model
