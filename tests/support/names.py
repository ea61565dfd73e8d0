"""Names of limits, as tests write them."""

from __future__ import annotations

from libs.limits import LimitKey, Period, QueueKey, Unit, scope_of


def limit_key(text: str) -> LimitKey | QueueKey:
    """`scope unit period`, `scope concurrency` or `scope queue`; only the scope may hold spaces."""
    scope, _, last = text.rpartition(" ")
    if last == "queue":
        return QueueKey(scope_of(scope))
    if last == Unit.CONCURRENCY:
        return LimitKey(scope_of(scope), Unit.CONCURRENCY, Period.NONE)
    scope, _, unit = scope.rpartition(" ")
    return LimitKey(scope_of(scope), Unit(unit), Period(last))
