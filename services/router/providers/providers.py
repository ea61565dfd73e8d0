"""Providers as the attempt loop needs them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from libs.catalog.model import Model, Provider
from services.router.providers.timeouts import Learned, Limits
from services.router.request.generation import Completion, Prompt, StreamEvent


class Providers(Protocol):
    """Calls providers. Raises ProviderFailure, already classified; cancelling the task cancels the call."""

    def unusable(self, provider: Provider) -> str:
        """Why no call can be made, whatever is asked (no key, no wire); empty: it can. Costs next to nothing."""
        ...

    def learned(self, model: Model, prompt: Prompt, tenant: str) -> Learned:
        """What earlier calls to the model have taught about its times, those of the tenant before those of others."""
        ...

    async def complete(self, provider: Provider, model: Model, prompt: Prompt, limits: Limits) -> Completion:
        """A whole answer within `limits.total`."""
        ...

    def stream(
        self, provider: Provider, model: Model, prompt: Prompt, limits: Limits
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """An answer as it comes: one batch of events for each piece of the network's. The last event of the last
        batch is a StreamEnd. `limits` bound the whole and every silence. Closing it ends the call."""
        ...
