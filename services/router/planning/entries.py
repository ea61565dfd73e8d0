"""The entries of a policy: the models that could serve, before the request's own needs and health count."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from msgspec import Struct

from libs.catalog.catalog import Catalog
from libs.catalog.model import DEFAULT, Model, Policy, Provider

#: Models outside of a policy that are considered at most when everything in it failed.
CHEAPER_MODELS = 5


class PolicyEntry(Struct, frozen=True):
    """One model in a tier of a policy. `weighted`: the tier's weights differ, so that they order it. `last_resort`:
    for when every tier failed."""

    provider: Provider
    model: Model
    tier: int
    weight: int
    weighted: bool
    last_resort: bool = False


def entries_for(catalog: Catalog, policy: Policy, models: Sequence[str]) -> tuple[PolicyEntry, ...]:
    """Returns every model that the caller's list, or else the policy, names, tier by tier. A last resort is the tier
    after the last."""
    tiers: list[list[tuple[Model, int]]] = []
    if models:
        tiers = [[(model, 1) for model in catalog.resolve_model(name)] for name in models]
    else:
        tiers = [[(catalog.models[w.model_id], w.weight) for w in tier] for tier in policy.tiers]
        tiers += [[(catalog.models[model_id], 1)] for model_id in policy.last_resort]
    first_last_resort = len(tiers) - (0 if models else len(policy.last_resort))
    entries = []
    seen: set[str] = set()
    for number, tier in enumerate(tiers):
        weighted = len({weight for _, weight in tier}) > 1
        for model, weight in tier:
            if model.id not in seen:
                seen.add(model.id)
                provider, last_resort = catalog.providers[model.provider], number >= first_last_resort
                entries.append(PolicyEntry(provider, model, number, weight, weighted, last_resort))
    return tuple(entries)


def cheaper_entries(
    catalog: Catalog, planned: Collection[str], than_micro_usd: int, cost: Callable[[Model], int]
) -> tuple[PolicyEntry, ...]:
    """Returns every model of the catalog that is not `planned` (by target) and costs less, the best liked first: the
    step of the degradation ladder that prefers a lesser answer to none."""
    cheaper = [
        model for model in catalog.models.values() if model.id not in planned and cost(model) < than_micro_usd
    ]
    cheaper.sort(key=lambda model: -model.quality_for(DEFAULT))
    return tuple(
        PolicyEntry(catalog.providers[model.provider], model, tier, 1, False)
        for tier, model in enumerate(cheaper[:CHEAPER_MODELS])
    )
