"""Admits against the limits that hold now, whatever changes meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from libs.clock import Clock
from libs.errors import FieldViolation, InvalidArgument, Unavailable
from libs.limits import Amounts, LimitKey, Scope, by_unit
from libs.telemetry import Metrics
from services.ratelimit.domain.limits import MAX_DIMENSIONS, Limit
from services.ratelimit.domain.quota import (
    Denial,
    Quota,
    Reading,
    amounts_of,
    closed,
    closed_reading,
    denial,
    denial_of_whole,
    quota,
)
from services.ratelimit.effective_limits import EffectiveLimits
from services.ratelimit.forecasting.trends import Trends
from services.ratelimit.ports import Admission, Granted, LimitStore, SeedNeeded, StaleLimits
from services.ratelimit.rebuild import Rebuild

#: Rounds after which limits that keep changing, or windows without a past, are not expected to settle.
_ROUNDS = 6
#: Dimensions in one reading.
_READ_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """An admission before its limits are looked up. `ttl` in seconds. `whole`: all that the request takes of which
    this is a part; None: this is all."""

    record_id: str
    holder: str
    scopes: tuple[Scope, ...]
    need: Amounts
    want: Amounts
    ttl: float
    divisor: int = 1
    whole: Amounts | None = None


class Enforcer:
    """Decides admissions and reads use; one per process."""

    def __init__(
        self,
        store: LimitStore,
        effective: EffectiveLimits,
        rebuild: Rebuild,
        trends: Trends,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._effective = effective
        self._rebuild = rebuild
        self._clock = clock
        self._trends = trends
        self._outcomes = metrics.counter(
            "ratelimit_admissions", "Admissions by outcome: granted, denied, error", ["outcome"]
        )
        self._shadowed = metrics.counter(
            "ratelimit_shadow_violations",
            "Admissions that a shadow limit would have denied",
            ["unit", "period"],
        )

    async def admit(self, requests: Sequence[AdmissionRequest]) -> list[Granted | Denial | Exception]:
        """Decides each by itself, in order, as the store does. Raises Unavailable."""
        results: list[Granted | Denial | Exception] = [StaleLimits() for _ in requests]
        for _ in range(_ROUNDS):
            pending = [i for i, r in enumerate(results) if isinstance(r, StaleLimits | SeedNeeded)]
            if not pending:
                break
            admissions = [self._admission(requests[i]) for i in pending]
            for i, result in zip(pending, await self._store.admit(admissions), strict=True):
                results[i] = _of_whole(requests[i], result)
            await self._prepare(requests, results)
        for i, result in enumerate(results):
            if isinstance(result, StaleLimits | SeedNeeded):
                results[i] = Unavailable(
                    "The limits keep changing", reason="LIMITS_UNSETTLED", retry_after=1.0
                )
            self._count(results[i])
        return results

    async def read(self, limits: Sequence[Limit]) -> list[Quota]:
        """Returns the limits' present use. Raises Unavailable."""
        now, found = await self.readings(limits)
        return [quota(limit, reading, now) for limit, reading in zip(limits, found, strict=True)]

    async def readings(self, limits: Sequence[Limit]) -> tuple[float, list[Reading]]:
        """Returns the store's time (epoch seconds) and each limit's state. Raises Unavailable."""
        now, found = 0.0, []
        for i in range(0, len(limits), _READ_AT_ONCE):
            now, more = await self._read(limits[i : i + _READ_AT_ONCE])
            found += more
        return now, found

    async def _read(self, limits: Sequence[Limit]) -> tuple[float, list[Reading]]:
        closed: dict[LimitKey, Reading] = {}
        for _ in range(len(limits) + _ROUNDS):
            known = [limit for limit in limits if limit.key not in closed]
            try:
                now, found = await self._store.read(known)
            except SeedNeeded as seeds:
                waits = await self._rebuild.open(seeds.limits)
                at = self._clock.now()
                for limit in seeds.limits:
                    if limit.key in waits:
                        closed[limit.key] = closed_reading(limit, at + waits[limit.key])
                continue
            readings = closed | {limit.key: r for limit, r in zip(known, found, strict=True)}
            return now, [readings[limit.key] for limit in limits]
        raise Unavailable("The limits keep changing", reason="LIMITS_UNSETTLED", retry_after=1.0)

    def _admission(self, request: AdmissionRequest) -> Admission:
        limits = self._effective.of(request.scopes)
        if len(limits) > MAX_DIMENSIONS:
            raise InvalidArgument(
                [FieldViolation("scopes", f"have {len(limits)} limits together, more than {MAX_DIMENSIONS}")],
                reason="TOO_MANY_LIMITS",
            )
        print_ = hashlib.blake2b(
            repr(([*map(str, request.scopes)], request.need)).encode(), digest_size=12
        ).hexdigest()
        return Admission(
            request.record_id,
            request.holder,
            print_,
            limits,
            tuple(amounts_of(limits, request.need)),
            tuple(amounts_of(limits, request.want)),
            request.ttl,
            request.divisor,
            self._effective.version,
        )

    async def _prepare(
        self, requests: Sequence[AdmissionRequest], results: list[Granted | Denial | Exception]
    ) -> None:
        """Makes the next round of those that could not be decided more likely to succeed, and denies those whose
        windows stay closed."""
        if any(isinstance(result, StaleLimits) for result in results):
            await self._effective.refresh()
        seeds = {i: result.limits for i, result in enumerate(results) if isinstance(result, SeedNeeded)}
        if not seeds:
            return
        waits = await self._rebuild.open(list(dict.fromkeys(limit for s in seeds.values() for limit in s)))
        now = self._clock.now()
        for i, limits in seeds.items():
            whole = by_unit(requests[i].whole or requests[i].need)
            violations = [
                closed(limit, whole[limit.key.unit], now + waits[limit.key], now)
                for limit in limits
                if limit.key in waits
            ]
            if violations:
                results[i] = denial(violations, now)

    def _count(self, result: Granted | Denial | Exception) -> None:
        if isinstance(result, Granted):
            self._outcomes.labels("granted").inc()
            self._trends.follow(state.limit for state in result.quotas)
            for key in result.shadowed:
                self._shadowed.labels(key.unit, key.period or "none").inc()
        else:
            self._outcomes.labels("denied" if isinstance(result, Denial) else "error").inc()


def _of_whole(
    request: AdmissionRequest, result: Granted | Denial | Exception
) -> Granted | Denial | Exception:
    """Returns the result for the whole of which the request is a part."""
    if isinstance(result, Denial) and request.whole is not None:
        return denial_of_whole(result, request.whole)
    return result
