"""Calls by routes: each that ends shows its routes' room how, so that the failure can be attributed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

from libs.catalog.model import Model, Provider
from libs.clock import Clock
from services.router.providers.providers import Providers
from services.router.providers.timeouts import AttemptTimeouts
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEnd, StreamEvent
from services.router.request.usage import ToldUsage
from services.router.routes.routes import ProviderRoutes


class RoutedProviders:
    """Satisfies `Providers` by another of them. Calls to a provider with one key and one endpoint are just passed
    on."""

    def __init__(self, providers: Providers, routes: ProviderRoutes, clock: Clock) -> None:
        self._providers = providers
        self._routes = routes
        self._clock = clock
        self.why_unusable = providers.why_unusable
        self.learned_times = providers.learned_times

    def complete(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts
    ) -> Coroutine[Any, Any, Completion]:
        """See `Providers.complete`."""
        complete = self._providers.complete if provider.route is None else self._observed
        return complete(provider, model, prompt, timeouts)

    def stream(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts, told: ToldUsage
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """See `Providers.stream`."""
        batches = self._providers.stream(provider, model, prompt, timeouts, told)
        return batches if provider.route is None else self._observed_stream(provider, model, batches)

    async def _observed(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts
    ) -> Completion:
        began, settled = self._clock.now(), False
        try:
            completed = await self._providers.complete(provider, model, prompt, timeouts)
            settled = True
            self._routes.record_success(provider, model, began)
            return completed
        except ProviderFailure as failure:
            settled = True
            self._routes.record_failure(provider, model, began, failure)
            raise
        finally:
            if not settled:
                self._routes.give_up(provider, model)

    async def _observed_stream(
        self, provider: Provider, model: Model, batches: AsyncGenerator[Sequence[StreamEvent], None]
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        began, settled = self._clock.now(), False
        try:
            async with aclosing(batches):
                async for batch in batches:
                    if type(batch[-1]) is StreamEnd:
                        settled = True
                        self._routes.record_success(provider, model, began)
                    yield batch
        except ProviderFailure as failure:
            settled = True
            self._routes.record_failure(provider, model, began, failure)
            raise
        finally:
            if not settled:
                self._routes.give_up(provider, model)
