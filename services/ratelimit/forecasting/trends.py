"""The past use of the limits in use, bounded in number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from libs.limits import LimitKey, Unit
from services.ratelimit.domain.limits import Limit
from services.ratelimit.forecasting.trend import Trend

#: Limits that are followed: those in use most recently.
TRACKED = 1000


class Trends:
    """A trend for each followed limit. Concurrency is not followed: it changes too fast to be sampled."""

    def __init__(self) -> None:
        self._trends: OrderedDict[LimitKey, tuple[Limit, Trend]] = OrderedDict()

    def follow(self, limits: Iterable[Limit]) -> None:
        """Follows limits that are in use; beyond TRACKED the one unused for longest is dropped."""
        for limit in limits:
            key = limit.key
            if key.unit is Unit.CONCURRENCY:
                continue
            known = self._trends.get(key)
            if known is None:
                self._trends[key] = (limit, Trend())
                if len(self._trends) > TRACKED:
                    self._trends.popitem(last=False)
                continue
            if known[0] is not limit:
                self._trends[key] = (limit, known[1])
            self._trends.move_to_end(key)

    def followed(self) -> list[Limit]:
        """Returns the limits to sample."""
        return [limit for limit, _ in self._trends.values()]

    def of(self, key: LimitKey) -> Trend | None:
        """Returns the limit's trend; None: it is not followed."""
        known = self._trends.get(key)
        return None if known is None else known[1]
