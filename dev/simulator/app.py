"""The simulator's request handler.

`/<name>/…` is a virtual provider, made on first use:
  POST …/chat/completions · …/responses · …/messages · …/v2/chat · …/models/<m>:generateContent
       …/models/<m>:streamGenerateContent[?alt=sse] · …/openai/deployments/<d>/chat/completions?api-version=
       …/model/<id>/converse · …/converse-stream · …/invoke · …/invoke-with-response-stream · …/api/chat
  GET  …/models · …/models/<m> · …/foundation-models · …/api/tags
`/_control/…` is the control API, see `control.py`.
"""

from __future__ import annotations

import asyncio
import os
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from dev.simulator import routes, wires
from dev.simulator.answers import compose, filtered, input_tokens, split_emoji, unfinished
from dev.simulator.behaviour import (
    Behaviour,
    ContentFilter,
    NoFinish,
    OddCalls,
    PrefillRejection,
    Scenario,
    SplitEmoji,
    Thinks,
)
from dev.simulator.call import Call
from dev.simulator.connection import Connection
from dev.simulator.perform import Performance, perform
from dev.simulator.provider import Attempt, Plan, VirtualProvider
from dev.simulator.strict.judge import judge, vendor_of
from dev.simulator.strict.rule import Refusal
from dev.simulator.wires.answer import Answer
from dev.simulator.wires.base import Ask, BadRequest, Problem, Reply, encode
from libs.clock import Clock

_DEFAULT_MODELS = ("simulated-large", "simulated-small")
_NO_ROUTE = encode({"error": {"message": "The simulator has no such endpoint.", "type": "not_found"}})


