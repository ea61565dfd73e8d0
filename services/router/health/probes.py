"""Probes of a half-open target: one call at a time, each with a permit that it takes as it begins.

A permit is one for all routers, so whoever holds one without a call to spend it on keeps the target from coming back.
When it acts: a circuit is half-open, and a call is about to begin that would go there were it closed; that call asks
for the permit and waits for the answer, which takes a message to the health service and back. Refused, it goes to the
next candidate at once, as do all that come while a probe of this router runs, or within PROBE_INTERVAL of a refusal.
The service gone: the router grants itself the permit.

One tenant's own requests may be what the target fails at. The tenant whose probe failed last therefore waits longer
than any other, as long as others are known to be answered there: they have the first turn. It lasts a quarter of the
first open period, and twice as long after each further failure of the same tenant, up to the longest period. Whose
probe failed is known to the whole fleet: routers report it with the outcome, and the health service tells all.
First start: nobody has failed. Recovery: a permit that is lost with its caller or its router expires.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from libs.catalog.model import Model
from libs.resilience.evidence import BreakerSettings

#: After the fleet has refused a permit, the next is asked for this much later, seconds.
PROBE_INTERVAL = 0.25
#: For this time after an answer to it a tenant is expected to call again, seconds.
KNOWN = 600.0


class ProbePermit(Struct, frozen=True):
    """Leave for one call to a half-open target, named in its outcome. `expires`: epoch seconds."""

    id: str
    expires: float


class PermitsUnavailable(Exception):
    """Nobody can tell now who may probe a target."""


class PermitSource(Protocol):
    """The source of probe permits, one at a time for each target in the whole fleet."""

    async def acquire_permit(self, model: Model) -> ProbePermit | None:
        """Returns a permit; None: another call holds it, or the target must not be called. Raises
        PermitsUnavailable."""
        ...


@dataclass(slots=True)
class ProbeTurns:
    """The turns of calls at probing one target. Instants in epoch seconds."""

    #: No probe of this router begins before this instant.
    not_before: float = 0.0
    #: The tenant whose probe failed last, and how often in a row; empty: none did, or the last succeeded.
    failed: str = ""
    times: int = 0

    def may_ask(
        self,
        now: float,
        tenant: str,
        half_open_since: float,
        other_answered: float,
        settings: BreakerSettings,
    ) -> bool:
        """Returns True if a call of the tenant's may ask for a permit. `other_answered`: the instant of the last
        answer to another tenant."""
        if now < self.not_before:
            return False
        if tenant != self.failed or now - other_answered > KNOWN:
            return True
        # The exponent is bounded only to keep the power finite.
        turn = min(settings.open_cap, settings.open_seconds / 4 * 2.0 ** min(self.times - 1, 64))
        return now >= half_open_since + turn

    def end(self, failed: str | None) -> None:
        """Ends this router's probe; `failed`: the tenant where it met a fault, empty where it succeeded, None where
        it brought no verdict."""
        self.not_before = 0.0
        if failed is not None:
            self.times = self.times + 1 if failed == self.failed else 1
            self.failed = failed

    def learn(self, failed: str, times: int, *, closed: bool) -> None:
        """Takes the fleet's word on the tenant whose probe failed last, empty where there is none: then this router's
        own stands until the circuit is `closed`, since the service may have been started anew."""
        if failed:
            self.times = max(times, self.times) if failed == self.failed else times
            self.failed = failed
        elif closed:
            self.failed, self.times = "", 0
