"""Planning: the dry run of a Generate, and its first step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from random import Random

from msgspec import structs

from libs.catalog.model import Catalog, Model, Provider, Tenant
from libs.clock import Clock
from libs.errors import FailedPrecondition, FieldViolation, InvalidArgument
from libs.types import Usage, UsageAccuracy
from services.router.budgets import Budgets
from services.router.domain.budget import Budget, Stance
from services.router.domain.failure import why_given_up
from services.router.domain.generation import Generation, Strategy
from services.router.domain.health import TargetHealth
from services.router.domain.plan import Candidate, Plan, Pricer, Slot, cheaper_slots, make_plan, slots_for
from services.router.set_aside import SettingAside

#: Plans' fixed parts that are remembered, each for one (tenant, content type, models).
SLOTS_CACHE = 4096


def permitted_models(catalog: Catalog, tenant: Tenant) -> list[Model]:
    """The models the tenant may name, whatever their health, in the catalog's order."""
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
        unusable: Callable[[Provider], str],
        set_aside: SettingAside,
        budgets: Budgets,
    ) -> None:
        """`unusable`: why a provider cannot be called at all; empty: it can."""
        self._health = health
        self._price = price
        self._clock = clock
        self._rng = rng
        self._unusable = unusable
        self._set_aside = set_aside
        self._budgets = budgets
        self._version = ""
        self._slots: OrderedDict[tuple[str, str, tuple[str, ...]], tuple[Slot, ...]] = OrderedDict()

    def plan(self, catalog: Catalog, tenant: Tenant, generation: Generation, *, stream: bool) -> Plan:
        """The plan. Raises InvalidArgument for models the catalog does not know."""
        budgets = self._budgets.of(catalog, tenant, generation)
        stance = self._budgets.look(budgets)
        if not stance.cheaper:
            return self._made(catalog, tenant, generation, stream, budgets, stance, self._rng)
        # The same chance for both, so that only the budget makes a difference.
        seed = self._rng.random()
        thrifty = structs.replace(generation, strategy=Strategy.COST_FIRST)
        plan = self._made(catalog, tenant, thrifty, stream, budgets, stance, Random(seed))
        calm = structs.replace(stance, cheaper="")
        usual = self._made(catalog, tenant, generation, stream, budgets, calm, Random(seed))
        changed = [c.target for c in plan.candidates[:1]] != [c.target for c in usual.candidates[:1]]
        return structs.replace(plan, thrifty=changed)

    def _made(
        self,
        catalog: Catalog,
        tenant: Tenant,
        generation: Generation,
        stream: bool,
        budgets: tuple[Budget, ...],
        stance: Stance,
        rng: Random,
    ) -> Plan:
        return make_plan(
            self._slots_for(catalog, tenant, generation),
            generation,
            tenant,
            catalog.policy_for(tenant, generation.content_type),
            self._set_aside.view(self._health, catalog, generation, stream=stream),
            self._price,
            self._clock.now(),
            rng,
            stream=stream,
            unusable=self._unusable,
            budgets=budgets,
            stance=stance,
        )

    def cheaper(
        self, catalog: Catalog, tenant: Tenant, generation: Generation, plan: Plan, *, stream: bool
    ) -> Plan:
        """A plan of models that cost less than any of `plan`'s, from all of the catalog. May be empty: where the
        caller names the only models that may answer, there are no others."""
        if generation.models:
            return structs.replace(plan, candidates=())
        at = self._clock.now()

        def cost(model: Model) -> int:
            most = Usage(plan.input_tokens, min(generation.prompt.max_output_tokens, model.max_output_tokens))
            return self._price(catalog.providers[model.provider], model, most, at, "")

        everyone = [*plan.candidates, *plan.excluded]
        cheapest = min((c.estimated_micro_usd for c in everyone), default=0)
        return make_plan(
            cheaper_slots(catalog, plan, cheapest, cost),
            generation,
            tenant,
            plan.policy,
            self._set_aside.view(self._health, catalog, generation, stream=stream),
            self._price,
            at,
            self._rng,
            stream=stream,
            unusable=self._unusable,
            budgets=plan.budgets,
        )

    def select(self, catalog: Catalog, tenant: Tenant, generation: Generation) -> Plan:
        """A plan with at least one candidate. Raises what Generate would."""
        plan = self.plan(catalog, tenant, generation, stream=False)
        if not plan.candidates:
            raise why_given_up("NO_CANDIDATE", plan, (), {}, None, self._clock.monotonic())
        return plan

    def estimates(
        self, catalog: Catalog, tenant: Tenant, generation: Generation
    ) -> list[tuple[Candidate, Usage, int]]:
        """Candidates with their expected usage and cost, cheapest first; a candidate's own estimate is the most it
        can cost. Expected: half of the output limit."""
        plan = self.select(catalog, tenant, generation)
        at = self._clock.now()
        found = []
        for candidate in plan.candidates:
            limit = min(generation.prompt.max_output_tokens, candidate.model.max_output_tokens)
            usage = Usage(plan.input_tokens, (limit + 1) // 2, accuracy=UsageAccuracy.ESTIMATED)
            found.append((candidate, usage, self._price(candidate.provider, candidate.model, usage, at, "")))
        return sorted(found, key=lambda entry: entry[2])

    def _slots_for(self, catalog: Catalog, tenant: Tenant, generation: Generation) -> tuple[Slot, ...]:
        if catalog.version != self._version:
            self._slots.clear()
            self._version = catalog.version
        key = (tenant.name, generation.content_type, generation.models)
        slots = self._slots.get(key)
        if slots is None:
            unknown = [name for name in generation.models if not catalog.resolve_model(name)]
            if unknown:
                raise InvalidArgument(
                    [
                        FieldViolation(f"generation.models[{generation.models.index(n)}]", f"no model {n!r}")
                        for n in unknown
                    ],
                    reason="UNKNOWN_MODEL",
                )
            slots = slots_for(catalog, tenant, generation.content_type, generation.models)
            if not slots:
                raise FailedPrecondition("The policy names no model", reason="NO_CANDIDATE")
            self._slots[key] = slots
            if len(self._slots) > SLOTS_CACHE:
                self._slots.popitem(last=False)
        return slots
