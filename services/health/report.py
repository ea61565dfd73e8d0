"""Takes routers' reports."""

from __future__ import annotations

from collections.abc import Sequence

from services.health.domain.evidence import Outcome
from services.health.judge import Judge
from services.health.permits import PermitIssuer


class Reports:
    """A report is judged before it is answered; the permits named in it are given back."""

    def __init__(self, judge: Judge, permits: PermitIssuer) -> None:
        self._judge = judge
        self._permits = permits

    async def take(self, outcomes: Sequence[Outcome]) -> None:
        """Never fails for what is in them: unknown targets are counted and ignored."""
        self._judge.report(outcomes)
        for outcome in outcomes:
            if outcome.permit:
                await self._permits.release(outcome.target, outcome.permit)
