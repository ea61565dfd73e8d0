"""The provider client with a scripted transport: limits in action, whole answers without their last word, keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import structlog
from msgspec import structs

from libs.catalog.model import Model, Provider
from libs.catalog.routes import ProviderEndpoint, ProviderKey
from libs.catalog.secrets import Keys
from libs.clock import Clock, SystemClock
from libs.conversation import Image, Message, ReasoningEffort, ReasoningSummary, Role, Text
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.providers.http_transport import HttpResponse, HttpTransport
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.provider_client import MOST_TENANT_LEARNERS, ProviderClient
from services.router.providers.time_learner import SAMPLES
from services.router.providers.timeouts import OTHERS, UNKNOWN, AttemptTimeouts
from services.router.providers.wires.wire import HttpRequest
from services.router.providers.wires.wires import wires
from services.router.request.generation import Prompt, ProviderFailure, StreamEnd, StreamEvent, TextDelta
from services.router.request.usage import ToldUsage
from tests.support.clock import ManualClock
from tests.support.pictures import png
from tests.support.routing import model

PROVIDER = Provider("a", "openai_compatible", "http://a.test/v1")
MODEL = model("a/m")
PROMPT = Prompt((Message(Role.USER, "Describe a shovel"),), 100)
#: Waits that a test can sit out.
SHORT = AttemptTimeouts(total=5.0, first_content=0.05, silence=0.05, content=0.1)
HANG = object()

Step = bytes | ProviderFailure | float | object


def delta(text: str) -> bytes:
    """One chunk of a chat stream."""
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n".encode()


FINISH = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}\n\n'
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
BROKEN = ProviderFailure(ErrorClass.TRANSPORT, "reset", retry_same=True)


class ScriptedResponse(HttpResponse):
    """Plays steps: bytes, a failure, HANG; a number passes so many seconds on the test's clock. Then the end."""

    def __init__(self, status: int, steps: Sequence[Step], clock: Clock, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._steps = list(steps)
        self._clock = clock
        self._rest, self._crowded = b"", False

    @property
    def ended(self) -> bool:
        return False

    def _is_read(self) -> bool:
        return not self._steps

    async def _read_any(self) -> bytes:
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, float):
                assert isinstance(self._clock, ManualClock)
                self._clock.advance(step)
            elif isinstance(step, ProviderFailure):
                raise step
            elif isinstance(step, bytes):
                return step
            else:
                await asyncio.Event().wait()
        return b""


