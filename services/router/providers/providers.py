"""Providers as the attempt loop needs them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from libs.catalog.model import Model, Provider
from services.router.providers.timeouts import AttemptTimeouts, Learned
from services.router.request.generation import Completion, Prompt, StreamEvent


class Providers(Protocol):
    """Calls providers. Raises ProviderFailure, already classified; cancelling the task cancels the call."""

    def why_unusable(self, provider: Provider) -> str:
        """Why no call can be made, whatever is asked (no key, no wire); empty: it can. Costs next to nothing."""
        ...

    def learned(self, model: Model, prompt: Prompt) -> Learned:
        """What earlier calls to the model have taught about its times."""
        ...

    async def complete(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts
    ) -> Completion:
        """A whole answer within `timeouts.total`."""
        ...

    def stream(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """An answer as it comes: one batch of events for each piece of the network's. The last event of the last
        batch is a StreamEnd. `timeouts` bound the whole and every silence. Closing it ends the call."""
        ...
