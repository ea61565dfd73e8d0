"""One virtual provider: its behaviour, the state of its faults and limits, and what it has seen."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import msgspec

from dev.simulator.behaviour import BaseFault, Behaviour, Brownout, Fault, When
from dev.simulator.limits import Limiter
from libs.clock import Clock

_ATTEMPTS_KEPT = 2000
_SECRET = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key"})

F = TypeVar("F", bound=BaseFault)


@dataclass(slots=True)
class Attempt:
    """One generation request as the provider saw it."""

    #: Seconds since the epoch, and since the behaviour was set or reset.
    at: float
    since: float
    wire: str
    #: The number of resets before it.
    generation: int
    model: str = ""
    stream: bool = False
    status: int = 0
    #: running, finished, error, rejected, cancelled (by the client), cut, stalled, silent, reset, empty, raw,
    #: shutdown.
    outcome: str = "running"
    #: Output tokens written to the socket.
    tokens_sent: int = 0
    input_tokens: int = 0
    seconds: float = 0.0
    prefill: bool = False
    #: The strict rule that the request broke.
    rule: str = ""


@dataclass(slots=True)
class Counters:
    """Since the start or the last reset. Token sums are of answers that reached the client, in full or in part."""

    requests: int = 0
    model_lists: int = 0
    streams_started: int = 0
    streams_finished: int = 0
    cancelled_by_client: int = 0
    concurrent: int = 0
    concurrent_max: int = 0
    limited: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    by_outcome: Counter[str] = field(default_factory=Counter)
    by_rule: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)


class Trigger:
    """Decides whether one fault strikes; counts the requests it could have struck."""

    __slots__ = ("_dice", "_matched", "_text", "_when", "fault", "name")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.name = str(fault.__struct_config__.tag)
        self._when: When = fault.when
        self._text = fault.when.contains.encode()
        self._matched = 0
        self._dice = random.Random(fault.when.seed)

    def strikes(
        self, endpoint: str, model: str, stream: bool, body: bytes, since: float, key: str | None
    ) -> bool:
        """Returns True if it strikes a request; `since` is in seconds since the behaviour was set."""
        when = self._when
        if when.endpoint not in (endpoint, "any") or not fnmatchcase(model, when.model):
            return False
        if when.streaming is not None and when.streaming is not stream:
            return False
        if self._text not in body or (when.key is not None and when.key != key):
            return False
        if since < when.from_seconds or (when.until_seconds is not None and since >= when.until_seconds):
            return False
        if when.down_seconds is not None:
            phase = since - when.from_seconds
            if when.up_seconds is not None:
                phase %= (when.down_seconds + when.up_seconds) or 1.0
            if phase >= when.down_seconds:
                return False
        self._matched += 1
        number = self._matched - when.skip
        if number <= 0 or (when.first is not None and number > when.first):
            return False
        if when.every is not None and number % when.every:
            return False
        return when.share is None or self._dice.random() < when.share


class Plan:
    """The faults that strike one request, one of a kind."""

    __slots__ = ("faults",)

    def __init__(self, faults: dict[type[BaseFault], BaseFault]) -> None:
        self.faults = faults

    def get(self, kind: type[F]) -> F | None:
        """Returns the fault of that kind, if it strikes."""
        return self.faults.get(kind)  # type: ignore[return-value]

    @property
    def factor(self) -> float:
        """Returns the factor by which everything takes longer."""
        brownout = self.get(Brownout)
        return brownout.factor if brownout else 1.0


_NOTHING = Plan({})


class VirtualProvider:
    """State of one name. Not thread-safe; used from one event loop."""

    def __init__(self, name: str, behaviour: Behaviour, clock: Clock) -> None:
        self.name = name
        self._clock = clock
        self.counters = Counters()
        self._generation = 0
        self.set(behaviour)

    def set(self, behaviour: Behaviour) -> None:
        """Take a new behaviour; everything counted starts again. Requests in flight end under the old one."""
        self.behaviour = behaviour
        self.reset()

    def reset(self) -> None:
        """Starts counters, faults' counts and times, and limits again."""
        running = self.counters.concurrent
        self._generation += 1
        self.since = self._clock.monotonic()
        self.counters = Counters(concurrent=running, concurrent_max=running)
        self.attempts: deque[Attempt] = deque(maxlen=_ATTEMPTS_KEPT)
        self.last_request: bytes | None = None
        self.last_headers: Mapping[str, str] = {}
        self.limiter = Limiter(self.behaviour.limits, self.since)
        self._triggers = [Trigger(fault) for fault in self.behaviour.faults]

    def plan(
        self, endpoint: str, model: str, stream: bool, body: bytes = b"", key: str | None = None
    ) -> Plan:
        """Returns the faults for one request."""
        if not self._triggers:
            return _NOTHING
        since = self._clock.monotonic() - self.since
        struck: dict[type[BaseFault], BaseFault] = {}
        for trigger in self._triggers:
            # Every trigger counts the request, whether or not an earlier one of its kind already struck.
            strikes = trigger.strikes(endpoint, model, stream, body, since, key)
            if strikes and type(trigger.fault) not in struck:
                struck[type(trigger.fault)] = trigger.fault
                self.counters.faults[trigger.name] += 1
        return Plan(struck) if struck else _NOTHING

    def begin(self, wire: str, body: bytes, headers: Mapping[str, str]) -> Attempt:
        """Records a generation request that has come in."""
        now = self._clock.monotonic()
        attempt = Attempt(self._clock.now(), now - self.since, wire, self._generation)
        counters = self.counters
        counters.requests += 1
        counters.concurrent += 1
        counters.concurrent_max = max(counters.concurrent_max, counters.concurrent)
        self.attempts.append(attempt)
        self.last_request = body
        self.last_headers = headers
        return attempt

    def end(self, attempt: Attempt) -> None:
        """Records the end of an attempt, as `attempt` has it."""
        counters = self.counters
        counters.concurrent -= 1
        if attempt.generation != self._generation:
            return
        counters.by_status[attempt.status] += 1
        counters.by_outcome[attempt.outcome] += 1
        if attempt.rule:
            counters.by_rule[attempt.rule] += 1
        attempt.seconds = self._clock.monotonic() - self.since - attempt.since
        counters.input_tokens += attempt.input_tokens
        counters.output_tokens += attempt.tokens_sent
        if attempt.outcome == "cancelled":
            counters.cancelled_by_client += 1
        elif attempt.stream and attempt.outcome == "finished":
            counters.streams_finished += 1

    def report(self) -> dict[str, Any]:
        """Returns the report for `GET /_control/<name>`."""
        try:
            last = msgspec.json.decode(self.last_request) if self.last_request else None
        except msgspec.DecodeError:
            last = None
        return {
            "name": self.name,
            "seconds_since_set": self._clock.monotonic() - self.since,
            "counters": self.counters,
            "attempts": list(self.attempts),
            "last_request": last,
            "last_headers": {
                name.lower(): "redacted" if name.lower() in _SECRET else value
                for name, value in self.last_headers.items()
            },
            "behaviour": self.behaviour,
        }
