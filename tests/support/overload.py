"""A limiter in virtual time, for what waits in front of one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from libs.errors import QuotaViolation
from libs.limits import Amounts, Scope
from services.router.admission.admission import Claim, Permit
from services.router.admission.amounts import AdmissionDenied
from tests.support.names import limit_key
from tests.support.virtual import VirtualClock


@dataclass
class VirtualLimiter:
    """Satisfies `Admission` as a limiter a millisecond away would. `slots`: calls at a time by scope. `rates`:
    calls a second and the burst, by scope. Both may be changed while it runs."""

    clock: VirtualClock
    slots: dict[str, int] = field(default_factory=dict)
    rates: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    running: Counter[str] = field(default_factory=Counter)
    #: Admissions, in order, by tenant; and how often it was asked for one.
    admitted: list[str] = field(default_factory=list)
    asked: int = 0
    settled: int = 0
    cancelled: int = 0
    #: Raised by the next `admit`.
    fault: Exception | None = None
    #: Called as `admit` grants, before its caller hears of it.
    granting: Callable[[], object] | None = None
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)

    def try_admit(self, scopes: Sequence[Scope], amounts: Amounts) -> Permit | None:
        return None if self._denial(scopes) else self._take(scopes, scopes[0].name)

    async def admit(self, claim: Claim, timeout: float) -> Permit:
        self.asked += 1
        await asyncio.sleep(0.001)
        if self.fault is not None:
            raise self.fault
        denied = self._denial(claim.scopes)
        if denied is not None:
            raise denied
        if self.granting is not None:
            self.granting()
        return self._take(claim.scopes, claim.tenant)

    def _take(self, claimed: Sequence[Scope], tenant: str) -> Permit:
        scopes = tuple(map(str, claimed))
        self.running.update(scopes)
        self.admitted.append(tenant)
        for scope in scopes:
            if scope in self.rates:
                level, at = self._levels[scope]
                self._levels[scope] = level - 1, at
        return Permit(partial(self._end, scopes))

    def _end(self, scopes: tuple[str, ...], used: Amounts | None) -> None:
        self.running.subtract(scopes)
        if used is None:
            self.cancelled += 1
        else:
            self.settled += 1

    def _denial(self, scopes: Sequence[Scope]) -> AdmissionDenied | None:
        now = self.clock.monotonic()
        violations = []
        for scope in map(str, scopes):
            if self.running[scope] >= self.slots.get(scope, 10**9):
                violations.append(
                    QuotaViolation(limit_key(f"{scope} concurrency"), "full", reset_seconds=1.0)
                )
            if scope in self.rates:
                rate, burst = self.rates[scope]
                level, at = self._levels.get(scope, (burst, now))
                level = min(burst, level + (now - at) * rate)
                self._levels[scope] = level, now
                if level < 1:
                    wait = (1 - level) / rate + 0.001
                    violations.append(
                        QuotaViolation(limit_key(f"{scope} requests minute"), "empty", reset_seconds=wait)
                    )
        if not violations:
            return None
        return AdmissionDenied(violations, max(v.reset_seconds or 0.0 for v in violations))
