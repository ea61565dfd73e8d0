"""Combinations that may be set aside, their rules, and those of which a call is an instance. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from libs.catalog.model import Model, Provider
from services.router.request.features import Unsupported
from services.router.request.generation import Generation, Prompt
from services.router.set_aside.features import FEATURES, features_of, is_used


class CombinationKind(StrEnum):
    """The kinds of combination."""

    #: A provider's key or account: authentication or quota failures on several of its models, or (with a model) on
    #: that one.
    KEY = "key"
    #: A model that its provider does not have (any more).
    MODEL = "model"
    #: A kind of request (a tenant's content type and the features it uses) on one model.
    SHAPE = "shape"
    #: All providers of one region.
    REGION = "region"
    #: A feature that one model does not support: for the tenant that met it, or (without a tenant) for all.
    FEATURE = "feature"


#: Failures of one provider of a region, and such providers, that it takes to blame the region.
REGION_FAULTS = 2
REGION_PROVIDERS = 2


@dataclass(frozen=True, slots=True)
class SetAsideRule:
    """The evidence that sets a kind aside, and the time for which. `failures` in a row, on at least `different`
    models (KEY) or prompts (SHAPE): one prompt sent again and again proves nothing. `base` and `cap` in seconds."""

    failures: int
    different: int
    base: float
    cap: float


RULES: dict[CombinationKind, SetAsideRule] = {
    CombinationKind.KEY: SetAsideRule(3, 2, 300.0, 3600.0),
    CombinationKind.MODEL: SetAsideRule(3, 1, 300.0, 3600.0),
    CombinationKind.SHAPE: SetAsideRule(5, 5, 300.0, 3600.0),
    # Its providers' breakers do the fine work; this only keeps the region's others from being tried one by one.
    # A refusal is the model's own answer, and the tenant's own loss: twice is enough.
    CombinationKind.FEATURE: SetAsideRule(2, 1, 300.0, 3600.0),
    CombinationKind.REGION: SetAsideRule(REGION_FAULTS * REGION_PROVIDERS, REGION_PROVIDERS, 10.0, 30.0),
}
#: Refusals of a feature, of two tenants at least, after which it is avoided for all.
EVERYONES_FEATURE = SetAsideRule(3, 1, 300.0, 3600.0)
#: Failures of the account on one model: without growth, since a quota may be whole again at any time.
ONE_MODELS_KEY = SetAsideRule(2, 1, 300.0, 300.0)
#: Kinds that are called after all where no other candidate is left: the caller then gets the provider's own answer.
LAST_RESORT = frozenset({CombinationKind.SHAPE, CombinationKind.REGION, CombinationKind.FEATURE})


class Combination(Struct, frozen=True, cache_hash=True):
    """A combination that may be set aside; fields that its kind does not need are empty."""

    kind: CombinationKind
    provider: str = ""
    model: str = ""
    region: str = ""
    tenant: str = ""
    content_type: str = ""
    #: The features that the request uses, a bit for each of FEATURES.
    uses: int = 0
    #: The feature that the model does not support.
    unsupported: Unsupported | None = None

    @property
    def features(self) -> list[str]:
        """The names of the features that the request uses, or the one that is not supported, sorted."""
        if self.unsupported is not None:
            return [self.unsupported.name]
        return [name for bit, name in enumerate(FEATURES) if self.uses >> bit & 1]

    @property
    def name(self) -> str:
        """The combination's unique name, for operators."""
        if self.kind is CombinationKind.SHAPE:
            shape = f"{self.tenant}/{self.content_type}/{'+'.join(self.features) or 'plain'}"
            return f"shape:{shape}@{self.provider}/{self.model}"
        if self.unsupported is not None:
            feature = f"{self.tenant}/{self.unsupported.name}" if self.tenant else self.unsupported.name
            return f"feature:{feature}@{self.provider}/{self.model}"
        if self.kind is CombinationKind.MODEL:
            return f"model:{self.provider}/{self.model}"
        return f"{self.kind}:{self.provider or self.region}" + (f"/{self.model}" if self.model else "")

    @property
    def rule(self) -> SetAsideRule:
        """The rule by which it is set aside."""
        if self.kind is CombinationKind.KEY and self.model:
            return ONE_MODELS_KEY
        if self.kind is CombinationKind.FEATURE and not self.tenant:
            return EVERYONES_FEATURE
        return RULES[self.kind]


class Call(Struct, frozen=True):
    """A call to a model, as far as combinations are concerned."""

    provider: Provider
    model: Model
    generation: Generation
    stream: bool


def shape_of(call: Call) -> Combination:
    """Returns the kind of request that a call makes, on its model."""
    generation = call.generation
    return Combination(
        CombinationKind.SHAPE,
        call.provider.name,
        call.model.name,
        "",
        generation.tenant,
        generation.content_type,
        features_of(generation.prompt, stream=call.stream),
    )


def keys_of(model: Model) -> tuple[Combination, Combination]:
    """Returns the key that a call to the model uses: for that model alone, and for all of the provider's."""
    return Combination(CombinationKind.KEY, model.provider, model.name), Combination(
        CombinationKind.KEY, model.provider
    )


def features_at(call: Call, unsupported: Unsupported) -> tuple[Combination, Combination]:
    """Returns the use of a feature on the call's model: by its tenant, and by all."""
    provider, model, tenant = call.provider.name, call.model.name, call.generation.tenant
    return (
        Combination(CombinationKind.FEATURE, provider, model, tenant=tenant, unsupported=unsupported),
        Combination(CombinationKind.FEATURE, provider, model, unsupported=unsupported),
    )


def combinations_of(call: Call, refused: Iterable[Unsupported] = ()) -> Iterator[Combination]:
    """Yields every combination of which the call is an instance. `refused`: what its model has been found not to
    support."""
    provider = call.provider
    yield from keys_of(call.model)
    yield Combination(CombinationKind.MODEL, provider.name, call.model.name)
    yield shape_of(call)
    if provider.region:
        yield Combination(CombinationKind.REGION, region=provider.region)
    if refused:
        prompt = call.generation.prompt
        uses = features_of(prompt, stream=call.stream)
        for unsupported in refused:
            if is_used(unsupported, prompt, uses):
                yield from features_at(call, unsupported)


def mark_of(prompt: Prompt) -> int:
    """Returns a hash that tells prompts apart, so that none is kept."""
    return hash(tuple([(message.text, message.parts) for message in prompt.messages]))
