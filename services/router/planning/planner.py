"""Makes the plan of a request from the present catalog, health, budgets and set-aside combinations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from random import Random

from msgspec import structs

from libs.catalog.catalog import Catalog
from libs.catalog.model import Model, Policy, Provider, Tenant
from libs.catalog.prices import Pricer
from libs.clock import Clock
from libs.errors import FailedPrecondition, FieldViolation, InvalidArgument
from libs.selection import Strategy
from libs.types import Usage
from services.router.budgets.budgets import Budgets
from services.router.health.failovers import FailedOverHealth, OperatorFailovers
from services.router.health.target_health import TargetHealth
from services.router.planning.entries import PolicyEntry, cheaper_entries, entries_for
from services.router.planning.plan import Conditions, Plan, PlanRequest, make_plan
from services.router.planning.recent_calls import RecentCalls
from services.router.planning.scoring import Scorer
from services.router.request.attachments import attachment_tokens
from services.router.request.generation import Generation
from services.router.request.tokens import estimate_input_tokens
from services.router.routes.routes import ProviderRoutes
from services.router.set_aside.set_aside import SettingAside

#: Policies' entries that are remembered, each for one (tenant, content type, models).
ENTRIES_CACHE = 4096


def permitted_models(catalog: Catalog, tenant: Tenant) -> list[Model]:
    """Returns the models the tenant may name, whatever their health, in the catalog's order."""
    allowed = tenant.allowed_providers
    return [model for model in catalog.models.values() if allowed is None or model.provider in allowed]


class Planner:
    """Makes plans. Remembers which models a policy names, so that a plan costs the same with any catalog size."""

    def __init__(
        self,
        health: Callable[[Model], TargetHealth],
        price: Pricer,
        clock: Clock,
        rng: Random,
        why_unusable: Callable[[Provider], str],
        set_aside: SettingAside,
        budgets: Budgets,
        scorer: Scorer,
        recent: RecentCalls,
        routes: ProviderRoutes,
        failovers: OperatorFailovers,
    ) -> None:
        """`why_unusable` returns why a provider cannot be called at all; empty where it can."""
        self._health = health
        self._price = price
        self._clock = clock
        self._rng = rng
        self._why_unusable = why_unusable
        self._set_aside = set_aside
        self._budgets = budgets
        self._scorer = scorer
        self._recent = recent
        self._routes = routes
        self._failovers = failovers
        self._version = ""
        self._entries: OrderedDict[
            tuple[str, str, tuple[str, ...]], tuple[Policy, tuple[PolicyEntry, ...]]
        ] = OrderedDict()

    def plan(self, catalog: Catalog, tenant: Tenant, generation: Generation, *, stream: bool) -> Plan:
        """Returns the plan. Raises InvalidArgument for models the catalog does not know."""
        budgets = self._budgets.of(catalog, tenant, generation)
        verdict = self._budgets.check_budgets(budgets)
        policy, entries = self._entries_for(catalog, tenant, generation)
        request = PlanRequest(generation, tenant, policy, stream, budgets, verdict)
        conditions = self._conditions(catalog, generation, stream=stream)
        if not verdict.cheaper:
            return make_plan(entries, request, conditions, self._scorer, self._rng)
        # The same chance for both, so that only the budget makes a difference.
        seed = self._rng.random()
        cost_first = structs.replace(generation, strategy=Strategy.COST_FIRST, strategy_asked=True)
        plan = make_plan(
            entries, structs.replace(request, generation=cost_first), conditions, self._scorer, Random(seed)
        )
        unrestricted = structs.replace(request, budget_verdict=structs.replace(verdict, cheaper=""))
        usual = make_plan(entries, unrestricted, conditions, self._scorer, Random(seed))
        changed = [c.target for c in plan.candidates[:1]] != [c.target for c in usual.candidates[:1]]
        return structs.replace(plan, chosen_by_budget=changed)

    def plan_cheaper(
        self, catalog: Catalog, tenant: Tenant, generation: Generation, plan: Plan, *, stream: bool
    ) -> Plan:
        """Returns a plan of models that cost less than any of `plan`'s, from all of the catalog. May be empty: where
        the caller names the only models that may answer, there are no others."""
        if generation.models:
            return structs.replace(plan, candidates=())
        conditions = self._conditions(catalog, generation, stream=stream)
        of_text = estimate_input_tokens(generation.prompt)

        def cost(model: Model) -> int:
            provider = catalog.providers[model.provider]
            tokens = of_text + attachment_tokens(generation.attachments, provider, model)
            most = Usage(tokens, min(generation.prompt.max_output_tokens, model.max_output_tokens))
            return self._price(provider, model, most, conditions.at, "")

        everyone = [*plan.candidates, *plan.excluded]
        cheapest = min((c.estimated_micro_usd for c in everyone), default=0)
        entries = cheaper_entries(catalog, {c.target for c in everyone}, cheapest, cost)
        request = PlanRequest(generation, tenant, plan.policy, stream, plan.budgets)
        return make_plan(entries, request, conditions, self._scorer, self._rng)

    def _conditions(self, catalog: Catalog, generation: Generation, *, stream: bool) -> Conditions:
        health = self._health
        if self._routes.places_out:
            health = self._routes.view(health, catalog)
        health = self._set_aside.view(health, catalog, generation, stream=stream)
        now = self._clock.monotonic()
        avoids = None
        if not self._recent.all_quiet(now):
            named = generation.models[0] if generation.models else ""
            avoids = partial(self._recent.avoids, caller=generation.tenant, now=now, named=named)
        at = self._clock.now()
        if not self._failovers:
            return Conditions(health, self._price, at, self._why_unusable, avoids)
        leaving = FailedOverHealth(health, self._failovers, generation.tenant, generation.content_type, at)
        return Conditions(leaving.health_of, self._price, at, self._why_unusable, avoids, leaving.comes_first)

    def _entries_for(
        self, catalog: Catalog, tenant: Tenant, generation: Generation
    ) -> tuple[Policy, tuple[PolicyEntry, ...]]:
        """Returns the policy of such requests, and the models that it, or the caller, names."""
        if catalog.version != self._version:
            self._entries.clear()
            self._version = catalog.version
        key = (tenant.name, generation.content_type, generation.models)
        known = self._entries.get(key)
        if known is None:
            unknown = [name for name in generation.models if not catalog.resolve_model(name)]
            if unknown:
                raise InvalidArgument(
                    [
                        FieldViolation(f"generation.models[{generation.models.index(n)}]", f"no model {n!r}")
                        for n in unknown
                    ],
                    reason="UNKNOWN_MODEL",
                )
            policy = catalog.policy_for(tenant, generation.content_type)
            entries = entries_for(catalog, policy, generation.models)
            if not entries:
                raise FailedPrecondition("The policy names no model", reason="NO_CANDIDATE")
            known = self._entries[key] = (policy, entries)
            if len(self._entries) > ENTRIES_CACHE:
                self._entries.popitem(last=False)
        return known
