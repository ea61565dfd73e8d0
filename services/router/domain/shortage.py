"""What a refusal means for whoever would wait. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from services.router.domain.amounts import CONCURRENCY, AdmissionDenied

#: Limits whose capacity comes back by itself and soon, and in how many seconds all of it. Calendar quotas are not
#: waited for, and money only where its limit is paced.
_BUCKETS: Final = {"second": 1.0, "minute": 60.0, "hour": 3600.0}
_PERIODS: Final = frozenset(_BUCKETS) | {"day", "month"}
#: Slots come free when calls end. Those of this router say so; for the others it is asked this often, seconds.
POLL: Final = 0.25


class Shortage(Struct, frozen=True):
    """What is missing. `scope`: of those that are out, the one to wait for. `seconds`: when to ask again. `firm`:
    there will be no room before that."""

    scope: str
    scopes: frozenset[str]
    seconds: float
    firm: bool


def shortage_of(denied: AdmissionDenied, within: float) -> Shortage | None:
    """None: what is missing does not come back within `within` seconds."""
    if denied.retry_after is None or denied.retry_after > within or not denied.violations:
        return None
    found: list[tuple[float, str]] = []
    firm = False
    for violation in denied.violations:
        # "scope unit period", or "scope concurrency"; a scope may hold spaces.
        rest, _, last = violation.subject.rpartition(" ")
        if last in _PERIODS:
            rest, _, unit = rest.rpartition(" ")
            if last not in _BUCKETS or (unit == "micro_usd" and not violation.paced):
                return None
            firm = True
        elif last != CONCURRENCY:
            return None
        wait = denied.retry_after if violation.reset_seconds is None else violation.reset_seconds
        found.append((wait, rest))
    seconds = denied.retry_after if firm else min(denied.retry_after, POLL)
    return Shortage(max(found)[1], frozenset(scope for _, scope in found), seconds, firm)


def seconds_each(denied: AdmissionDenied) -> float:
    """How far apart requests pass at the soonest, in seconds: what the tightest limit of requests per period takes to
    refill by one. 0: nothing is known; tokens and money may come back when calls used less than was expected."""
    apart = 0.0
    for violation in denied.violations:
        rest, _, period = violation.subject.rpartition(" ")
        if period in _BUCKETS and rest.endswith(" requests") and violation.limit > 0:
            apart = max(apart, _BUCKETS[period] / violation.limit)
    return apart
