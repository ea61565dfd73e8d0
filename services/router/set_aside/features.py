"""The features that a request uses, and whether one that a model does not support is among them. Pure."""

from __future__ import annotations

from libs.conversation import File, Image, Role
from services.router.request.features import Feature, Unsupported
from services.router.request.generation import Prompt

FEATURES = tuple(Feature)
_BITS = {feature: 1 << bit for bit, feature in enumerate(FEATURES)}
#: The features as bits, in the order of FEATURES.
(
    _IMAGE,
    _JSON,
    _JSON_SCHEMA,
    _PDF,
    _PENALTIES,
    _REASONING,
    _SAMPLING,
    _SEED,
    _STOP,
    _STREAM,
    _SYSTEM,
    _TOOL_CHOICE,
    _TOOLS,
) = _BITS.values()


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
        for part in message.parts:
            if isinstance(part, Image):
                uses |= _IMAGE
            elif isinstance(part, File):
                uses |= _PDF
    if prompt.tool_choice:
        uses |= _TOOL_CHOICE
    if prompt.tools:
        uses |= _TOOLS
    return uses


def is_used(unsupported: Unsupported, prompt: Prompt, uses: int) -> bool:
    """Returns True if a request needs what is not supported. `uses`: its features as bits."""
    if not uses & _BITS[unsupported.feature]:
        return False
    if unsupported.keyword:
        wanted = f'"{unsupported.keyword}"'
        return any(wanted in schema for schema in _schemas(unsupported.feature, prompt))
    return unsupported.effort is None or unsupported.effort is prompt.reasoning_effort


def narrowed(unsupported: Unsupported, prompt: Prompt, uses: int) -> Unsupported | None:
    """Returns what of an unsupported feature a request uses, as narrow as it can be told, so that no more is learned
    than was refused; None: it does not use it. `uses`: its features as bits."""
    feature = unsupported.feature
    if feature is Feature.JSON_SCHEMA and uses & _JSON:
        # The field that asks for either is one.
        feature = Feature.JSON
    if feature is Feature.REASONING and prompt.reasoning_effort is not None:
        return Unsupported(feature, effort=prompt.reasoning_effort)
    if unsupported.keyword:
        # Providers seldom say which of the schemas they mean.
        for place in (Feature.JSON_SCHEMA, Feature.TOOLS):
            narrow = Unsupported(place, unsupported.keyword)
            if is_used(narrow, prompt, uses):
                return narrow
    whole = Unsupported(feature)
    return whole if is_used(whole, prompt, uses) else None


def _schemas(feature: Feature, prompt: Prompt) -> list[str]:
    if feature is Feature.TOOLS:
        return [tool.parameters_json for tool in prompt.tools]
    return [prompt.response_format.schema_json] if prompt.response_format is not None else []
