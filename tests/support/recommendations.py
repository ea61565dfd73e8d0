"""Recommendations in memory, and the figures that rules look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.analytics.ledger.attempt import Outcome
from services.analytics.ledger.request import RequestRecord
from services.analytics.recommendations.decision import (
    Decision,
    KeptRecommendation,
    Standing,
    decide,
    in_order,
    no_such,
)
from services.analytics.recommendations.evidence import Details, Window
from services.analytics.recommendations.measurement import Share, ShareDay, left_as_it_was
from services.analytics.recommendations.recommendation import Recommendation, SavedUnit, Subject

DAY = 86_400


class MemoryRecommendations:
    """Satisfies `RecommendationStore`; shares its contract with the one in PostgreSQL."""

    def __init__(self) -> None:
        self._look: tuple[float, bytes] | None = None
        self._rows: dict[str, KeptRecommendation] = {}

    async def last_look(self) -> tuple[float, bytes] | None:
        return self._look

    async def keep(self, found: Sequence[Recommendation], at: float, summary: bytes) -> None:
        if self._look is not None and at <= self._look[0]:
            return
        self._look = (at, summary)
        for one in found:
            old = self._rows.get(one.id)
            if old is None:
                self._rows[one.id] = KeptRecommendation(one, at, at)
                continue
            content = old.recommendation if old.standing is Standing.ACCEPTED else one
            self._rows[one.id] = KeptRecommendation(
                content, old.found, at, old.standing, old.version, old.last
            )

    async def all(self) -> list[KeptRecommendation]:
        seen = None if self._look is None else self._look[0]
        rows = [row for row in self._rows.values() if row.standing is not Standing.OPEN or row.seen == seen]
        return sorted(rows, key=in_order)

    async def decide(self, decision: Decision) -> KeptRecommendation:
        kept = self._rows.get(decision.id)
        if kept is None:
            raise no_such(decision.id)
        self._rows[decision.id] = decide(kept, decision)
        return self._rows[decision.id]


class MemoryDetails:
    """Satisfies `DetailReader` with the details given, and `ShareReader` from the requests given."""

    def __init__(self, details: Details | None = None, requests: Iterable[RequestRecord] = ()) -> None:
        self._details = details or Details()
        self.requests = list(requests)

    async def details(self, window: Window) -> Details:
        return self._details

    async def shares(
        self, recommendation_id: str, subject: Subject, unit: SavedUnit, since: float, until: float
    ) -> Sequence[ShareDay]:
        amounts: dict[int, dict[bool, list[float]]] = {}
        for one in self.requests:
            if not since <= one.started < until:
                continue
            if subject.tenant not in ("", one.tenant) or subject.content_type not in ("", one.content_type):
                continue
            both = amounts.setdefault(int(one.started // DAY), {True: [], False: []})
            both[left_as_it_was(recommendation_id, one.request_id)].append(_amount(one, unit))
        return [ShareDay(_share(both[True]), _share(both[False])) for _, both in sorted(amounts.items())]


def _amount(request: RequestRecord, unit: SavedUnit) -> float:
    if unit is SavedUnit.MICRO_USD:
        return float(request.cost_micro_usd)
    if unit is SavedUnit.FAILED_CALLS:
        return float(request.attempts - (request.outcome is Outcome.SUCCESS and request.attempts > 0))
    return float(request.error_reason == "LIMIT_EXCEEDED")


def _share(amounts: Sequence[float]) -> Share:
    return Share(len(amounts), sum(amounts), sum(amount * amount for amount in amounts))
