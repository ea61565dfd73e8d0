"""Calls to providers: a wire for the format, the transport for the bytes, timeouts and sizes for what comes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack

from msgspec import structs

from libs.catalog.model import Model, Provider
from libs.catalog.routes import ProviderRoute
from libs.catalog.secrets import Keys
from libs.clock import Clock
from libs.heavy import LARGE, HeavyWork
from libs.telemetry import get_logger
from libs.types import ACCOUNT_FAULTS, ErrorClass
from services.router.providers.answer_limit import StreamLimit, too_long, whole_bytes
from services.router.providers.http_transport import MAX_ERROR_BYTES, HttpResponse, HttpTransport
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.one_call import keep_one_call, keep_pieces_of_one_call
from services.router.providers.thoughts import keep_own_thoughts, maker_of, name_maker, name_makers
from services.router.providers.time_learner import TimeLearner
from services.router.providers.timeouts import EARLY, AttemptTimeouts, LearnedTimes, StreamWatch
from services.router.providers.wires.errors import sanitise
from services.router.providers.wires.limits import stated_limits
from services.router.providers.wires.wire import Endpoint, HttpRequest, StreamDecoder, Wire
from services.router.request.generation import (
    ANSWER_EVENTS,
    Completion,
    Prompt,
    ProviderFailure,
    StreamEnd,
    StreamEvent,
)
from services.router.request.tokens import estimate_text_tokens
from services.router.request.usage import ToldUsage

#: Small pieces of a stream that come within this time are passed on as one, seconds.
COALESCE = 0.005
#: Seconds for which it is remembered that a provider can be used: key files are read no more often.
USABLE_FOR = 0.5
#: Tenants' own learners that are kept at most; each takes up to 30 KiB.
MOST_TENANT_LEARNERS = 1024
#: Classes that a decoder gives to a stream that lacks its end.
_CUTS = frozenset({ErrorClass.TRANSPORT, ErrorClass.MALFORMED})
#: The words to callers about a provider without its key; the variable or file is named in the log alone.
_KEY_MISSING = "its key is missing"
log = get_logger(__name__)


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
        """`learner` gets the limits that answers state, and refusals."""
        self._heavy_work = HeavyWork()
        self._transport = transport
        self._wires = wires
        self._keys = keys
        self._clock = clock
        self._learner = learner
        #: By model and effort, of all tenants; by effort, of all models; and of each tenant, those used last at the
        #: end.
        self._time_learners: dict[tuple[str, str | None], TimeLearner] = {}
        self._all_models: dict[str | None, TimeLearner] = {}
        self._tenant_learners: OrderedDict[tuple[str, str | None, str], TimeLearner] = OrderedDict()
        #: By model id, and route where there are several: built anew when the catalog or the key changes.
        self._endpoints: dict[str | tuple[str, ProviderRoute], tuple[Provider, Model, Endpoint, str]] = {}
        self._usable: dict[str, tuple[Provider, float, str]] = {}

    def learned_times(self, model: Model, prompt: Prompt, tenant: str) -> LearnedTimes:
        """See `Providers.learned_times`: learned by model and reasoning effort too. What no call to the
        model has taught is guessed from all models."""
        return self._learner_of(model, prompt, tenant).learned_times(self._clock.monotonic())

    def why_unusable(self, provider: Provider) -> str:
        """See `Providers.why_unusable`: the key is missing, or the kind has no wire. Logs what the operator has to
        mend, once for each change."""
        now = self._clock.monotonic()
        known = self._usable.get(provider.name)
        if known is not None and known[0] is provider and now < known[1]:
            return known[2]
        missing = self._why_missing(provider)
        why = _KEY_MISSING if missing else ""
        if provider.kind not in self._wires:
            missing = why = f"providers of kind {provider.kind} cannot be called yet"
        if missing and (known is None or known[2] != why):
            log.warning("provider_unusable", provider=provider.name, why=missing)
        self._usable[provider.name] = (provider, now + USABLE_FOR, why)
        return why

    def _why_missing(self, provider: Provider) -> str | None:
        """Returns why calls have no key; of several keys one is enough."""
        found = [self._keys.why_missing(route) for route in provider.routes or (provider,)]
        return None if None in found else "; ".join(dict.fromkeys([why for why in found if why is not None]))

    async def complete(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts
    ) -> Completion:
        """See `Providers.complete`."""
        wire, endpoint, maker = self._endpoint(provider, model)
        prompt = keep_own_thoughts(prompt, provider, maker)
        request = await self._request(wire, prompt, endpoint, stream=False)
        learner, now = self._learner_of(model, prompt, timeouts.tenant), self._clock.monotonic
        limit = whole_bytes(prompt, request.body, reasons=endpoint.reasons)
        began, status = now(), 0
        try:
            status, headers, body = await self._transport.fetch(request, timeouts.total, limit)
            if status >= 300:
                refusal = wire.failure(status, headers, body)
                raise self._learn_from_refusal(provider, model, endpoint, refusal, headers)
            self._learn_from_success(provider, model, headers)
            if len(body) > limit:
                raise too_long(prompt, limit)
            completion = request.inverse.whole(wire.completion(status, headers, body))
        except ProviderFailure as failure:
            if failure.error_class is ErrorClass.TIMEOUT and not status:
                # It is ours: the provider has not answered.
                learner.record_timeout(now(), timeouts)
                failure.at_fault = now() - began >= timeouts.fair - EARLY
            sanitise(failure, self._keys.redact, request.body)
            raise
        if request.ignored:
            completion = structs.replace(completion, ignored=request.ignored)
        usage = completion.usage
        tokens = usage.output_tokens if usage is not None else estimate_text_tokens(completion.generated)
        ended = now()
        most = min(prompt.max_output_tokens, model.max_output_tokens)
        learner.record_answer(ended, ended - began, tokens, most)
        if prompt.parallel_tool_calls is False:
            completion = keep_one_call(completion)
        return name_maker(completion, maker)

    async def stream(
        self, provider: Provider, model: Model, prompt: Prompt, timeouts: AttemptTimeouts, told: ToldUsage
    ) -> AsyncGenerator[Sequence[StreamEvent], None]:
        """See `Providers.stream`."""
        wire, endpoint, maker = self._endpoint(provider, model)
        prompt = keep_own_thoughts(prompt, provider, maker)
        request = await self._request(wire, prompt, endpoint, stream=True)
        told.ignored = request.ignored
        learner, now = self._learner_of(model, prompt, timeouts.tenant), self._clock.monotonic
        watch, limit = StreamWatch(timeouts, now()), StreamLimit(prompt, request.body)
        # What goes on from text already sent may have nothing to add.
        decoder = wire.decoder(may_be_empty=bool(prompt.prefill))
        async with AsyncExitStack() as stack:
            try:
                response = await self._open(stack, wire, request, watch, provider, model, endpoint)
                reader = request.inverse.reader()
                events: Sequence[StreamEvent] = ()
                more = True
                while more:
                    resumed = now()
                    if events and not response.ended:
                        # What comes within a few milliseconds is read, decoded and passed on together.
                        await asyncio.sleep(COALESCE)
                    events, more = await self._next_events(response, decoder, watch, limit, resumed)
                    events = reader.read(events)
                    if limit.count_events(events):
                        events, more = limit.cut(events, decoder), False
                    elif reader.stopped:
                        events, more = limit.stop(events, decoder), False
                    if prompt.parallel_tool_calls is False:
                        events = keep_pieces_of_one_call(events)
                    events = name_makers(events, maker)
                    if events:
                        more = more and type(events[-1]) is not StreamEnd
                        yield events
            except ProviderFailure as failure:
                sanitise(failure, self._keys.redact, request.body)
                raise
            finally:
                told.usage = decoder.usage
                learner.record_stream(now(), watch)

    async def _request(self, wire: Wire, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """Returns the request in the wire's format; one of a large prompt is written in its turn."""
        if sum([message.size for message in prompt.messages]) < LARGE:
            return wire.request(prompt, endpoint, stream=stream)
        async with self._heavy_work:
            return wire.request(prompt, endpoint, stream=stream)

    async def _open(
        self,
        stack: AsyncExitStack,
        wire: Wire,
        request: HttpRequest,
        watch: StreamWatch,
        provider: Provider,
        model: Model,
        endpoint: Endpoint,
    ) -> HttpResponse:
        """Sends the request and returns a good answer's head. Raises ProviderFailure for any other."""
        now = self._clock.monotonic
        began = now()
        try:
            async with asyncio.timeout(watch.patience(began)):
                response = await stack.enter_async_context(self._transport.open(request))
        except TimeoutError as error:
            watch.record_silence(now() - began)
            raise _timeout_failure(watch) from error
        watch.record_head(now() - began)
        if response.status < 300:
            self._learn_from_success(provider, model, response.headers)
            return response
        body = b""
        try:
            async with asyncio.timeout(watch.patience(now())):
                body = await response.read(MAX_ERROR_BYTES)
        except (TimeoutError, ProviderFailure):
            # The status alone says enough.
            pass
        failure = wire.failure(response.status, response.headers, body)
        raise self._learn_from_refusal(provider, model, endpoint, failure, response.headers)

    def _learn_from_success(self, provider: Provider, model: Model, headers: Mapping[str, str]) -> None:
        """Learns limits from the headers of a call that the provider accepted."""
        if provider.route is not None:
            # The limits are those of one key of several; the model has the sum.
            return
        now = self._clock.now()
        if self._learner.answered(now, model.id):
            self._learner.observed(now, model.id, stated_limits(provider.kind, headers))

    def _learn_from_refusal(
        self,
        provider: Provider,
        model: Model,
        endpoint: Endpoint,
        failure: ProviderFailure,
        headers: Mapping[str, str],
    ) -> ProviderFailure:
        """Learns from a call that the provider refused, and returns its failure, with the fault assigned. A request
        that is larger than the account's rate says nothing about the rate of others, and a fault of a key that has
        been replaced since says nothing about its successor."""
        failure.at_fault = (
            failure.error_class not in ACCOUNT_FAULTS or self._keys(provider) == endpoint.api_key
        )
        if failure.error_class is ErrorClass.RATE_LIMITED and provider.route is None:
            of_rate = failure.retry_same and failure.explicit
            learn = self._learner.refused if of_rate else self._learner.observed
            learn(self._clock.now(), model.id, stated_limits(provider.kind, headers))
        return failure

    async def _next_events(
        self,
        response: HttpResponse,
        decoder: StreamDecoder,
        watch: StreamWatch,
        limit: StreamLimit,
        resumed: float,
    ) -> tuple[Sequence[StreamEvent], bool]:
        """Reads and decodes the next bytes. Returns their events, and True if there may be more. `resumed`: the
        instant from which the wait counts."""
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
            watch.record_silence(now() - resumed)
            return _close_decoder(decoder, _timeout_failure(watch), error), False
        except ProviderFailure as failure:
            return _close_decoder(decoder, failure, failure.__cause__), False
        if not chunk:
            return decoder.close(), False
        limit.count_bytes(len(chunk))
        events = decoder.feed(chunk)
        content = any(type(event) in ANSWER_EVENTS for event in events)
        watch.record_bytes(now() - resumed, len(chunk), content=content)
        watch.finishing = decoder.finish is not None
        return events, True

    def _learner_of(self, model: Model, prompt: Prompt, tenant: str) -> TimeLearner:
        """Returns the tenant's own learner."""
        # How hard a model thinks changes its habits, so they are learned apart.
        key = (model.id, prompt.reasoning_effort, tenant)
        learner = self._tenant_learners.get(key)
        if learner is None:
            of_all = self._time_learners.get(key[:2])
            if of_all is None:
                all_models = self._all_models.get(prompt.reasoning_effort)
                if all_models is None:
                    all_models = self._all_models[prompt.reasoning_effort] = TimeLearner()
                of_all = self._time_learners[key[:2]] = TimeLearner(all_models, same_model=False)
            learner = self._tenant_learners[key] = TimeLearner(of_all)
            if len(self._tenant_learners) > MOST_TENANT_LEARNERS:
                self._tenant_learners.popitem(last=False)
        else:
            self._tenant_learners.move_to_end(key)
        return learner

    def _endpoint(self, provider: Provider, model: Model) -> tuple[Wire, Endpoint, str]:
        """Returns the model's wire, its endpoint and the maker of its thoughts. Raises ProviderFailure."""
        wire = self._wires.get(provider.kind)
        if wire is None:
            raise ProviderFailure(ErrorClass.MODEL_NOT_FOUND, self.why_unusable(provider))
        key = self._keys(provider)
        if key is None:
            raise ProviderFailure(ErrorClass.AUTHENTICATION, _KEY_MISSING)
        place = model.id if provider.route is None else (model.id, provider.route)
        known = self._endpoints.get(place)
        if known is None or known[0] is not provider or known[1] is not model or known[2].api_key != key:
            endpoint = Endpoint(
                provider.base_url,
                model.wire_name,
                key,
                provider.options,
                reasons="reasoning" in model.capabilities,
                max_output_tokens=model.max_output_tokens,
                prefill="prefill" in model.capabilities,
            )
            known = self._endpoints[place] = (provider, model, endpoint, maker_of(provider, model))
        return wire, known[2], known[3]


def _close_decoder(
    decoder: StreamDecoder, failure: ProviderFailure, cause: BaseException | None
) -> Sequence[StreamEvent]:
    """Returns what the decoder held back, where the answer is whole although its end was not seen. Raises `failure`
    where it is not."""
    try:
        return decoder.close()
    except ProviderFailure as cut:
        if decoder.finish is not None or cut.error_class not in _CUTS:
            # This class says more than that the end is missing.
            raise
        raise failure from cause


def _timeout_failure(watch: StreamWatch) -> ProviderFailure:
    seconds = f"{watch.quiet:.1f} s"
    if watch.first is None:
        failure = ProviderFailure(ErrorClass.TIMEOUT, f"no content within {seconds}")
    else:
        failure = ProviderFailure(
            ErrorClass.STALLED, f"the stream fell silent for {seconds}", http_status=200
        )
    failure.at_fault = watch.at_fault
    return failure
