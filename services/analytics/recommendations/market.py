"""The models that could serve, their declared qualities and their prices, as rules look at the catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from libs.catalog.catalog import Catalog
from libs.catalog.model import DEFAULT, Model, Provider
from libs.types import Usage

#: (provider, model, usage, epoch seconds, the model's name in the answer) → micro-USD. Raises LookupError where
#: nobody knows the price.
PriceLookup = Callable[[Provider, Model, Usage, float, str], int]
#: Some prices step up with the length of the input, none of them below so many tokens: several calls up to it are
#: priced as one, so that less is rounded.
_ONE_PRICE_UP_TO: Final = 32_000
_MOST_CALLS: Final = 1000


@dataclass(frozen=True, slots=True)
class Market:
    """The catalog, with prices as they are at `now` (epoch seconds)."""

    catalog: Catalog
    price: PriceLookup
    now: float

    def declared_quality(self, model: Model, content_type: str) -> float | None:
        """Returns its rating for a content type; None: the catalog declares none."""
        return model.quality.get(content_type, model.quality.get(DEFAULT))

    def cost(self, model: Model, calls: int, usage: Usage) -> float | None:
        """Returns what so many calls alike that use so much in all cost, micro-USD; None: nobody knows."""
        if calls <= 0:
            return 0.0
        together = max(1, min(_MOST_CALLS, _ONE_PRICE_UP_TO * calls // max(1, usage.input_tokens)))
        provider = self.catalog.providers[model.provider]
        try:
            cost = self.price(provider, model, _part(usage, together / calls), self.now, "")
        except LookupError:
            return None
        return cost * calls / together

    def replacements(self, model: Model, content_type: str) -> Iterator[Model]:
        """Yields the models that can do all that a model can, are declared at least as good for the content type,
        and may be used by every tenant that may use the model's provider."""
        quality = self.declared_quality(model, content_type)
        if quality is None:
            return
        for other in self.catalog.models.values():
            rating = self.declared_quality(other, content_type)
            if (
                other.id != model.id
                and rating is not None
                and rating >= quality
                and other.capabilities >= model.capabilities
                and other.context_window >= model.context_window
                and other.max_output_tokens >= model.max_output_tokens
                and self._as_open(model.provider, other.provider)
            ):
                yield other

    def policies_with(self, model_ids: frozenset[str], content_type: str) -> tuple[str, ...]:
        """Returns the names of the policies that have any of the models in a tier and serve the content type."""
        catalog, kind = self.catalog, self.catalog.content_types.get(content_type)
        serving = set(catalog.policies)
        if kind is not None:
            serving = {catalog.policy_for(one, content_type).name for one in catalog.tenants.values()}
            serving.add(kind.policy)
        return tuple(
            policy.name
            for policy in catalog.policies.values()
            if policy.name in serving
            and any(entry.model_id in model_ids for tier in policy.tiers for entry in tier)
        )

    def _as_open(self, provider: str, other: str) -> bool:
        for tenant in self.catalog.tenants.values():
            allowed = tenant.allowed_providers
            if allowed is not None and provider in allowed and other not in allowed:
                return False
        return True


def _part(usage: Usage, share: float) -> Usage:
    return Usage(
        round(usage.input_tokens * share),
        round(usage.output_tokens * share),
        round(usage.cache_read_tokens * share),
        round(usage.cache_write_tokens * share),
        round(usage.reasoning_tokens * share),
    )