class ScriptedTransport(HttpTransport):
    """Answers every request with the same steps."""

    def __init__(
        self,
        *steps: Step,
        status: int = 200,
        clock: Clock | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.headers = headers or {}
        self.status = status
        self.clock = clock or SystemClock()
        self.requests: list[HttpRequest] = []
        self.closed = 0

    @asynccontextmanager
    async def open(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        self.requests.append(request)
        if self.steps and self.steps[0] is HANG:
            await asyncio.Event().wait()
        try:
            yield ScriptedResponse(self.status, self.steps, self.clock, self.headers)
        finally:
            self.closed += 1


def client(transport: ScriptedTransport, environ: Mapping[str, str] | None = None) -> ProviderClient:
    return ProviderClient(
        transport, wires(transport.clock), Keys(environ or {}), transport.clock, LimitLearner()
    )


async def played(
    transport: ScriptedTransport,
    timeouts: AttemptTimeouts = SHORT,
    prompt: Prompt = PROMPT,
    told: ToldUsage | None = None,
) -> list[StreamEvent]:
    """All events of one stream."""
    batches = client(transport).stream(PROVIDER, MODEL, prompt, timeouts, told or ToldUsage())
    return [event async for batch in batches for event in batch]


def text(events: Sequence[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_options_that_the_wire_has_no_form_for_are_told() -> None:
    """As a stream begins."""
    prompt, told = structs.replace(PROMPT, reasoning_summary=ReasoningSummary.AUTO), ToldUsage()
    await played(ScriptedTransport(delta("Hi"), FINISH, USAGE, DONE), prompt=prompt, told=told)
    assert told.ignored == ("reasoning_summary",)


async def test_a_stream_is_passed_on_and_ends_with_its_account() -> None:
    """Text, then one StreamEnd with finish reason and usage."""
    events = await played(ScriptedTransport(delta("Hel"), delta("lo"), FINISH, USAGE, DONE))
    assert text(events) == "Hello"
    assert events[-1] == StreamEnd(FinishReason.STOP, Usage(7, 3))


@pytest.mark.parametrize("rest", [(), (BROKEN,), (HANG,)], ids=["end", "reset", "silence"])
async def test_a_finish_reason_makes_the_answer_whole(rest: tuple[Step, ...]) -> None:
    """The terminator is missing, whichever way: the answer is complete, with the usage that had come."""
    events = await played(ScriptedTransport(delta("Hello"), FINISH, USAGE, *rest))
    assert text(events) == "Hello"
    assert events[-1] == StreamEnd(FinishReason.STOP, Usage(7, 3))


@pytest.mark.parametrize(
    ("rest", "error_class"),
    [((), ErrorClass.TRANSPORT), ((BROKEN,), ErrorClass.TRANSPORT), ((HANG,), ErrorClass.STALLED)],
    ids=["end", "reset", "silence"],
)
async def test_without_a_finish_reason_the_answer_is_not_whole(
    rest: tuple[Step, ...], error_class: ErrorClass
) -> None:
    """Never reported as success; what the provider had said of usage is kept for the account, as a part of it."""
    transport, told = ScriptedTransport(USAGE, delta("Hello"), *rest), ToldUsage()
    with pytest.raises(ProviderFailure) as caught:
        await played(transport, told=told)
    assert caught.value.error_class is error_class
    assert told.usage == Usage(7, 3, accuracy=UsageAccuracy.ESTIMATED)
    assert transport.closed == 1


@pytest.mark.parametrize("steps", [(HANG,), (PING, HANG), (PING,) * 200], ids=["head", "body", "pings"])
async def test_no_content_in_time_is_a_timeout(steps: tuple[Step, ...]) -> None:
    """Before the first content: silence after the request or the head, or pings for longer than the ceiling."""
    clock = ManualClock()
    timeouts = SHORT
    if len(steps) > 2:
        timeouts = AttemptTimeouts(total=500.0, first_content=20.0, silence=15.0, content=30.0)
        steps = tuple(part for ping in steps for part in (1.0, ping))
    with pytest.raises(ProviderFailure) as caught:
        await played(ScriptedTransport(*steps, clock=clock), timeouts)
    assert caught.value.error_class is ErrorClass.TIMEOUT


async def test_a_trickle_is_cut() -> None:
    """A stream far below the model's usual pace is cut as stalled after some seconds, though bytes come."""
    clock = ManualClock()
    crumbs = [part for _ in range(100) for part in (1.0, delta("x"))]
    timeouts = AttemptTimeouts(total=500.0, first_content=20.0, silence=15.0, content=20.0, pace=500.0)
    with pytest.raises(ProviderFailure) as caught:
        await played(ScriptedTransport(delta("Hello"), *crumbs, clock=clock), timeouts)
    assert caught.value.error_class is ErrorClass.STALLED
    assert clock.monotonic() < 1010


async def test_a_continuation_may_have_nothing_to_add() -> None:
    """With a prefill an empty answer is an answer; without one it is malformed."""
    events = await played(ScriptedTransport(FINISH, USAGE, DONE), prompt=PROMPT.continued("Hello", 2))
    assert [type(event) for event in events] == [StreamEnd]
    with pytest.raises(ProviderFailure) as caught:
        await played(ScriptedTransport(FINISH, USAGE, DONE))
    assert caught.value.error_class is ErrorClass.MALFORMED


async def test_an_error_status_is_classified_even_when_its_body_hangs() -> None:
    """The status alone says enough."""
    for steps in ((b'{"error": {"message": "busy"}}',), (b"", BROKEN), (PING, HANG)):
        with pytest.raises(ProviderFailure) as caught:
            await played(ScriptedTransport(*steps, status=503))
        assert (caught.value.error_class, caught.value.http_status) == (ErrorClass.OVERLOADED, 503)


async def test_a_request_above_the_accounts_rate_teaches_no_lower_rate() -> None:
    """Plain 429s beside calls that are let through do; those that no wait would help do not."""
    too_large = b'{"error": {"message": "Request too large on tokens per min (TPM): Limit 10, Requested 99"}}'
    for body, learned in ((b'{"error": {"message": "Rate limit reached"}}', True), (too_large, False)):
        transport, learner = (
            ScriptedTransport(body, status=429, clock=(clock := ManualClock())),
            LimitLearner(),
        )
        called = ProviderClient(transport, wires(clock), Keys({}), clock, learner)
        for _ in range(30):
            clock.advance(1.0)
            learner.answered(clock.now(), MODEL.id)
            with pytest.raises(ProviderFailure) as caught:
                await called.complete(PROVIDER, MODEL, PROMPT, SHORT)
            assert caught.value.error_class is ErrorClass.RATE_LIMITED
        assert bool(learner.learned(clock.now())) is learned


async def test_what_an_error_event_says_wins_over_the_silence_after_it() -> None:
    """An error in the same piece as content is raised with its own class, though the connection stays open."""
    error = b'data: {"error": {"message": "Overloaded", "type": "overloaded_error"}}\n\n'
    with pytest.raises(ProviderFailure) as caught:
        await played(ScriptedTransport(delta("Hello") + error, HANG))
    assert caught.value.error_class is ErrorClass.OVERLOADED


async def test_closing_a_stream_closes_the_connection() -> None:
    """Whoever leaves early takes the provider's work with them, and what it had told stays known."""
    transport, told = ScriptedTransport(USAGE, delta("Hello"), HANG), ToldUsage()
    async with aclosing(client(transport).stream(PROVIDER, MODEL, PROMPT, SHORT, told)) as batches:
        async for _ in batches:
            break
    assert transport.closed == 1
    assert told.usage == Usage(7, 3, accuracy=UsageAccuracy.ESTIMATED)


async def test_a_hung_unary_call_is_given_up_at_its_limit() -> None:
    """As a timeout; blamed on the provider only where it had a fair time."""
    for fair, at_fault in ((0.01, True), (10.0, False)):
        timeouts = AttemptTimeouts(total=0.05, first_content=0.05, silence=0.05, content=0.05, fair=fair)
        with pytest.raises(ProviderFailure) as caught:
            await client(ScriptedTransport(HANG)).complete(PROVIDER, MODEL, PROMPT, timeouts)
        assert (caught.value.error_class, caught.value.at_fault) == (ErrorClass.TIMEOUT, at_fault)


async def test_times_are_learned_per_model_and_effort() -> None:
    """Calls to one model teach about that model alone, and thinking harder is another habit."""
    clock = ManualClock()
    transport = ScriptedTransport(0.5, delta("Hello"), FINISH, DONE, clock=clock)
    calls = client(transport)
    for _ in range(SAMPLES + 1):
        async for _ in calls.stream(
            PROVIDER, MODEL, PROMPT, AttemptTimeouts(9.0, 9.0, 9.0, 9.0), ToldUsage()
        ):
            pass
    clock.advance(2.0)
    assert calls.learned_times(MODEL, PROMPT, "").first_content == pytest.approx(0.5, rel=0.06)
    assert calls.learned_times(model("a/n"), PROMPT, "").first_content == pytest.approx(
        OTHERS * 0.5, rel=0.06
    )
    harder = Prompt(PROMPT.messages, 100, reasoning_effort=ReasoningEffort.HIGH)
    assert calls.learned_times(MODEL, harder, "") == UNKNOWN


@pytest.mark.parametrize("stream", [False, True])
async def test_one_tenants_quick_answers_do_not_cut_anothers_slow_ones(stream: bool) -> None:
    """More than twenty calls of one to one of the other's: who has been answered often enough is judged by that
    alone, and of others everybody's times are the best guess."""
    clock = ManualClock()
    quick = client(ScriptedTransport(clock=clock))
    body = json.dumps(
        {
            "choices": [{"message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 20},
        }
    ).encode()

    async def asks(tenant: str, seconds: float) -> None:
        steps: list[Step] = [seconds, delta("Hello"), FINISH, DONE] if stream else [seconds, body]
        quick._transport = ScriptedTransport(*steps, clock=clock)
        timeouts = AttemptTimeouts(99.0, 99.0, 99.0, 99.0, tenant=tenant)
        if stream:
            async for _ in quick.stream(PROVIDER, MODEL, PROMPT, timeouts, ToldUsage()):
                pass
        else:
            await quick.complete(PROVIDER, MODEL, PROMPT, timeouts)

    def learned_time(tenant: str) -> float | None:
        clock.advance(2.0)
        known = quick.learned_times(MODEL, PROMPT, tenant)
        return known.first_content if stream else known.per_token

    for _ in range(SAMPLES + 5):
        await asks("slow", 7.0)
        for _ in range(22):
            await asks("quick", 0.1)
    slow, fast, stranger = learned_time("slow"), learned_time("quick"), learned_time("stranger")
    assert slow is not None
    assert fast is not None
    assert slow == pytest.approx(70 * fast, rel=0.15)
    assert stranger == fast


async def test_tenants_paces_are_bounded() -> None:
    """The one that was used longest ago gives way."""
    calls = client(ScriptedTransport())
    for number in range(MOST_TENANT_LEARNERS + 50):
        calls.learned_times(MODEL, PROMPT, f"{number}")
    assert len(calls._tenant_learners) == MOST_TENANT_LEARNERS
    assert (MODEL.id, None, "49") not in calls._tenant_learners


def test_a_provider_without_key_or_wire_is_unusable(tmp_path: Path) -> None:
    """Callers are not told the variable's or file's name; the key is looked at again when it is a second old."""
    clock = ManualClock()
    file = tmp_path / "key"
    calls = client(ScriptedTransport(clock=clock), {})
    assert calls.why_unusable(PROVIDER) == ""
    unset = Provider("b", "openai", "http://b.test/v1", api_key_env="A_KEY")
    assert calls.why_unusable(unset) == "its key is missing"
    late = Provider("c", "openai", "http://c.test/v1", api_key_file=str(file))
    assert calls.why_unusable(late) == "its key is missing"
    file.write_text("secret")
    assert calls.why_unusable(late)
    clock.advance(1.5)
    assert calls.why_unusable(late) == ""


def test_one_of_several_keys_makes_a_provider_usable() -> None:
    """Only without all of them it cannot be called; the log names each variable, callers none."""
    pool = Provider("p", "openai", "http://p.test/v1", keys=(ProviderKey("KEY"), ProviderKey("OTHER")))
    assert client(ScriptedTransport(), {"OTHER": "o"}).why_unusable(pool) == ""
    with structlog.testing.capture_logs() as logs:
        assert client(ScriptedTransport(), {}).why_unusable(pool) == "its key is missing"
    (line,) = logs
    assert "variable KEY is not set" in line["why"]
    assert "variable OTHER is not set" in line["why"]


@pytest.mark.parametrize("status", [200, 429])
async def test_routes_call_their_own_address_with_their_own_key_and_teach_no_limit(status: int) -> None:
    """Each call goes by its route, whichever was called before; what a vendor states holds for one key alone."""
    pool = Provider(
        "p",
        "openai",
        "http://eu.test/v1",
        keys=(ProviderKey("KEY"), ProviderKey("OTHER")),
        endpoints=(ProviderEndpoint("http://eu.test/v1"), ProviderEndpoint("http://us.test/v1")),
    )
    learner = LimitLearner()
    headers = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}
    answer = {"choices": [{"message": {"content": "Fine."}, "finish_reason": "stop"}]}
    transport = ScriptedTransport(json.dumps(answer).encode(), status=status, headers=headers)
    keys = Keys({"KEY": "first", "OTHER": "second"})
    calls = ProviderClient(transport, wires(SystemClock()), keys, SystemClock(), learner)
    for route in (*pool.routes, *pool.routes):
        with suppress(ProviderFailure):
            await calls.complete(route, Model("p", "m", "m", 1000, 100), PROMPT, SHORT)
    seen = [(urlsplit(r.url).netloc, r.headers["authorization"]) for r in transport.requests]
    assert (
        seen
        == [
            ("eu.test", "Bearer first"),
            ("us.test", "Bearer first"),
            ("eu.test", "Bearer second"),
            ("us.test", "Bearer second"),
        ]
        * 2
    )
    assert learner.learned(SystemClock().now()) == []
    assert learner.loads(SystemClock().now()) == {}


async def test_an_unknown_kind_is_a_failure_not_a_crash() -> None:
    """A kind without a wire is left out when planning; called all the same, it fails as a missing model."""
    transport = ScriptedTransport()
    calls = ProviderClient(transport, {}, Keys({}), SystemClock(), LimitLearner())
    assert "openai_compatible" in calls.why_unusable(PROVIDER)
    with pytest.raises(ProviderFailure) as caught:
        await calls.complete(PROVIDER, MODEL, PROMPT, SHORT)
    assert caught.value.error_class is ErrorClass.MODEL_NOT_FOUND


async def test_without_its_key_a_provider_is_not_called() -> None:
    """An authentication failure, as the caller reads it; the log says once where the key should be. Nothing is
    sent."""
    provider = Provider("b", "openai", "http://b.test/v1", api_key_env="B_KEY")
    transport = ScriptedTransport()
    calls = client(transport)
    with structlog.testing.capture_logs() as logs:
        calls.why_unusable(provider)
        calls.why_unusable(provider)
    with pytest.raises(ProviderFailure) as caught:
        await calls.complete(provider, Model("b", "m", "m", 1000, 100), PROMPT, SHORT)
    assert caught.value.error_class is ErrorClass.AUTHENTICATION
    assert caught.value.message == "its key is missing"
    assert [line["why"] for line in logs] == ["the environment variable B_KEY is not set"]
    assert transport.requests == []


class RotatedDuring(ScriptedTransport):
    """The key is replaced while the call runs."""

    def __init__(self, environ: dict[str, str], status: int) -> None:
        super().__init__(b"{}", status=status)
        self.environ = environ

    @asynccontextmanager
    async def open(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        async with super().open(request) as response:
            self.environ["KEY"] = "new"
            yield response


async def drained(calls: ProviderClient, provider: Provider) -> None:
    """Reads a stream to its end."""
    async for _ in calls.stream(provider, MODEL, PROMPT, SHORT, ToldUsage()):
        pass


@pytest.mark.parametrize("status", [401, 402])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_wrong_with_a_replaced_key_is_not_held_against_the_next(
    status: int, stream: bool
) -> None:
    """The call began under the old one; the next call, which is refused under the new, is."""
    environ = {"KEY": "old"}
    calls = client(RotatedDuring(environ, status), environ)
    provider = replace(PROVIDER, api_key_env="KEY")
    for at_fault in (False, True):
        with pytest.raises(ProviderFailure) as caught:
            await (drained(calls, provider) if stream else calls.complete(provider, MODEL, PROMPT, SHORT))
        assert caught.value.error_class in (ErrorClass.AUTHENTICATION, ErrorClass.QUOTA_EXHAUSTED)
        assert caught.value.at_fault is at_fault


async def test_large_images_are_written_in_turns() -> None:
    """One is on its way before the next is written, and the loop is free between them; small ones go at once."""

    async def on_their_way(data: bytes) -> int:
        """The requests that are sent in the first rounds of the loop, of three begun together."""
        transport = ScriptedTransport(HANG)
        shared = client(transport)
        prompt = Prompt((Message(Role.USER, parts=(Image(data), Text("What is this?"))),), 100)
        calls = [asyncio.create_task(shared.complete(PROVIDER, MODEL, prompt, SHORT)) for _ in range(3)]
        while not transport.requests:
            await asyncio.sleep(0)
        sent = len(transport.requests)
        async with asyncio.timeout(20):
            while len(transport.requests) < len(calls):
                await asyncio.sleep(0.001)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        return sent

    assert await on_their_way(png()) == 3
    assert await on_their_way(png() + bytes(1024 * 1024)) == 1


async def test_an_answer_that_is_too_long_tells_no_usage() -> None:
    """Nobody's count is known then, so all that was reserved for the attempt counts, its images included."""
    prompt = Prompt((Message(Role.USER, parts=(Image(png(1000, 1000)), Text("What is this?"))),), 1)
    transport = ScriptedTransport(b"x" * 10_000_000)
    with pytest.raises(ProviderFailure) as caught:
        await client(transport).complete(PROVIDER, MODEL, prompt, AttemptTimeouts(5.0, 5.0, 5.0, 5.0))
    assert (caught.value.error_class, caught.value.usage) == (ErrorClass.MALFORMED, None)
