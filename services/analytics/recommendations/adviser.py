"""The use case: looks again when the last look is old, answers from what was found, and takes decisions.

Nobody asks: nothing is computed. Replicas look each for itself, and the last look stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from libs.catalog.catalog import Catalog
from libs.clock import Clock
from services.analytics.recommendations.decision import (
    Decision,
    KeptRecommendation,
    RecommendationStore,
    Standing,
)
from services.analytics.recommendations.evidence import Evidence
from services.analytics.recommendations.gather import Sources, gather, window_at
from services.analytics.recommendations.look import LookSummary, summarise
from services.analytics.recommendations.market import Market, PriceLookup
from services.analytics.recommendations.measurement import (
    MEASURED_DAYS,
    MeasuredSaving,
    ShareReader,
    measure,
)
from services.analytics.recommendations.money_rules import (
    cheaper_models,
    cut_answers,
    idle_hedges,
    long_prompts,
)
from services.analytics.recommendations.optimization import Advice, AdvisedItem
from services.analytics.recommendations.recommendation import Recommendation
from services.analytics.recommendations.reliability_rules import failing_providers, tight_limits

#: Seconds after which there is another look, and a saving is measured again.
LOOK_EVERY: Final = 900.0
#: Accepted recommendations whose saving is measured, the latest first.
MAX_MEASURED: Final = 20
_DAY: Final = 86_400.0
_SUMMARY = msgspec.json.Decoder(LookSummary)


class Adviser:
    """Answers questions about recommendations. `catalog` returns None where there is none: then the rules that need
    it are named as skipped."""

    def __init__(
        self,
        sources: Sources,
        shares: ShareReader,
        store: RecommendationStore,
        catalog: Callable[[], Catalog | None],
        price: PriceLookup,
        time_zone: str,
        clock: Clock,
    ) -> None:
        self._sources = sources
        self._shares = shares
        self._store = store
        self._catalog = catalog
        self._price = price
        self._zone = ZoneInfo(time_zone)
        self._clock = clock
        self._turn = asyncio.Lock()
        self._measured: dict[tuple[str, int], tuple[float, MeasuredSaving | None]] = {}

    async def advise(self) -> Advice:
        """Returns what there is to recommend. Raises Unavailable, DeadlineExceeded, FailedPrecondition."""
        as_of, summary = await self._look()
        now = self._clock.now()
        kept = [one for one in await self._store.all() if not one.is_gone(now, as_of)]
        measured = await self._measure(kept, now)
        items = tuple(
            AdvisedItem(one, one.standing_at(now), measured.get(one.recommendation.id)) for one in kept
        )
        return Advice(as_of, items, summary)

    async def decide(self, decision: Decision) -> AdvisedItem:
        """Takes a decision. Raises NotFound, Aborted, FailedPrecondition, Unavailable."""
        kept = await self._store.decide(decision)
        return AdvisedItem(kept, kept.standing_at(decision.at))

    async def _look(self) -> tuple[float, LookSummary]:
        async with self._turn:
            # As it is kept, to the microsecond.
            now = round(self._clock.now(), 6)
            last = await self._store.last_look()
            if last is not None and now < last[0] + LOOK_EVERY:
                return last[0], _SUMMARY.decode(last[1])
            evidence = await gather(self._sources, window_at(now, self._zone))
            catalog = self._catalog()
            market = Market(catalog, self._price, now) if catalog is not None else None
            found = await asyncio.to_thread(lambda: list(recommend(evidence, market)))
            summary = summarise(evidence, market is not None)
            await self._store.keep(found, now, msgspec.json.encode(summary))
            return now, summary

    async def _measure(self, kept: list[KeptRecommendation], now: float) -> dict[str, MeasuredSaving | None]:
        accepted = sorted(
            (
                (one.last.at, one)
                for one in kept
                if one.standing is Standing.ACCEPTED and one.last is not None
            ),
            key=lambda pair: -pair[0],
        )[:MAX_MEASURED]
        fresh: dict[tuple[str, int], tuple[float, MeasuredSaving | None]] = {}
        for since, one in accepted:
            found = one.recommendation
            key = (found.id, one.version)
            known = self._measured.get(key)
            if known is None or now >= known[0] + LOOK_EVERY:
                until = min(now, since + MEASURED_DAYS * _DAY)
                days = await self._shares.shares(found.id, found.subject, found.unit, since, until)
                known = (now, measure(days))
            fresh[key] = known
        self._measured = fresh
        return {key[0]: known[1] for key, known in fresh.items()}


def recommend(evidence: Evidence, market: Market | None) -> Iterator[Recommendation]:
    """Yields all that the rules find."""
    failing = list(failing_providers(evidence, market))
    yield from failing
    yield from tight_limits(evidence)
    if market is not None:
        yield from cheaper_models(
            evidence, market, {(one.subject.content_type, one.subject.provider) for one in failing}
        )
        yield from long_prompts(evidence, market)
    yield from cut_answers(evidence)
    yield from idle_hedges(evidence)
