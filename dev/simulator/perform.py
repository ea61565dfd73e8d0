"""Playing an answer onto the socket: its timing, and the faults that strike while it is sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from dev.simulator.answers import input_tokens
from dev.simulator.behaviour import (
    Behaviour,
    Cut,
    ErrorEvent,
    Malformed,
    NoTerminator,
    SlowFirstToken,
    Stall,
)
from dev.simulator.connection import Connection
from dev.simulator.provider import Attempt, Plan
from dev.simulator.wires.answer import Answer, Script
from dev.simulator.wires.base import Ask, Problem, Quota, Wire

#: uvloop's timers count whole milliseconds: a token is sent up to one early, and no sleep is shorter. Without it, the
#: rest of a millisecond is spent spinning.
_TICK = 0.001


@dataclass(slots=True)
class Performance:
    """One answer about to be given."""

    connection: Connection
    wire: Wire
    ask: Ask
    answer: Answer
    plan: Plan
    behaviour: Behaviour
    attempt: Attempt
    uid: str
    quota: Quota

    @property
    def pace(self) -> float:
        """Returns the seconds per token."""
        return self.behaviour.seconds_per_token * self.plan.factor

    @property
    def latency(self) -> float:
        """Returns the seconds to the first token."""
        return self.behaviour.latency_ms / 1000 * self.plan.factor


async def perform(show: Performance) -> web.StreamResponse:
    """Give the answer, streamed or whole."""
    show.attempt.status = 200
    show.attempt.input_tokens = input_tokens(show.ask)
    if show.ask.stream:
        return await _stream(show)
    return await _unary(show)


async def _unary(show: Performance) -> web.StreamResponse:
    connection, plan, attempt = show.connection, show.plan, show.attempt
    count = show.answer.count
    seconds = show.latency + count * show.pace
    if show.behaviour.unary_ms is not None:
        seconds = show.behaviour.unary_ms / 1000 * plan.factor
    slow = plan.get(SlowFirstToken)
    if slow is not None:
        seconds += slow.seconds
    if seconds > 0:
        await asyncio.sleep(seconds)
    body = show.wire.unary(show.ask, show.answer, show.uid)
    error = plan.get(ErrorEvent)
    if error is not None:
        body = show.wire.error(Problem(error.preset, show.ask.model), show.uid).body
        attempt.outcome = "error"
    elif plan.get(Malformed) is not None:
        body = body[: len(body) // 2] + b'"'
    connection.head(200, "application/json", show.wire.headers(show.uid, show.quota), len(body))
    stall = plan.get(Stall)
    if stall is not None:
        connection.flush()
        await asyncio.sleep(stall.seconds)
        if stall.then == "close":
            attempt.outcome = "stalled"
            return connection.close()
    cut = plan.get(Cut)
    if cut is not None and cut.after_tokens < count:
        connection.raw(body[: len(body) * cut.after_tokens // count])
        attempt.tokens_sent, attempt.outcome = cut.after_tokens, "cut"
        return connection.reset() if cut.how == "reset" else connection.close()
    connection.raw(body)
    if error is None:
        attempt.tokens_sent, attempt.outcome = count, "finished"
    return connection.done()


async def _stream(show: Performance) -> web.StreamResponse:
    connection, plan, attempt = show.connection, show.plan, show.attempt
    slow = plan.get(SlowFirstToken)
    if slow is None and show.latency > 0:
        await asyncio.sleep(show.latency)
    connection.head(200, show.wire.stream_content_type, show.wire.headers(show.uid, show.quota))
    if slow is not None:
        connection.flush()
        await asyncio.sleep(slow.seconds)
    script = _spoiled(show.wire.script(show.ask, show.answer, show.uid), plan)
    connection.chunk(script.opening)
    cut, error, stall = plan.get(Cut), plan.get(ErrorEvent), plan.get(Stall)
    stop = min(len(script.pieces), *(fault.after_tokens for fault in (cut, error) if fault), 1_000_000)
    sent = 0
    if stall is not None:
        sent = min(stall.after_tokens, stop)
        await _tokens(show, script.pieces, 0, sent)
        connection.flush()
        await asyncio.sleep(stall.seconds)
        if stall.then == "close":
            attempt.outcome = "stalled"
            return connection.close()
    await _tokens(show, script.pieces, sent, stop)
    if cut is not None and cut.after_tokens <= len(script.pieces) and stop == cut.after_tokens:
        attempt.outcome = "cut"
        return connection.reset() if cut.how == "reset" else connection.close()
    if error is not None:
        connection.chunk(show.wire.error_event(Problem(error.preset, show.ask.model), show.uid))
        connection.last_chunk()
        attempt.outcome = "error"
        return connection.done()
    connection.chunk(script.finish)
    if show.answer.finish and plan.get(NoTerminator) is None:
        connection.chunk(script.terminator)
    connection.last_chunk()
    attempt.outcome = "finished"
    return connection.done()


def _spoiled(script: Script, plan: Plan) -> Script:
    """Returns the script with its malformed event, if one is due."""
    fault = plan.get(Malformed)
    if fault is None:
        return script
    at = fault.at_token
    if at >= len(script.pieces):
        return Script(script.opening, script.pieces, script.malformed + script.finish, script.terminator, b"")
    spoiled = list(script.pieces)
    spoiled[at] = script.malformed if fault.replace else script.malformed + spoiled[at]
    return Script(script.opening, spoiled, script.finish, script.terminator, b"")


async def _tokens(show: Performance, events: list[bytes], first: int, last: int) -> None:
    """Sends tokens `first` to `last` at their pace. What is due together goes out in one write."""
    connection, attempt, pace = show.connection, show.attempt, show.pace
    if pace <= 0:
        connection.chunks(events[first:last])
        attempt.tokens_sent += last - first
        return
    clock = asyncio.get_running_loop().time
    start, sent = clock(), first
    while sent < last:
        due = min(last, first + 1 + int((clock() - start + _TICK) / pace))
        if due > sent:
            connection.chunks(events[sent:due])
            connection.flush()
            attempt.tokens_sent += due - sent
            sent = due
        if sent < last:
            await asyncio.sleep(max(_TICK, start + (sent - first) * pace - clock()))
