"""The makers of thoughts: signed or encrypted, they can be read by nobody but their maker, who refuses those of
others. So each goes back to its own maker alone, and a conversation that moves on goes on without them.

Claude's signatures hold on every platform that serves it; Gemini's belong to a model, and all others to the account
that calls, which a provider of the catalog is.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from libs.catalog.model import Model, Provider
from libs.conversation import Message, Reasoning, ReasoningDelta
from services.router.request.generation import Completion, Prompt, StreamEvent

_CLAUDE = "anthropic"
_BY_MODEL = ("gemini", "vertex")
#: Kinds whose thoughts are text that anybody may have kept, without saying whose it is.
_OPEN = ("deepseek", "llamacpp", "openai_compatible", "vllm", "zai")


def maker_of(provider: Provider, model: Model) -> str:
    """Returns the name of whoever reads the thoughts that this model makes."""
    kind = provider.kind
    if kind == _CLAUDE or (kind.startswith("bedrock") and "anthropic." in model.wire_name):
        return _CLAUDE
    return f"{kind}/{model.wire_name if kind in _BY_MODEL else provider.name}"


def keep_own_thoughts(prompt: Prompt, provider: Provider, maker: str) -> Prompt:
    """Returns the prompt without the thoughts of others than `maker`."""
    if not any(message.parts for message in prompt.messages):
        return prompt
    # Text without a name says nothing that could be refused.
    nameless = provider.kind in _OPEN
    messages = tuple([_keep(message, maker, nameless=nameless) for message in prompt.messages])
    return structs.replace(prompt, messages=messages)


def name_maker(completion: Completion, maker: str) -> Completion:
    """Returns the answer with its maker's name on its thoughts."""
    if not completion.reasoning:
        return completion
    named = tuple([structs.replace(thought, kind=maker) for thought in completion.reasoning])
    return structs.replace(completion, reasoning=named)


def name_makers(events: Sequence[StreamEvent], maker: str) -> Sequence[StreamEvent]:
    """Returns the events with their maker's name on their thoughts."""
    if not any(type(event) is ReasoningDelta for event in events):
        return events
    return [
        structs.replace(event, piece=structs.replace(event.piece, kind=maker))
        if isinstance(event, ReasoningDelta)
        else event
        for event in events
    ]


def _keep(message: Message, maker: str, *, nameless: bool) -> Message:
    parts = tuple(
        [
            part
            for part in message.parts
            if not isinstance(part, Reasoning)
            or part.kind == maker
            or (nameless and not part.kind and not part.opaque)
        ]
    )
    return message if len(parts) == len(message.parts) else structs.replace(message, parts=parts)
