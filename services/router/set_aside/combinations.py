"""Combinations that may be set aside, their rules, and those of which a call is an instance. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from libs.catalog.model import Model, Provider
from libs.conversation import Role
from services.router.request.generation import Generation, Prompt

FEATURES = (
    "json",
    "json_schema",
    "penalties",
    "reasoning",
    "sampling",
    "seed",
    "stop",
    "stream",
    "system",
    "tool_choice",
    "tools",
)
#: The features as bits of `Combination.uses`, in the order of FEATURES.
(
    _JSON,
    _JSON_SCHEMA,
    _PENALTIES,
    _REASONING,
    _SAMPLING,
    _SEED,
    _STOP,
    _STREAM,
    _SYSTEM,
    _TOOL_CHOICE,
    _TOOLS,
) = (1 << bit for bit in range(len(FEATURES)))


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
    CombinationKind.REGION: SetAsideRule(REGION_FAULTS * REGION_PROVIDERS, REGION_PROVIDERS, 10.0, 30.0),
}
#: Failures of the account on one model: without growth, since a quota may be whole again at any time.
ONE_MODELS_KEY = SetAsideRule(2, 1, 300.0, 300.0)
#: Kinds that are called after all where no other candidate is left: the caller then gets the provider's own answer.
LAST_RESORT = frozenset({CombinationKind.SHAPE, CombinationKind.REGION})


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

    @property
    def features(self) -> list[str]:
        """The names of the features that the request uses, sorted."""
        return [name for bit, name in enumerate(FEATURES) if self.uses >> bit & 1]

    @property
    def name(self) -> str:
        """The combination's unique name, for operators."""
        if self.kind is CombinationKind.SHAPE:
            shape = f"{self.tenant}/{self.content_type}/{'+'.join(self.features) or 'plain'}"
            return f"shape:{shape}@{self.provider}/{self.model}"
        if self.kind is CombinationKind.MODEL:
            return f"model:{self.provider}/{self.model}"
        return f"{self.kind}:{self.provider or self.region}" + (f"/{self.model}" if self.model else "")

    @property
    def rule(self) -> SetAsideRule:
        """The rule by which it is set aside."""
        return ONE_MODELS_KEY if self.kind is CombinationKind.KEY and self.model else RULES[self.kind]


class Call(Struct, frozen=True):
    """A call to a model, as far as combinations are concerned."""

    provider: Provider
    model: Model
    generation: Generation
    stream: bool


def features_of(prompt: Prompt, *, stream: bool) -> int:
    """Returns the features of a model beyond plain text that a request uses: a bit for each of FEATURES."""
    shape = prompt.response_format
    uses = 0
    if shape is not None:
        uses = _JSON_SCHEMA if shape.schema_json else _JSON
    if prompt.presence_penalty is not None or prompt.frequency_penalty is not None:
        uses |= _PENALTIES
    if prompt.reasoning_effort is not None:
        uses |= _REASONING
    if prompt.temperature is not None or prompt.top_p is not None:
        uses |= _SAMPLING
    if prompt.seed is not None:
        uses |= _SEED
    if prompt.stop_sequences:
        uses |= _STOP
    if stream:
        uses |= _STREAM
    for message in prompt.messages:
        if message.role is Role.SYSTEM:
            uses |= _SYSTEM
            break
    if prompt.tool_choice:
        uses |= _TOOL_CHOICE
    if prompt.tools:
        uses |= _TOOLS
    return uses


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


def combinations_of(call: Call) -> Iterator[Combination]:
    """Yields every combination of which the call is an instance."""
    provider = call.provider
    yield from keys_of(call.model)
    yield Combination(CombinationKind.MODEL, provider.name, call.model.name)
    yield shape_of(call)
    if provider.region:
        yield Combination(CombinationKind.REGION, region=provider.region)


def mark_of(prompt: Prompt) -> int:
    """Returns a hash that tells prompts apart, so that none is kept."""
    return hash(tuple([(message.text, message.parts) for message in prompt.messages]))
