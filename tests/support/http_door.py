"""The router's HTTP door on a real socket, in this process, before an entry that does what the test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import openai

from libs.answer import (
    Attempt,
    Completed,
    Delta,
    Event,
    Restarted,
    Result,
    Selected,
    Selection,
    SwitchedProvider,
)
from libs.catalog.model import Model
from libs.clock import SystemClock
from libs.conversation import ToolCall, ToolCallDelta
from libs.http.bounds import Bounds
from libs.http.observe import HttpObserver
from libs.http.server import Door, HttpServer
from libs.intake import BytesInFlight, UnknownCallers
from libs.telemetry import Metrics
from libs.types import ErrorClass, FinishReason, Usage
from services.router.api.accept import Draft
from services.router.api.heartbeat import Heartbeats
from services.router.api.http_door import HttpDoor, OpenAiErrors, TenantCalls
from tests.support.router import KEY, OneKey
from tests.support.routing import model

USAGE = Usage(10, 20)


def selection(target: str = "alpha/small") -> Selection:
    """A choice of `provider/model`."""
    provider, _, model_name = target.partition("/")
    return Selection(provider, model_name)


def attempt(target: str, error_class: ErrorClass | None = None) -> Attempt:
    """One that ended, by an error where there is one; 50 micro-USD where there is none."""
    provider, _, model_name = target.partition("/")
    return Attempt(
        "a1",
        provider,
        model_name,
        error_class=error_class,
        started=0.0,
        latency=0.1,
        usage=None if error_class else USAGE,
        cost_micro_usd=0 if error_class else 50,
    )


def result(
    request_id: str,
    text: str = "",
    *calls: ToolCall,
    failed: Sequence[Attempt] = (),
    finish_reason: FinishReason = FinishReason.STOP,
    **more: object,
) -> Result:
    """An answer of alpha/small after the `failed` attempts; 10 + 20 tokens and 50 micro-USD."""
    fields: dict[str, object] = {
        "request_id": request_id,
        "text": text,
        "tool_calls": calls,
        "finish_reason": finish_reason,
        "selection": selection(),
        "attempts": (*failed, attempt("alpha/small")),
        "usage": USAGE,
        "cost_micro_usd": 50,
        "latency": 0.25,
        "time_to_first_token": None,
    }
    return Result(**(fields | more))  # type: ignore[arg-type]


def selected(target: str = "alpha/small") -> Selected:
    """The first event."""
    return Selected("r-1", selection(target))


def delta(text: str = "", *calls: ToolCallDelta) -> Delta:
    """More of the answer."""
    return Delta(text, calls)


def completed(finish_reason: FinishReason = FinishReason.STOP) -> Completed:
    """The last event."""
    return Completed(result("r-1", finish_reason=finish_reason))


def restarted(from_provider: str, target: str) -> Restarted:
    """The answer begins anew."""
    return Restarted(from_provider, selection(target), None)


def switched(from_provider: str, target: str) -> SwitchedProvider:
    """Another provider goes on."""
    return SwitchedProvider(from_provider, selection(target), None)


async def _echo(draft: Draft) -> Result:
    return result(draft.request_id, f"About: {draft.prompt.messages[-1].text}")


async def _echo_stream(draft: Draft) -> AsyncGenerator[Event, None]:
    yield selected()
    for word in ("About: ", draft.prompt.messages[-1].text):
        yield delta(word)
    yield completed()


@dataclass(slots=True)
class FakeEntry:
    """Satisfies `services.router.api.http_door.TenantCalls`: answers by `answer` and `events`, which may raise
    libs.errors; remembers what it was asked."""

    answer: Callable[[Draft], Awaitable[Result]] = _echo
    events: Callable[[Draft], AsyncGenerator[Event, None]] = _echo_stream
    drafts: list[Draft] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)
    remaining: list[float | None] = field(default_factory=list)
    finished: int = 0
    cancelled: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, condition: Callable[[FakeEntry], bool]) -> None:
        """Waits until it holds; looked at after every request's begin and end."""
        async with self.changed:
            await self.changed.wait_for(lambda: condition(self))

    async def _begin(self, caller: str, draft: Draft, remaining: float | None) -> None:
        self.callers.append(caller)
        self.drafts.append(draft)
        self.remaining.append(remaining)
        await self._tell()

    async def generate(self, caller: str, draft: Draft, remaining: float | None) -> Result:
        """See `TenantCalls.generate`."""
        await self._begin(caller, draft, remaining)
        try:
            answer = await self.answer(draft)
            self.finished += 1
            return answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            await asyncio.shield(self._tell())

    async def stream(self, caller: str, draft: Draft, remaining: float | None) -> AsyncGenerator[Event, None]:
        """See `TenantCalls.stream`."""
        await self._begin(caller, draft, remaining)
        try:
            async for event in self.events(draft):
                yield event
            self.finished += 1
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            await asyncio.shield(self._tell())

    def models(self, caller: str) -> tuple[Sequence[Model], Sequence[str]]:
        """See `TenantCalls.models`."""
        return [model(name) for name in ("alpha/small", "beta/large", "beta/small")], ["general", "seo_meta"]


@dataclass(frozen=True, slots=True)
class RunningDoor:
    """One that serves."""

    server: HttpServer
    metrics: Metrics
    held: BytesInFlight

    @property
    def url(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self.server.port}"

    def client(self, key: str = KEY, **more: object) -> openai.AsyncOpenAI:
        """The official client; by default it does not retry."""
        options: dict[str, object] = {"max_retries": 0, "timeout": 20, **more}
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def running_door(
    entry: TenantCalls,
    bounds: Bounds | None = None,
    held: BytesInFlight | None = None,
    strangers: UnknownCallers | None = None,
    tls: ssl.SSLContext | None = None,
    heartbeat: float = 0.0,
) -> AsyncIterator[RunningDoor]:
    """A door before `entry`, which knows one key. Request ids count: r-1, r-2, …"""
    numbers = count(1)
    metrics, clock = Metrics(), SystemClock()
    held = held or BytesInFlight()
    door = Door(
        clock,
        HttpObserver(metrics, clock),
        OneKey(KEY),
        strangers or UnknownCallers(clock),
        held,
        new_id=lambda: f"r-{next(numbers)}",
    )
    server = HttpServer(
        HttpDoor(entry, clock, Heartbeats(heartbeat)).routes(), OpenAiErrors(), door, bounds, tls
    )
    await server.start("127.0.0.1:0")
    server.begin_serving()
    try:
        yield RunningDoor(server, metrics, held)
    finally:
        await server.drain(0)
