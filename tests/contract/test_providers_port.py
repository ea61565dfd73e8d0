"""The contract of every Providers: the same suite for the fake of the unit tests, and for the real client on every
wire that the simulator speaks.
that the simulator speaks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from random import Random
from typing import Any, Protocol

import pytest

from libs.catalog.model import Model, Provider
from libs.catalog.routes import ProviderEndpoint, ProviderKey
from libs.catalog.secrets import Keys
from libs.clock import SystemClock
from libs.conversation import Message, Role
from libs.telemetry import Metrics
from libs.types import ErrorClass, FinishReason
from services.router.providers.http_transport import HttpTransport
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.provider_client import ProviderClient
from services.router.providers.providers import Providers
from services.router.providers.routed_providers import RoutedProviders
from services.router.providers.timeouts import AttemptTimeouts
from services.router.providers.wires.wires import wires
from services.router.request.generation import Prompt, ProviderFailure, StreamEnd, StreamEvent, TextDelta
from services.router.request.usage import ToldUsage
from services.router.routes.routes import ProviderRoutes
from tests.support.clock import ManualClock
from tests.support.routing import HANG, ScriptedProviders, catalog, fail, model
from tests.support.simulator import Simulator, running_simulator

PROMPT = Prompt((Message(Role.USER, "Describe a shovel for the garden"),), 200)
LONG = AttemptTimeouts(total=20.0, first_content=10.0, silence=10.0, content=20.0)
SHORT = AttemptTimeouts(total=0.3, first_content=0.3, silence=0.3, content=0.3)
#: Kind → what follows the virtual provider's address, and options.
WIRES: dict[str, tuple[str, dict[str, str]]] = {
    "openai": ("/v1", {}),
    "openai_responses": ("/v1", {}),
    "azure_openai": ("", {}),
    "anthropic": ("", {}),
    "gemini": ("", {}),
    "cohere": ("", {}),
    "bedrock": ("", {"region": "eu-west-1"}),
    "bedrock_invoke": ("", {"region": "eu-west-1"}),
    "ollama_native": ("", {}),
}


class Bench(Protocol):
    """A provider that does as it is told, and the port to call it by."""

    providers: Providers
    provider: Provider
    model: Model

    async def answers(self) -> None:
        """Well, in several pieces."""
        ...

    async def is_overloaded(self) -> None:
        """It refuses every call, with 12 s to stay away."""
        ...

    async def refuses(self, preset: str, as_class: ErrorClass) -> None:
        """It refuses every call for the simulator's `preset`, which is `as_class`."""
        ...

    async def breaks(self) -> None:
        """It breaks off in the middle of a stream."""
        ...

    async def fails_inside(self) -> None:
        """It says in the middle of a stream that it is overloaded."""
        ...

    async def ends_without_a_reason(self) -> None:
        """It ends a stream without a finish reason."""
        ...

    async def hangs(self, *, after_content: bool = False) -> None:
        """A stream falls silent, at once or after some content; a whole answer never comes."""
        ...

    async def began(self) -> None:
        """Returns once the provider has the call."""
        ...

    async def ended(self) -> None:
        """Returns once the provider has seen the call end."""
        ...


class Scripted:
    """The fake."""

    def __init__(self) -> None:
        self.model = model("a/m")
        self.provider = Provider("a", "openai_compatible", "http://a.test/v1")
        self.script: dict[str, list[Any]] = {}
        self.fake = ScriptedProviders(self.script, ManualClock())
        self.providers: Providers = self.fake

    async def answers(self) -> None:
        self.script["a/m"] = [["A fine ", "shovel."], "A fine shovel."]

    async def is_overloaded(self) -> None:
        self.script["a/m"] = [fail(ErrorClass.OVERLOADED, retry_after=12.0, retry_same=True, status=503)]

    async def refuses(self, preset: str, as_class: ErrorClass) -> None:
        self.script["a/m"] = [fail(as_class)]

    async def fails_inside(self) -> None:
        self.script["a/m"] = [["A fine ", fail(ErrorClass.OVERLOADED, retry_same=True)]]

    async def ends_without_a_reason(self) -> None:
        await self.breaks()

    async def breaks(self) -> None:
        self.script["a/m"] = [["A fine ", fail(ErrorClass.TRANSPORT, retry_same=True)]]

    async def hangs(self, *, after_content: bool = False) -> None:
        self.script["a/m"] = [["A fine ", HANG] if after_content else [HANG]]

    async def began(self) -> None:
        while not self.fake.calls:
            await asyncio.sleep(0)

    async def ended(self) -> None:
        assert self.fake.cancelled == 1


