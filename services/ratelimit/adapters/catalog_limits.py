"""The limits that the catalog configures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from libs.catalog.catalog import Catalog
from libs.catalog.limits import LimitSpec
from libs.catalog.watch import CatalogHolder
from libs.errors import InvalidArgument
from libs.limits import LimitKey, Scope
from libs.telemetry import get_logger
from services.ratelimit.domain.limits import Limit

log = get_logger(__name__)


class CatalogLimits:
    """Satisfies `ports.LimitSource`. A limit beyond what this service can count exactly is left out and reported; the
    others hold."""

    def __init__(self, holder: CatalogHolder) -> None:
        self._current = limits_of(holder.current)
        self._thresholds = thresholds_of(holder.current)
        self._listeners: list[Callable[[], None]] = []
        holder.subscribe(self._replaced)

    def current(self) -> Mapping[LimitKey, Limit]:
        return self._current

    def thresholds(self) -> Mapping[LimitKey, Sequence[int]]:
        """Returns the thresholds below 100 percent of each budget, ascending."""
        return self._thresholds

    def subscribe(self, changed: Callable[[], None]) -> None:
        self._listeners.append(changed)

    def _replaced(self, _: Catalog, new: Catalog) -> None:
        self._current = limits_of(new)
        self._thresholds = thresholds_of(new)
        for listener in self._listeners:
            listener()


def limits_of(catalog: Catalog) -> dict[LimitKey, Limit]:
    """Returns every limit of the catalog by name."""
    found: dict[LimitKey, Limit] = {}
    for scope, zone, spec in catalog.limits():
        try:
            limit = limit_of(scope, zone, spec)
        except InvalidArgument as error:
            log.error(
                "limit_refused", scope=str(scope), unit=spec.unit, period=spec.period, why=error.message
            )
            continue
        found[limit.key] = limit
    return found


def thresholds_of(catalog: Catalog) -> dict[LimitKey, Sequence[int]]:
    """Returns the thresholds below 100 percent of every budget of the catalog; at 100 it is used up."""
    return {
        LimitKey(scope, spec.unit, spec.period): [t.percent for t in spec.thresholds if t.percent < 100]
        for scope, _, spec in catalog.limits()
        if spec.budget
    }


def limit_of(scope: Scope, zone: str, spec: LimitSpec) -> Limit:
    """Returns the limit of a specification. Raises InvalidArgument."""
    return Limit(
        LimitKey(scope, spec.unit, spec.period), spec.limit, spec.burst, zone, spec.shadow, pace=spec.pace
    )
