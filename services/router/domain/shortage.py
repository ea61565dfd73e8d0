"""What a refusal means for whoever would wait. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from services.router.domain.amounts import CONCURRENCY, AdmissionDenied

#: Limits whose capacity comes back by itself and soon. Calendar quotas and money are not waited for.
_BUCKETS: Final = frozenset({"second", "minute", "hour"})
_PERIODS: Final = _BUCKETS | {"day", "month"}
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
            if last not in _BUCKETS or unit == "micro_usd":
                return None
            firm = True
        elif last != CONCURRENCY:
            return None
        wait = denied.retry_after if violation.reset_seconds is None else violation.reset_seconds
        found.append((wait, rest))
    seconds = denied.retry_after if firm else min(denied.retry_after, POLL)
    return Shortage(max(found)[1], frozenset(scope for _, scope in found), seconds, firm)
