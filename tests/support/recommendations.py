"""Recommendations in memory, and the figures that rules look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from libs.catalog.catalog import Catalog
from libs.catalog.model import ContentType, Model, Policy, Price, Provider, Tenant, Weighted
from libs.catalog.prices import cost_micro_usd
from libs.clock import Clock
from libs.forecast.intervals import Band
from services.analytics.ledger.attempt import Outcome
from services.analytics.ledger.request import RequestRecord
from services.analytics.recommendations.adviser import Adviser
from services.analytics.recommendations.decision import (
    Decision,
    KeptRecommendation,
    Standing,
    decide,
    in_order,
    no_such,
)
from services.analytics.recommendations.evidence import Details, Window
from services.analytics.recommendations.gather import Sources
from services.analytics.recommendations.measurement import Share, ShareDay, left_as_it_was
from services.analytics.recommendations.recommendation import (
    Fact,
    FactKind,
    Proposal,
    Recommendation,
    RecommendationKind,
    RiskKind,
    SavedUnit,
    Subject,
)
from tests.support.alerts import MemoryAlerts
from tests.support.ledger import MemoryLedger

DAY = 86_400


def a_recommendation(content_type: str = "blog", saving: float = 100.0) -> Recommendation:
    """A cheaper model for a content type."""
    return Recommendation(
        RecommendationKind.CHEAPER_MODEL,
        Subject("", content_type, "a", "dear"),
        Proposal(("default",), "b/cheap"),
        Band(saving / 2, saving, saving * 1.5),
        28,
        (Fact(FactKind.CALLS, 10.0),),
        (RiskKind.QUALITY_IS_DECLARED,),
    )


def priced_catalog(*tenants: Tenant, **models: Model) -> Catalog:
    """A catalog of a/dear, b/cheap and c/mean, which cost 4, 1 and 0.5 dollars per million tokens, and are good, as
    good and worse for a blog. `models`: others in their place, by name."""
    found = {
        "dear": Model(
            "a", "dear", "dear", 100_000, 4096, price=Price(4_000_000, 4_000_000), quality={"blog": 0.8}
        ),
        "cheap": Model(
            "b", "cheap", "cheap", 100_000, 4096, price=Price(1_000_000, 1_000_000), quality={"blog": 0.8}
        ),
        "mean": Model(
            "c", "mean", "mean", 100_000, 4096, price=Price(500_000, 500_000), quality={"blog": 0.5}
        ),
        **models,
    }
    return Catalog(
        version="000000000001",
        domain="test",
        default_content_type="blog",
        providers={
            one.provider: Provider(one.provider, "openai_compatible", f"http://{one.provider}.test/v1")
            for one in found.values()
        },
        models={one.id: one for one in found.values()},
        policies={"default": Policy("default", ((Weighted("a/dear"),),))},
        content_types={"blog": ContentType("blog", 100)},
        tenants={tenant.name: tenant for tenant in tenants},
    )


def adviser(
    clock: Clock,
    ledger: MemoryLedger | None = None,
    details: MemoryDetails | None = None,
    catalog: Catalog | None = None,
) -> Adviser:
    """The use case with fakes behind it, and the real prices."""
    found = details or MemoryDetails()
    sources = Sources(ledger or MemoryLedger(), found, MemoryAlerts())
    return Adviser(sources, found, MemoryRecommendations(), lambda: catalog, cost_micro_usd, "UTC", clock)


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
        if kept is None or self._look is None:
            raise no_such(decision.id)
        self._rows[decision.id] = decide(kept, decision, self._look[0])
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
