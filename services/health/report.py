"""Records routers' reports."""

from __future__ import annotations

from collections.abc import Sequence

from services.health.domain.evidence import Outcome
from services.health.domain.routes import RouteChange
from services.health.judge import Judge
from services.health.permits import PermitIssuer


class Reports:
    """Records outcomes before the report is acknowledged, and gives the permits named in it back."""

    def __init__(self, judge: Judge, permits: PermitIssuer) -> None:
        self._judge = judge
        self._permits = permits

    async def record(self, outcomes: Sequence[Outcome], routes: Sequence[RouteChange] = ()) -> None:
        """Records the outcomes, and passes on changes of keys and endpoints. Never fails for what is in them: unknown
        targets are counted and ignored."""
        self._judge.record_outcomes(outcomes)
        if routes:
            self._judge.record_routes(routes)
        for outcome in outcomes:
            if outcome.permit:
                await self._permits.release(outcome.target, outcome.permit)
