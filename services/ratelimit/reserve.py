"""Reserves, then settles or cancels: for callers without a lease stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.errors import FieldViolation, InvalidArgument
from libs.limits import Amounts, by_unit
from services.ratelimit.domain.limits import check_ids, check_scopes
from services.ratelimit.domain.quota import Denial, Quota
from services.ratelimit.effective_limits import EffectiveLimits
from services.ratelimit.enforce import AdmissionRequest, Enforcer
from services.ratelimit.ports import LimitStore

DEFAULT_TTL = 120.0
MIN_TTL, MAX_TTL = 1.0, 3600.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation that was granted. `expires` in epoch seconds."""

    expires: float
    quotas: tuple[Quota, ...]


class Reservations:
    """Makes, settles and cancels reservations."""

    def __init__(self, enforcer: Enforcer, effective: EffectiveLimits, store: LimitStore) -> None:
        self._enforcer = enforcer
        self._effective = effective
        self._store = store

    async def reserve(
        self, reservation_id: str, holder_id: str, scopes: Sequence[str], amounts: Amounts, ttl: float | None
    ) -> Reservation:
        """Reserves the amounts in every limit of the scopes, or in none. `ttl` in seconds, None: two minutes. Raises
        InvalidArgument, ResourceExhausted, AlreadyExists, PermissionDenied, FailedPrecondition, Unavailable."""
        check_ids({"reservation_id": reservation_id, "holder_id": holder_id})
        checked = check_scopes(scopes)
        faults = []
        if not any(by_unit(amounts).values()):
            faults.append(FieldViolation("amounts", "at least one must be above 0"))
        life = DEFAULT_TTL if ttl is None else ttl
        if not MIN_TTL <= life <= MAX_TTL:
            faults.append(FieldViolation("ttl", f"must be from {MIN_TTL:.0f} to {MAX_TTL:.0f} seconds"))
        if faults:
            raise InvalidArgument(faults, reason="BAD_RESERVATION")
        (result,) = await self._enforcer.admit(
            [AdmissionRequest(reservation_id, holder_id, checked, amounts, amounts, life)]
        )
        if isinstance(result, Denial):
            raise result.error()
        if isinstance(result, Exception):
            raise result
        quotas = result.quotas
        if result.repeated:
            quotas = tuple(await self._enforcer.read(self._effective.of(checked)))
        return Reservation(result.expires, quotas)

    async def settle(self, reservation_id: str, holder_id: str, used: Amounts) -> None:
        """Replaces the estimate by what was used. Raises InvalidArgument, NotFound, PermissionDenied,
        FailedPrecondition, Unavailable."""
        check_ids({"reservation_id": reservation_id, "holder_id": holder_id})
        await self._store.settle(reservation_id, holder_id, used)

    async def cancel(self, reservation_id: str, holder_id: str) -> None:
        """Gives the reservation back whole. Raises as settle."""
        check_ids({"reservation_id": reservation_id, "holder_id": holder_id})
        await self._store.cancel(reservation_id, holder_id)