class Simulator:
    """All virtual providers of one process."""

    def __init__(self, clock: Clock, scenario: Scenario) -> None:
        self._clock = clock
        self.default: Behaviour = scenario.default
        self.providers: dict[str, VirtualProvider] = {}
        for name, behaviour in scenario.providers.items():
            self.provider(name).set(behaviour)
        # Ids differ between processes and between requests.
        self._process = os.urandom(4).hex()
        self._numbers = count(1)
        #: Virtual providers that say nothing of it refuse what their vendors refuse.
        self.strict = scenario.strict
        #: True once the process ends: cancelled requests are then not the clients' doing.
        self.closing = False

    def provider(self, name: str) -> VirtualProvider:
        """Returns the one of that name, made on first use."""
        found = self.providers.get(name)
        if found is None:
            found = self.providers[name] = VirtualProvider(name, self.default, self._clock)
        return found

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers every request outside the control API."""
        path, _, raw_query = request.raw_path.partition("?")
        route = routes.find(request.method, path)
        connection = Connection(request)
        body = await request.read()
        if route is None or not route.provider or route.provider.startswith("_"):
            connection.head(404, "application/json", (), len(_NO_ROUTE))
            connection.raw(_NO_ROUTE)
            return connection.done()
        query = dict(parse_qsl(raw_query)) if raw_query else {}
        provider = self.provider(route.provider)
        uid = f"{self._process}{next(self._numbers):016x}"
        headers = request.headers
        if route.operation == "models" or route.wire is None:
            wire = route.wire or (wires.ANTHROPIC if "anthropic-version" in headers else wires.OPENAI_CHAT)
            # A list is not an attempt: how it ended is not kept.
            lookup = Attempt(0.0, 0.0, wire.name, -1)
            return await self._models(
                Call(connection, provider, wire, headers, query, uid, lookup), route.model
            )
        attempt = provider.begin(route.wire.name, body, headers)
        call = Call(connection, provider, route.wire, headers, query, uid, attempt)
        try:
            return await self._generate(call, route.model, body)
        except asyncio.CancelledError:
            attempt.outcome = "shutdown" if self.closing else "cancelled"
            raise
        finally:
            provider.end(attempt)

    async def _generate(self, call: Call, path_model: str, body: bytes) -> web.StreamResponse:
        provider, attempt = call.provider, call.attempt
        document = _document(body)
        read = _read(call, document, path_model)
        if isinstance(read, Ask):
            attempt.model, attempt.stream, attempt.prefill = read.model, read.stream, read.prefill is not None
        plan = provider.plan("generate", attempt.model, attempt.stream, body, call.key)
        if plan.faults:
            broken = await call.break_off(plan)
            if broken is not None:
                return broken
        if not call.key_accepted():
            return call.refuse(Problem("authentication", attempt.model))
        model = read.model if isinstance(read, Ask) else ""
        vendor = _vendor(call.provider, model)
        refusal = self._refused(call, document, model, vendor)
        if refusal is not None:
            return call.refuse_strictly(refusal)
        if isinstance(read, Problem):
            return call.refuse(read)
        problem = _unserved(read, provider.behaviour, plan)
        if problem is not None:
            return call.refuse(problem)
        read.vendor = vendor
        read.usage_with_finish = provider.behaviour.usage.with_finish
        if plan.get(Thinks) is not None:
            read.thinks = read.shows_thoughts = read.raw_thoughts = True
        answer = compose(read, provider.behaviour, provider.name, plan.get(OddCalls))
        if plan.faults:
            answer = _marked(answer, plan)
        problem = self._limited(provider, read, answer)
        quota = provider.limiter.quota()
        if problem is not None:
            return call.refuse(problem, call.wire.headers(call.uid, quota))
        if read.stream:
            provider.counters.streams_started += 1
        return await perform(
            Performance(
                call.connection, call.wire, read, answer, plan, provider.behaviour, attempt, call.uid, quota
            )
        )

    def _refused(self, call: Call, document: Any, model: str, vendor: str) -> Refusal | None:
        """Returns what the vendor refuses, in strict mode. `model` is empty where the request cannot be read."""
        given = call.provider.behaviour.strict
        if not (self.strict if given is None else given) or not isinstance(document, dict):
            return None
        return judge(call.wire.name, vendor, model or str(document.get("model")), document)

    def _limited(self, provider: VirtualProvider, ask: Ask, answer: Answer) -> Problem | None:
        limiter = provider.limiter
        if not limiter.active:
            return None
        others = provider.counters.concurrent - 1
        refusal = limiter.admit(input_tokens(ask), answer.count, others, self._clock.monotonic())
        if refusal is None:
            return None
        provider.counters.limited += 1
        text = (
            f"Rate limit reached for {ask.model} on {refusal.what}: Limit {refusal.limit}, Used {refusal.used},"
            f" Requested {refusal.requested}. Please try again in {refusal.wait:.3g}s."
        )
        return Problem("rate_limited", ask.model, text, round(refusal.wait, 3))

    async def _models(self, call: Call, wanted: str) -> web.StreamResponse:
        provider, behaviour = call.provider, call.provider.behaviour
        provider.counters.model_lists += 1
        plan = provider.plan("models", wanted, False, key=call.key)
        if plan.faults:
            broken = await call.break_off(plan)
            if broken is not None:
                return broken
        if not call.key_accepted():
            return call.refuse(Problem("authentication"))
        names = behaviour.models or _DEFAULT_MODELS
        body = call.wire.models(names)
        if wanted:
            if behaviour.models is not None and wanted not in names:
                return call.refuse(Problem("model_not_found", wanted))
            rows = msgspec.json.decode(call.wire.models((wanted,)))
            body = encode((rows.get("data") or rows.get("models"))[0])
        return call.send(Reply(200, body), call.wire.headers(call.uid, provider.limiter.quota()))


def _vendor(provider: VirtualProvider, model: str) -> str:
    given = provider.behaviour.vendor
    return vendor_of(provider.name, model) if given is None else given


def _document(body: bytes) -> Any:
    """Returns the body's JSON; None where it is none. A half of a pair of surrogates is no JSON to any vendor."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _read(call: Call, document: Any, model: str) -> Ask | Problem:
    if document is None:
        return Problem("invalid_request", message="We could not parse the JSON body of your request.")
    if not isinstance(document, dict):
        return Problem("invalid_request", message="The JSON body of your request is not an object.")
    try:
        return call.wire.parse(document, model, call.query, call.headers)
    except BadRequest as bad:
        return Problem(bad.preset, message=bad.message)


def _unserved(ask: Ask, behaviour: Behaviour, plan: Plan) -> Problem | None:
    if behaviour.models is not None and ask.model not in behaviour.models:
        return Problem("model_not_found", ask.model)
    if ask.prefill is not None and plan.get(PrefillRejection) is not None:
        return Problem("prefill", ask.model)
    return None


def _marked(answer: Answer, plan: Plan) -> Answer:
    """Returns the answer with the faults that are in it before it is sent."""
    stop, end = plan.get(ContentFilter), plan.get(NoFinish)
    if plan.get(SplitEmoji) is not None:
        answer = split_emoji(answer)
    return filtered(answer, stop) if stop else unfinished(answer, end) if end else answer
