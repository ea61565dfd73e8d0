"""A refusal as those see it who would wait: for which scope, and how long. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from libs.limits import LimitKey, Period, Scope, Unit
from services.router.admission.amounts import AdmissionDenied

#: Slots come free when calls end. Those of this router say so; for the others it is asked this often, seconds.
POLL: Final = 0.25


class Shortage(Struct, frozen=True):
    """Room that is missing. `scope`: of those that are out, the one to wait for. `seconds`: after which to ask again.
    `firm`: there will be no room before that."""

    scope: Scope
    scopes: frozenset[Scope]
    seconds: float
    firm: bool


def shortage_of(denied: AdmissionDenied, within: float) -> Shortage | None:
    """Returns the shortage. None: what is missing does not come back within `within` seconds. Calendar quotas are not
    waited for, and money only where its limit is paced."""
    if denied.retry_after is None or denied.retry_after > within or not denied.violations:
        return None
    found: list[tuple[float, Scope]] = []
    firm = False
    for violation in denied.violations:
        key = violation.key
        if not isinstance(key, LimitKey):
            return None
        if key.period is not Period.NONE:
            if not key.period.seconds or (key.unit is Unit.MICRO_USD and not violation.paced):
                return None
            firm = True
        wait = denied.retry_after if violation.reset_seconds is None else violation.reset_seconds
        found.append((wait, key.scope))
    seconds = denied.retry_after if firm else min(denied.retry_after, POLL)
    return Shortage(max(found)[1], frozenset(scope for _, scope in found), seconds, firm)


def seconds_each(denied: AdmissionDenied) -> float:
    """Returns the least seconds between two requests that pass: what the tightest limit of requests per period takes
    to refill by one. 0: nothing is known; tokens and money may come back when calls used less than was expected."""
    apart = 0.0
    for violation in denied.violations:
        key = violation.key
        if isinstance(key, LimitKey) and key.unit is Unit.REQUESTS and violation.limit > 0:
            apart = max(apart, key.period.seconds / violation.limit)
    return apart
