"""Providers as the use cases see them: a wire for the format, the transport for the bytes, limits for silence."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack

from libs.catalog.model import Model, Provider
from libs.catalog.secrets import Keys
from libs.clock import Clock
from libs.heavy import LARGE, HeavyWork
from libs.types import ACCOUNT_FAULTS, ErrorClass
from services.router.providers.answer_limit import StreamLimit, too_long, whole_bytes
from services.router.providers.http_transport import MAX_ERROR_BYTES, HttpResponse, HttpTransport
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.timeouts import Learned, Limits, Pace, Watch
from services.router.providers.wires.errors import sanitise
from services.router.providers.wires.limits import stated_limits
from services.router.providers.wires.wire import Endpoint, HttpRequest, StreamDecoder, Wire
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEnd, StreamEvent
from services.router.request.tokens import estimate_text_tokens

#: Small pieces of a stream that come within this time are passed on as one, seconds.
COALESCE = 0.005
#: How long it is remembered whether a provider can be used, seconds: key files are looked at no more often.
USABLE_FOR = 0.5
#: Tenants' own paces that are kept; each takes up to 25 KiB.
MOST_PACES = 1024
#: What a decoder says of a stream that lacks its end.
_CUTS = frozenset({ErrorClass.TRANSPORT, ErrorClass.MALFORMED})


class ProviderClient:
    """Satisfies `Providers`. Failures leave through `sanitise`: here the request and all keys are known."""

    def __init__(
        self,
        transport: HttpTransport,
        wires: Mapping[str, Wire],
        keys: Keys,
        clock: Clock,
        learner: LimitLearner,
    ) -> None:
        """`learner` is told of the limits that answers state, and of refusals."""
        self._heavy_work = HeavyWork()
        self._transport = transport
        self._wires = wires
        self._keys = keys
        self._clock = clock
        self._learner = learner
        #: By model and effort, of everybody; and of each tenant, those used last at the end.
        self._paces: dict[tuple[str, str | None], Pace] = {}
        self._own_paces: OrderedDict[tuple[str, str | None, str], Pace] = OrderedDict()
        #: By model id: made anew when the catalog or the key changes.
        self._endpoints: dict[str, tuple[Provider, Model, Endpoint]] = {}
        self._usable: dict[str, tuple[Provider, float, str]] = {}

    def learned(self, model: Model, prompt: Prompt, tenant: str) -> Learned:
        """What calls like this one have taught."""
        now = self._clock.monotonic()
        own, everybody = self._paces_of(model, prompt, tenant)
        return own.learned(now).completed(everybody.learned(now))

    def unusable(self, provider: Provider) -> str:
        """Why no call can be made, whatever is asked: its key is missing, or its kind has no wire. Empty: it can."""
        now = self._clock.monotonic()
        known = self._usable.get(provider.name)
        if known is not None and known[0] is provider and now < known[1]:
            return known[2]
        why = self._keys.why_missing(provider) or ""
        if provider.kind not in self._wires:
            why = f"providers of kind {provider.kind} cannot be called yet"
        self._usable[provider.name] = (provider, now + USABLE_FOR, why)
        return why

    async def complete(self, provider: Provider, model: Model, prompt: Prompt, limits: Limits) -> Completion:
        """A whole answer."""
        wire, endpoint = self._endpoint(provider, model)
        request = await self._request(wire, prompt, endpoint, stream=False)
        try:
            return await self._whole(provider, model, prompt, limits, wire, endpoint, request)
        except ProviderFailure as failure:
            sanitise(failure, self._keys.redact, request.body)
            raise

    async def _whole(
        self,
        provider: Provider,
        model: Model,
        prompt: Prompt,
        limits: Limits,
        wire: Wire,
        endpoint: Endpoint,
        request: HttpRequest,
    ) -> Completion:
        paces, now = self._paces_of(model, prompt, limits.tenant), self._clock.monotonic
        began = now()
        limit = whole_bytes(prompt, request.body)
        try:
            status, headers, body = await self._transport.fetch(request, limits.total, limit)
        except ProviderFailure as failure:
            if failure.error_class is ErrorClass.TIMEOUT:
                for pace in paces:
                    pace.unanswered(now(), limits)
                failure.at_fault = now() - began >= limits.fair
            raise
        if status >= 300:
            refusal = wire.failure(status, headers, body)
            raise self._refused(provider, model, endpoint, refusal, headers)
        self._heard(provider, model, headers)
        if len(body) > limit:
            raise too_long(prompt, limit)
        completion = wire.completion(status, headers, body)
        usage = completion.usage
        tokens = usage.output_tokens if usage is not None else estimate_text_tokens(completion.text)
        for pace in paces:
            pace.answered(now(), now() - began, tokens)
        return completion

    async def stream(
        self, provider: Provider, model: Model, prompt: Prompt, limits: Limits
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """An answer as it comes."""
        wire, endpoint = self._endpoint(provider, model)
        request = await self._request(wire, prompt, endpoint, stream=True)
        paces, now = self._paces_of(model, prompt, limits.tenant), self._clock.monotonic
        watch, limit = Watch(limits, now()), StreamLimit(prompt, request.body)
        async with AsyncExitStack() as stack:
            try:
                response = await self._open(stack, wire, request, watch, provider, model, endpoint)
                # What goes on from text already sent may have nothing to add.
                decoder = wire.decoder(may_be_empty=bool(prompt.prefill))
                events: Sequence[StreamEvent] = ()
                more = True
                while more:
                    resumed = now()
                    if events and not response.ended:
                        # What comes within a few milliseconds is read, decoded and passed on together.
                        await asyncio.sleep(COALESCE)
                    events, more = await self._piece(response, decoder, watch, limit, resumed)
                    if limit.exceeded(events):
                        events, more = limit.cut(events, decoder), False
                    if events:
                        more = more and type(events[-1]) is not StreamEnd
                        yield events
            except ProviderFailure as failure:
                sanitise(failure, self._keys.redact, request.body)
                raise
            finally:
                for pace in paces:
                    pace.streamed(now(), watch)

    async def _request(self, wire: Wire, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """The request in the wire's format; one of a large prompt is written in its turn."""
        if sum([len(message.text) for message in prompt.messages]) < LARGE:
            return wire.request(prompt, endpoint, stream=stream)
        async with self._heavy_work:
            return wire.request(prompt, endpoint, stream=stream)

    async def _open(
        self,
        stack: AsyncExitStack,
        wire: Wire,
        request: HttpRequest,
        watch: Watch,
        provider: Provider,
        model: Model,
        endpoint: Endpoint,
    ) -> HttpResponse:
        """The head of a good answer. Raises ProviderFailure for any other."""
        now = self._clock.monotonic
        began = now()
        try:
            async with asyncio.timeout(watch.patience(began)):
                response = await stack.enter_async_context(self._transport.open(request))
        except TimeoutError as error:
            watch.missed(now() - began)
            raise _too_late(watch) from error
        watch.waited(now() - began)
        if response.status < 300:
            self._heard(provider, model, response.headers)
            return response
        body = b""
        try:
            async with asyncio.timeout(watch.patience(now())):
                body = await response.read(MAX_ERROR_BYTES)
        except (TimeoutError, ProviderFailure):
            # The status alone says enough.
            pass
        failure = wire.failure(response.status, response.headers, body)
        raise self._refused(provider, model, endpoint, failure, response.headers)

    def _heard(self, provider: Provider, model: Model, headers: Mapping[str, str]) -> None:
        """A call was let through."""
        now = self._clock.now()
        if self._learner.answered(now, model.id):
            self._learner.observed(now, model.id, stated_limits(provider.kind, headers))

    def _refused(
        self,
        provider: Provider,
        model: Model,
        endpoint: Endpoint,
        failure: ProviderFailure,
        headers: Mapping[str, str],
    ) -> ProviderFailure:
        """One was not. That it was larger than the account's rate says nothing about the rate of others, and what was
        wrong with a key that has been replaced since nothing about its successor."""
        failure.at_fault = (
            failure.error_class not in ACCOUNT_FAULTS or self._keys(provider) == endpoint.api_key
        )
        if failure.error_class is ErrorClass.RATE_LIMITED:
            of_rate = failure.retry_same and failure.explicit
            learn = self._learner.refused if of_rate else self._learner.observed
            learn(self._clock.now(), model.id, stated_limits(provider.kind, headers))
        return failure

    async def _piece(
        self,
        response: HttpResponse,
        decoder: StreamDecoder,
        watch: Watch,
        limit: StreamLimit,
        resumed: float,
    ) -> tuple[Sequence[StreamEvent], bool]:
        """The events of the next bytes, and whether there may be more. `resumed`: since when they are waited for."""
        now = self._clock.monotonic
        try:
            if watch.trickles:
                raise ProviderFailure(ErrorClass.STALLED, "the stream has become a trickle", http_status=200)
            patience = watch.patience(now())
            if patience <= 0:
                # A timeout alone would let pass what is there already, for ever where pings are.
                raise TimeoutError
            async with asyncio.timeout(patience):
                chunk = await response.chunk()
        except TimeoutError as error:
            watch.missed(now() - resumed)
            return _last_words(decoder, _too_late(watch), error), False
        except ProviderFailure as failure:
            return _last_words(decoder, failure, failure.__cause__), False
        if not chunk:
            return decoder.close(), False
        limit.came(len(chunk))
        events = decoder.feed(chunk)
        content = bool(events) and type(events[0]) is not StreamEnd
        watch.came(now() - resumed, len(chunk), content=content)
        watch.finishing = decoder.finish is not None
        return events, True

    def _paces_of(self, model: Model, prompt: Prompt, tenant: str) -> tuple[Pace, Pace]:
        """The tenant's own, and everybody's."""
        # How hard a model thinks changes its habits, so they are learned apart.
        key = (model.id, prompt.reasoning_effort)
        everybody = self._paces.get(key)
        if everybody is None:
            everybody = self._paces[key] = Pace()
        mine = (*key, tenant)
        own = self._own_paces.get(mine)
        if own is None:
            own = self._own_paces[mine] = Pace()
            if len(self._own_paces) > MOST_PACES:
                self._own_paces.popitem(last=False)
        self._own_paces.move_to_end(mine)
        return own, everybody

    def _endpoint(self, provider: Provider, model: Model) -> tuple[Wire, Endpoint]:
        wire = self._wires.get(provider.kind)
        if wire is None:
            raise ProviderFailure(ErrorClass.MODEL_NOT_FOUND, self.unusable(provider))
        key = self._keys(provider)
        if key is None:
            raise ProviderFailure(ErrorClass.AUTHENTICATION, self._keys.why_missing(provider) or "no key")
        known = self._endpoints.get(model.id)
        if known is None or known[0] is not provider or known[1] is not model or known[2].api_key != key:
            endpoint = Endpoint(provider.base_url, model.wire_name, key, provider.options)
            known = self._endpoints[model.id] = (provider, model, endpoint)
        return wire, known[2]


def _last_words(
    decoder: StreamDecoder, failure: ProviderFailure, cause: BaseException | None
) -> Sequence[StreamEvent]:
    """What the decoder held back, where the answer is whole although its end was not seen. Raises `failure` where it
    is not, with what the provider had said of usage."""
    try:
        return decoder.close()
    except ProviderFailure as cut:
        if decoder.finish is not None or cut.error_class not in _CUTS:
            # It says more than that the end is missing.
            raise
        failure.usage = failure.usage or cut.usage
        raise failure from cause


def _too_late(watch: Watch) -> ProviderFailure:
    seconds = f"{watch.quiet:.1f} s"
    if watch.first is None:
        failure = ProviderFailure(ErrorClass.TIMEOUT, f"no content within {seconds}")
    else:
        failure = ProviderFailure(
            ErrorClass.STALLED, f"the stream fell silent for {seconds}", http_status=200
        )
    failure.at_fault = watch.at_fault
    return failure
