"""One request to a virtual provider, and the answers to it that are not a generation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web
from msgspec.json import decode

from dev.simulator import wires
from dev.simulator.behaviour import ContentType, Empty, Preset, Raw, Reset, Silence, Status
from dev.simulator.connection import Connection
from dev.simulator.provider import Attempt, Plan, VirtualProvider
from dev.simulator.raw import play
from dev.simulator.strict.rule import Refusal
from dev.simulator.wires.base import Problem, Reply, Wire, encode

_PORTAL = "<html><body>Sign in to the network</body></html>"
_PRESET_OF_STATUS: dict[int, Preset] = {
    400: "invalid_request",
    401: "authentication",
    403: "permission",
    404: "model_not_found",
    408: "timeout",
    413: "too_large",
    429: "rate_limited",
    502: "bad_gateway",
    503: "overloaded",
    529: "overloaded",
}


@dataclass(frozen=True, slots=True)
class Call:
    """Everything known about the request but its body."""

    connection: Connection
    provider: VirtualProvider
    wire: Wire
    headers: Mapping[str, str]
    query: Mapping[str, str]
    #: Identifies the request in ids and headers; 24 hexadecimal digits.
    uid: str
    attempt: Attempt

    @property
    def key(self) -> str | None:
        """Returns the caller's key; None: it has none."""
        return self.wire.key(self.headers, self.query)

    def key_accepted(self) -> bool:
        """Returns True if the caller's key may be used."""
        key = self.key
        expected = self.provider.behaviour.expect_key
        if expected is None:
            # Anthropic is the one wire that no local server speaks without a key.
            return key is not None or self.wire is not wires.ANTHROPIC
        return key == expected

    def send(self, reply: Reply, headers: Iterable[tuple[str, str]] = ()) -> web.StreamResponse:
        """Sends a complete answer; its own headers win over `headers`."""
        sent = {**dict(headers), **reply.headers}
        self.connection.head(reply.status, reply.content_type, sent.items(), len(reply.body))
        self.connection.raw(reply.body)
        return self.connection.done()

    def refuse(self, problem: Problem, headers: Iterable[tuple[str, str]] = ()) -> web.StreamResponse:
        """Sends the provider's own error."""
        reply = self.wire.error(problem, self.uid)
        self.attempt.status, self.attempt.outcome = reply.status, "rejected"
        return self.send(reply, headers)

    def refuse_strictly(self, refusal: Refusal) -> web.StreamResponse:
        """Sends the refusal in the vendor's own shape, and records the rule."""
        self.attempt.rule = refusal.rule
        problem = Problem(
            "invalid_request",
            self.attempt.model,
            refusal.message,
            of_request=True,
            code=refusal.code,
            param=refusal.param,
        )
        reply = replace(self.wire.error(problem, self.uid), status=refusal.status)
        if refusal.vendor in _BODIES and self.wire is wires.OPENAI_CHAT:
            reply = replace(reply, body=encode(_BODIES[refusal.vendor](refusal)))
        self.attempt.status, self.attempt.outcome = reply.status, "rejected"
        return self.send(reply)

    async def break_off(self, plan: Plan) -> web.StreamResponse | None:
        """Answers with a fault that replaces the whole answer; returns None where none struck."""
        attempt = self.attempt
        if plan.get(Reset) is not None:
            attempt.outcome = "reset"
            return self.connection.reset()
        silence = plan.get(Silence)
        if silence is not None:
            await asyncio.sleep(silence.seconds)
            attempt.outcome = "silent"
            return self.connection.close()
        status = plan.get(Status)
        if status is not None:
            if status.delay_ms:
                await asyncio.sleep(status.delay_ms / 1000 * plan.factor)
            reply = self._status_reply(status)
            attempt.status, attempt.outcome = reply.status, "error"
            return self.send(reply)
        raw = plan.get(Raw)
        if raw is not None:
            attempt.status, attempt.outcome = raw.status, "raw"
            return await play(self.connection, raw)
        portal, empty = plan.get(ContentType), plan.get(Empty)
        if portal is None and empty is None:
            return None
        attempt.status, attempt.outcome = 200, "empty"
        if portal is not None:
            body = _PORTAL if portal.body is None else portal.body
            return self.send(Reply(200, body.encode(), portal.content_type))
        kind = self.wire.stream_content_type if attempt.stream else "application/json"
        return self.send(Reply(200, b"", kind))

    def _status_reply(self, fault: Status) -> Reply:
        preset = fault.preset or _PRESET_OF_STATUS.get(fault.status or 500, "server_error")
        problem = Problem(
            preset, self.attempt.model, None, fault.retry_after, fault.retry_after_as, self.attempt.stream
        )
        reply = self.wire.error(problem, self.uid)
        body, content_type = reply.body, reply.content_type
        if isinstance(fault.body, str):
            body, content_type = fault.body.encode(), "text/plain; charset=utf-8"
        elif fault.body is not None:
            body, content_type = encode(fault.body), "application/json"
        named = {name.lower(): value for name, value in fault.headers.items()}
        content_type = named.pop("content-type", content_type)
        return Reply(fault.status or reply.status, body, content_type, {**reply.headers, **named})


def _flat(refusal: Refusal) -> dict[str, Any]:
    """Returns Mistral's error object, which stands by itself; its list of wrong fields is an object of its own."""
    message: Any = refusal.message
    if refusal.status == 422:
        message = decode(refusal.message)
    kind = "invalid_request_error"
    return {"object": "error", "message": message, "type": kind, "param": None, "code": refusal.code}


def _two_words(refusal: Refusal) -> dict[str, Any]:
    """Returns xAI's error object: a code and the text."""
    return {"code": refusal.code or "invalid-argument", "error": refusal.message}


def _cerebras(refusal: Refusal) -> dict[str, Any]:
    """Returns Cerebras' error object, which stands by itself."""
    kind = "invalid_request_error"
    return {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}


def _numbered(refusal: Refusal) -> dict[str, Any]:
    """Returns Perplexity's error object, whose code is the status."""
    return {"error": {"message": refusal.message, "type": "invalid_message", "code": refusal.status}}


#: The bodies of vendors that speak chat completions, but not OpenAI's errors.
_BODIES: Mapping[str, Callable[[Refusal], dict[str, Any]]] = {
    "mistral": _flat,
    "xai": _two_words,
    "cerebras": _cerebras,
    "perplexity": _numbered,
}
