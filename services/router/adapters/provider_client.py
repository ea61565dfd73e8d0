"""Providers as the use cases see them: a wire for the format, the transport for the bytes, limits for silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from libs.catalog.model import Model, Provider
from libs.clock import Clock
from libs.types import ErrorClass
from services.router.adapters.http_transport import MAX_ERROR_BYTES, HttpResponse, HttpTransport
from services.router.adapters.providers.wire import Endpoint, StreamDecoder, Wire
from services.router.domain.generation import Completion, Prompt, ProviderFailure, StreamEnd, StreamEvent

#: (provider) → its key; None: there is none.
Keys = Callable[[Provider], str | None]


#: Small pieces of a stream that come within this time are passed on as one, seconds.
COALESCE = 0.005


class ProviderClient:
    """Satisfies `ports.Providers`."""

    def __init__(self, transport: HttpTransport, wires: Mapping[str, Wire], keys: Keys, clock: Clock) -> None:
        self._transport = transport
        self._wires = wires
        self._keys = keys
        self._clock = clock

    async def complete(self, provider: Provider, model: Model, prompt: Prompt, timeout: float) -> Completion:
        """A whole answer."""
        wire = self._wires[provider.kind]
        request = wire.request(prompt, self._endpoint(provider, model), stream=False)
        status, headers, body = await self._transport.fetch(request, timeout)
        if status >= 300:
            raise wire.failure(status, headers, body)
        return wire.completion(status, headers, body)

    async def stream(
        self, provider: Provider, model: Model, prompt: Prompt, timeout: float
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """An answer as it comes."""
        wire = self._wires[provider.kind]
        request = wire.request(prompt, self._endpoint(provider, model), stream=True)
        limits = provider.timeouts
        now = self._clock.monotonic
        end = now() + timeout
        first_byte = min(now() + limits.first_byte, end)
        began = False
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(first_byte - now()):
                    response = await stack.enter_async_context(self._transport.open(request))
                if response.status >= 300:
                    body = await _within(response, first_byte - now())
                    raise wire.failure(response.status, response.headers, body)
                decoder = wire.decoder()
                while True:
                    # Before the first content there is one limit for all; after it, one for every silence.
                    until = min(now() + limits.idle, end) if began else first_byte
                    events, more = await _next(response, decoder, until - now())
                    if events:
                        began = True
                        yield events
                    if not more or (events and isinstance(events[-1], StreamEnd)):
                        return
                    # What comes within a few milliseconds is read, decoded and passed on together.
                    if events:
                        await asyncio.sleep(COALESCE)
            except TimeoutError as error:
                if began:
                    raise ProviderFailure(ErrorClass.STALLED, "the stream fell silent") from error
                raise ProviderFailure(ErrorClass.TIMEOUT, "no content came in time") from error

    def _endpoint(self, provider: Provider, model: Model) -> Endpoint:
        key = self._keys(provider)
        if key is None and provider.needs_key:
            where = provider.api_key_env or provider.api_key_file
            raise ProviderFailure(ErrorClass.AUTHENTICATION, f"no key for {provider.name}: set {where}")
        return Endpoint(provider.base_url, model.wire_name, key or "", provider.options)


async def _next(
    response: HttpResponse, decoder: StreamDecoder, seconds: float
) -> tuple[list[StreamEvent], bool]:
    """The events of the next piece, and whether there may be more."""
    async with asyncio.timeout(seconds):
        chunk = await response.chunk()
    return (decoder.feed(chunk), True) if chunk else (decoder.close(), False)


async def _within(response: HttpResponse, seconds: float) -> bytes:
    """An error's body, or what of it came in time."""
    try:
        async with asyncio.timeout(seconds):
            return await response.read(MAX_ERROR_BYTES)
    except (TimeoutError, ProviderFailure):
        return b""