class Routed(Scripted):
    """Calls by a route of a provider with two keys and two endpoints."""

    def __init__(self) -> None:
        super().__init__()
        pool = Provider(
            "a",
            "openai_compatible",
            "http://eu.test",
            keys=(ProviderKey("A"), ProviderKey("B")),
            endpoints=(ProviderEndpoint("http://eu.test"), ProviderEndpoint("http://us.test")),
        )
        found = replace(catalog([self.model]), providers={"a": pool})
        clock, keys = ManualClock(), Keys({"A": "a", "B": "b"})
        routes = ProviderRoutes(lambda: found, keys, lambda _: (), clock, Random(1), Metrics())
        self.provider = pool.routes[0]
        self.providers = RoutedProviders(self.fake, routes, clock)


class Real:
    """The client against a virtual provider of the simulator."""

    def __init__(self, simulator: Simulator, transport: HttpTransport, kind: str, name: str) -> None:
        suffix, options = WIRES[kind]
        self.simulator = simulator
        self.name = name
        url = simulator.base(name) + suffix
        self.provider = Provider(name, kind, url, api_key_env="KEY", options=options)
        self.model = replace(model(f"{name}/m"), wire_name="anthropic.m" if "bedrock" in kind else "m")
        clock = SystemClock()
        keys = Keys({"KEY": "k"})
        self.providers: Providers = ProviderClient(transport, wires(clock), keys, clock, LimitLearner())

    async def answers(self) -> None:
        await self.simulator.set(self.name, tokens=30, ms_per_token=2)

    async def is_overloaded(self) -> None:
        fault = {"kind": "status", "preset": "overloaded", "retry_after": 12, "retry_after_as": "seconds"}
        await self.simulator.set(self.name, faults=[fault])

    async def refuses(self, preset: str, as_class: ErrorClass) -> None:
        await self._faulty({"kind": "status", "preset": preset})

    async def fails_inside(self) -> None:
        await self._faulty({"kind": "error_event", "preset": "overloaded", "after_tokens": 10})

    async def ends_without_a_reason(self) -> None:
        await self._faulty({"kind": "no_finish"})

    async def breaks(self) -> None:
        await self._faulty({"kind": "cut", "after_tokens": 20})

    async def hangs(self, *, after_content: bool = False) -> None:
        await self._faulty({"kind": "stall", "after_tokens": 10} if after_content else {"kind": "silence"})

    async def began(self) -> None:
        await self.simulator.wait_for(self.name, lambda report: report["counters"]["concurrent"] == 1)

    async def _faulty(self, fault: dict[str, Any]) -> None:
        await self.simulator.set(self.name, tokens=30, ms_per_token=2, faults=[fault])

    async def ended(self) -> None:
        await self.simulator.wait_for(self.name, lambda report: report["counters"]["concurrent"] == 0)


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running


numbers = itertools.count(1)


@pytest.fixture(params=["scripted", "routed", *WIRES])
async def bench(request: pytest.FixtureRequest, simulator: Simulator) -> AsyncIterator[Bench]:
    if request.param in ("scripted", "routed"):
        yield Scripted() if request.param == "scripted" else Routed()
        return
    async with HttpTransport() as transport:
        yield Real(simulator, transport, request.param, f"{request.param}-{next(numbers)}")


async def streamed(bench: Bench, timeouts: AttemptTimeouts = LONG) -> list[Sequence[StreamEvent]]:
    return [
        batch
        async for batch in bench.providers.stream(bench.provider, bench.model, PROMPT, timeouts, ToldUsage())
    ]


async def failure_of_stream(bench: Bench, timeouts: AttemptTimeouts) -> tuple[str, ProviderFailure]:
    """The text before the failure, and the failure."""
    text = ""
    try:
        async for batch in bench.providers.stream(bench.provider, bench.model, PROMPT, timeouts, ToldUsage()):
            text += "".join(event.text for event in batch if isinstance(event, TextDelta))
    except ProviderFailure as failure:
        return text, failure
    raise AssertionError(f"it did not fail: {text}")


async def test_a_stream_is_batches_with_one_end_and_it_is_last(bench: Bench) -> None:
    """No batch is empty; the last event, and no other, is a StreamEnd with finish reason and usage."""
    await bench.answers()
    batches = await streamed(bench)
    assert all(batches)
    events = [event for batch in batches for event in batch]
    ends = [event for event in events if isinstance(event, StreamEnd)]
    assert ends == [events[-1]]
    assert ends[0].finish_reason is FinishReason.STOP
    assert ends[0].usage is not None
    assert ends[0].usage.output_tokens > 0


