"""Hourly use in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from libs.errors import FailedPrecondition
from services.analytics.forecasts.history import HOUR, MAX_HISTORY_ROWS, Filters, HourOfUse, Part, UseKey
from services.analytics.ledger.attempt import Attempt


class MemoryUseHistory:
    """Satisfies `UseHistory`, from attempts."""

    def __init__(self, attempts: Iterable[Attempt] = ()) -> None:
        self.attempts = list(attempts)

    async def hours(
        self, first: int, end: int, parts: Collection[Part], filters: Filters
    ) -> Sequence[HourOfUse]:
        """See the port."""
        sums: dict[tuple[UseKey, int], list[float]] = defaultdict(lambda: [0.0] * 5)
        for one in self.attempts:
            hour = int(one.started // HOUR)
            if not first <= hour < end or not _chosen(one, filters):
                continue
            amounts = (
                one.cost_micro_usd,
                one.usage.input_tokens,
                one.usage.output_tokens,
                one.attempt_number == 1,
                1,
            )
            own = sums[_key(one, parts), hour]
            for i, amount in enumerate(amounts):
                own[i] += amount
        if len(sums) > MAX_HISTORY_ROWS:
            raise FailedPrecondition("too much", reason="TOO_MANY_ROWS")
        return [HourOfUse(key, hour, tuple(amounts)) for (key, hour), amounts in sums.items()]


def _key(one: Attempt, parts: Collection[Part]) -> UseKey:
    return UseKey(
        one.tenant if Part.TENANT in parts else "",
        one.provider if Part.PROVIDER in parts or Part.MODEL in parts else "",
        one.model if Part.MODEL in parts else "",
    )


def _chosen(one: Attempt, filters: Filters) -> bool:
    return (
        filters.tenant in (None, one.tenant)
        and filters.provider in (None, one.provider)
        and filters.model in (None, one.model, f"{one.provider}/{one.model}")
    )
