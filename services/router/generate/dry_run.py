"""The dry run of a Generate: what would be chosen and what it would cost, without calling anybody."""

from __future__ import annotations

from libs.catalog.catalog import Catalog
from libs.catalog.model import Tenant
from libs.catalog.prices import Pricer
from libs.clock import Clock
from libs.types import Usage, UsageAccuracy
from services.router.generate.failure import why_given_up
from services.router.planning.candidate import Candidate
from services.router.planning.plan import Plan
from services.router.planning.planner import Planner
from services.router.request.generation import Generation


class DryRun:
    """Answers SelectProvider and EstimateCost. Raises what a Generate would."""

    def __init__(self, planner: Planner, price: Pricer, clock: Clock) -> None:
        self._planner = planner
        self._price = price
        self._clock = clock

    def select(self, catalog: Catalog, tenant: Tenant, generation: Generation) -> Plan:
        """Returns a plan with at least one candidate."""
        plan = self._planner.plan(catalog, tenant, generation, stream=False)
        if not plan.candidates:
            raise why_given_up("NO_CANDIDATE", plan, (), {}, None, self._clock.monotonic())
        return plan

    def estimate_costs(
        self, catalog: Catalog, tenant: Tenant, generation: Generation
    ) -> list[tuple[Candidate, Usage, int]]:
        """Returns the candidates with their expected usage and cost (micro-USD), cheapest first; a candidate's own
        estimate is the most it can cost. Expected: half of the output limit."""
        plan = self.select(catalog, tenant, generation)
        at = self._clock.now()
        found = []
        for candidate in plan.candidates:
            half = (candidate.output_tokens + 1) // 2
            usage = Usage(candidate.input_tokens, half, accuracy=UsageAccuracy.ESTIMATED)
            found.append((candidate, usage, self._price(candidate.provider, candidate.model, usage, at, "")))
        return sorted(found, key=lambda entry: entry[2])
