"""Providers as the attempt loop needs them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import Any, Protocol

from libs.catalog.model import Model, Provider
from services.router.providers.timeouts import AttemptTimeouts, LearnedTimes
from services.router.request.generation import Completion, Prompt, StreamEvent
from services.router.request.usage import ToldUsage


class Providers(Protocol):
    """Calls providers. Raises ProviderFailure, already classified; cancelling the task cancels the call."""

    def why_unusable(self, provider: Provider) -> str:
        """Returns why no call can be made, whatever is asked (no key, no wire), in words fit for callers; empty where
        it can. Costs next to nothing, so that every plan may ask."""
        ...

    def learned_times(self, model: Model, prompt: Prompt, tenant: str) -> LearnedTimes:
        """Returns what earlier calls to the model have taught about its times, those of the tenant before those of
        others; where there were none, a cautious guess from other models."""
        ...

    def complete(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts
    ) -> Coroutine[Any, Any, Completion]:
        """Returns a whole answer within `timeouts.total`."""
        ...

    def stream(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts, told: ToldUsage
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """Yields an answer as it comes: one batch of events for each piece of the network's. The last event of the
        last batch is a StreamEnd. `timeouts` bound the whole and every silence. Closing it ends the call.
        However it ends, `told` then holds what usage was told."""
        ...