async def test_a_whole_answer_says_what_a_stream_says(bench: Bench) -> None:
    """Streamed or not, the same text, finish reason and usage."""
    await bench.answers()
    batches = await streamed(bench)
    completion = await bench.providers.complete(bench.provider, bench.model, PROMPT, LONG)
    text = "".join(e.text for batch in batches for e in batch if isinstance(e, TextDelta))
    end = batches[-1][-1]
    assert isinstance(end, StreamEnd)
    assert text == completion.text != ""
    assert (end.finish_reason, end.usage) == (completion.finish_reason, completion.usage)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_classified_with_its_wait(bench: Bench, stream: bool) -> None:
    """Class, status, how long to stay away and whether to come back, before anything was yielded."""
    await bench.is_overloaded()
    if stream:
        text, failure = await failure_of_stream(bench, LONG)
        assert text == ""
    else:
        with pytest.raises(ProviderFailure) as caught:
            await bench.providers.complete(bench.provider, bench.model, PROMPT, LONG)
        failure = caught.value
    assert failure.error_class is ErrorClass.OVERLOADED
    assert failure.http_status in (503, 529)
    assert failure.retry_same
    assert failure.retry_after == pytest.approx(12, abs=1)


PRESETS = [
    ("context_length", ErrorClass.CONTEXT_TOO_LONG),
    ("authentication", ErrorClass.AUTHENTICATION),
    ("model_not_found", ErrorClass.MODEL_NOT_FOUND),
    ("rate_limited", ErrorClass.RATE_LIMITED),
    ("quota", ErrorClass.QUOTA_EXHAUSTED),
    ("server_error", ErrorClass.SERVER_ERROR),
]


@pytest.mark.parametrize(("preset", "expected"), PRESETS)
async def test_every_wire_says_what_went_wrong(bench: Bench, preset: str, expected: ErrorClass) -> None:
    """The same fault has the same class in every wire's own words, streamed or not."""
    await bench.refuses(preset, expected)
    _, failure = await failure_of_stream(bench, LONG)
    assert failure.error_class is expected
    with pytest.raises(ProviderFailure) as caught:
        await bench.providers.complete(bench.provider, bench.model, PROMPT, LONG)
    assert caught.value.error_class is expected


async def test_an_error_inside_a_stream_is_found(bench: Bench) -> None:
    """After its text, though the status said that all was well."""
    await bench.fails_inside()
    text, failure = await failure_of_stream(bench, LONG)
    assert text
    assert failure.error_class is ErrorClass.OVERLOADED


async def test_an_end_without_a_reason_is_a_cut(bench: Bench) -> None:
    """The body ends well, but nothing in it says that the answer did."""
    await bench.ends_without_a_reason()
    text, failure = await failure_of_stream(bench, LONG)
    assert text
    assert failure.error_class is ErrorClass.TRANSPORT


async def test_a_cut_stream_is_a_failure_after_its_text(bench: Bench) -> None:
    """The text that came is handed on, and the cut is never an end."""
    await bench.breaks()
    text, failure = await failure_of_stream(bench, LONG)
    assert text
    assert failure.error_class is ErrorClass.TRANSPORT


@pytest.mark.parametrize("after_content", [False, True])
async def test_silence_is_bounded(bench: Bench, after_content: bool) -> None:
    """A timeout before the first content, a stall after it; the call is ended at the provider."""
    await bench.hangs(after_content=after_content)
    text, failure = await failure_of_stream(bench, SHORT)
    assert bool(text) is after_content
    assert failure.error_class is (ErrorClass.STALLED if after_content else ErrorClass.TIMEOUT)
    await bench.ended()


async def test_a_whole_answer_that_does_not_come_is_a_timeout(bench: Bench) -> None:
    """At `timeouts.total`."""
    await bench.hangs()
    with pytest.raises(ProviderFailure) as caught:
        await bench.providers.complete(bench.provider, bench.model, PROMPT, SHORT)
    assert caught.value.error_class is ErrorClass.TIMEOUT
    await bench.ended()


async def test_closing_a_stream_ends_the_call(bench: Bench) -> None:
    """The provider sees the caller leave."""
    await bench.hangs(after_content=True)
    async with aclosing(
        bench.providers.stream(bench.provider, bench.model, PROMPT, LONG, ToldUsage())
    ) as batches:
        async for _ in batches:
            break
    await bench.ended()


async def test_cancelling_a_whole_call_ends_it(bench: Bench) -> None:
    """Likewise, by cancelling the task."""
    await bench.hangs()
    call = asyncio.create_task(bench.providers.complete(bench.provider, bench.model, PROMPT, LONG))
    await bench.began()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await bench.ended()


async def test_what_can_be_called_is_usable(bench: Bench) -> None:
    """An empty reason, and nothing is known of a model that was never called."""
    assert bench.providers.why_unusable(bench.provider) == ""
    assert bench.providers.learned_times(bench.model, PROMPT, "acme").first_content is None
