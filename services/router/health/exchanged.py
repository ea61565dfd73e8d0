"""The values that cross the wire to the health service: its judgements come in, tallies of outcomes go out."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import Struct

from libs.resilience.circuit import BreakerState
from libs.types import ErrorClass
from services.router.health.failovers import Failover
from services.router.health.view import CallTicket


class Judgement(Struct, frozen=True):
    """The health service's judgement of a target. Durations in seconds, None: not known. `taken_out`: the reason why
    an operator has taken it out; empty: nobody has. `degraded_share`: the share of its calls that it should get
    because it fails beyond chance, 0 to 1; None: it does not. `probe_failed_by`: the tenant whose probe failed last
    in the fleet, and `probes_failed` how often in a row; empty: none did, or the last succeeded.
    `rehabilitated_share`: the share of its calls that an operator lets it have, 0 to 1. `failovers`: calls of some
    that an operator has made leave it."""

    circuit: BreakerState
    taken_out: str = ""
    degraded_share: float | None = None
    success_rate: float = 1.0
    latency: float | None = None
    first_token: float | None = None
    probe_failed_by: str = ""
    probes_failed: int = 0
    rehabilitated_share: float = 1.0
    failovers: tuple[Failover, ...] = ()


@dataclass(slots=True)
class Tally:
    """Outcomes that are not reported yet, summed. Times in seconds. `row`: the provider faults after the last
    success; `probe_tenant`: the tenant of a probing call, which stands alone."""

    successes: int = 0
    failures: dict[ErrorClass, int] = field(default_factory=dict)
    latency_sum: float = 0.0
    latency_max: float = 0.0
    first_token_sum: float = 0.0
    first_token_count: int = 0
    tokens: int = 0
    retry_not_before: float = 0.0
    row: int = 0
    probe_tenant: str = ""


#: Provider, model, and the ticket under which calls began.
TallyKey = tuple[str, str, CallTicket]
