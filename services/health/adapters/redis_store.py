"""The store of replicas on Redis or Valkey. All keys carry one hash tag, so a cluster keeps them on one node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from libs.clock import Clock
from libs.errors import Unavailable
from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from libs.telemetry import get_logger
from libs.throttle import Throttle
from services.health.domain.evidence import Outcome, ProbePermit, ProbeResult
from services.health.domain.fleet import SharedState
from services.health.domain.routes import RouteChange
from services.health.domain.target import Mode, ModeRecord, Target
from services.health.ports import Exchange

#: Entries of evidence kept for slow readers, and for how long the last ones, in seconds.
STREAM_LENGTH = 1000
STREAM_SECONDS = 3600
#: Seconds after its last write that a circuit is dropped. Modes are kept for ever.
STATES_SECONDS = 7 * 86_400

# Keeps the larger of two arrays, compared element by element like `BreakerState.order` and `ModeRecord.order`.
# KEYS: states, modes. ARGV: the time to live of states, then triples of key number, field, value.
_MERGE = """
local function larger(a, b)
  for i = 1, #a do
    if b[i] == nil or type(a[i]) ~= type(b[i]) then return true end
    if a[i] ~= b[i] then return a[i] > b[i] end
  end
  return false
end
for i = 2, #ARGV, 3 do
  local key, field, value = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]
  local kept = redis.call('HGET', key, field)
  local good, old = pcall(cjson.decode, kept or '')
  if not good or type(old) ~= 'table' or larger(cjson.decode(value), old) then
    redis.call('HSET', key, field, value)
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""

# A permit is a member of a sorted set with its expiry as score, on the server's clock.
# KEYS: permits. ARGV: id, limit, time to live in ms. Returns the expiry in ms, or 0.
_ACQUIRE = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return now + ARGV[3]
"""

_SEVERITY = (CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN)
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Evidence:
    outcomes: tuple[Outcome, ...] = ()
    probes: tuple[ProbeResult, ...] = ()
    routes: tuple[RouteChange, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode_evidence = msgspec.json.Decoder(_Evidence).decode
_decode_order = msgspec.json.Decoder(list[Any]).decode


class RedisHealthStore:
    """Satisfies `ports.HealthStore`. `domain` separates fleets that use one server; `instance` is this replica;
    `token` makes unique texts."""

    def __init__(
        self,
        redis: Redis,
        domain: str,
        instance: str,
        token: Callable[[], str],
        clock: Clock,
        timeout: float = 1.0,
    ) -> None:
        tag = f"{{pointsman:{domain}:health:1}}"
        self._redis = redis
        self._instance = instance
        self._token = token
        self._timeout = timeout
        #: The same values are read at every exchange: logged at most every ten seconds.
        self._not_understood = Throttle(clock)
        self._states, self._modes, self._stream = (
            f"{tag}:{name}" for name in ("states", "modes", "evidence")
        )
        self._prefix = tag
        self._kept: Mapping[Target, SharedState] = {}
        self._cursor = ""

    async def exchange(self, outgoing: Exchange) -> Exchange:
        async with self._calling():
            if not self._cursor:
                last: Any = await self._redis.xrevrange(self._stream, count=1)
                self._cursor = last[0][0].decode() if last else "0-0"
            pipeline = self._redis.pipeline(transaction=False)
            if changed := self._changed_fields(outgoing.shared):
                pipeline.eval(_MERGE, 2, self._states, self._modes, STATES_SECONDS, *changed)
            pipeline.hgetall(self._states)
            pipeline.hgetall(self._modes)
            pipeline.xrange(self._stream, min=f"({self._cursor}", count=STREAM_LENGTH)
            if outgoing.outcomes or outgoing.probes or outgoing.routes:
                body = _encode(_Evidence(outgoing.outcomes, outgoing.probes, outgoing.routes))
                pipeline.xadd(
                    self._stream,
                    {"from": self._instance, "evidence": body},
                    maxlen=STREAM_LENGTH,
                    approximate=True,
                )
                pipeline.expire(self._stream, STREAM_SECONDS)
            answers = await pipeline.execute()
        states, modes, entries = answers[bool(changed) : bool(changed) + 3]
        self._kept = self._shared(states, modes)
        return self._read_entries(entries)

    async def acquire(
        self, target: Target, generation: int, prefix: str, limit: int, ttl: float
    ) -> ProbePermit | None:
        permit = f"{prefix}{self._token()}"
        key = self._permits(target, generation)
        async with self._calling():
            expires = await self._redis.eval(_ACQUIRE, 1, key, permit, limit, int(ttl * 1000))
        return ProbePermit(permit, int(expires) / 1000) if expires else None

    async def release(self, target: Target, generation: int, permit_id: str) -> None:
        async with self._calling():
            await self._redis.zrem(self._permits(target, generation), permit_id)

    async def claim(self, name: str, ttl: float) -> bool:
        async with self._calling():
            taken = await self._redis.set(
                f"{self._prefix}:claim:{name}", self._instance, nx=True, px=max(1, int(ttl * 1000))
            )
        return bool(taken)

    def _permits(self, target: Target, generation: int) -> str:
        return f"{self._prefix}:permits:{target}:{generation}"

    def _changed_fields(self, shared: Mapping[Target, SharedState]) -> list[str | bytes | int]:
        """Returns the arguments of `_MERGE` for states that the store does not have yet, as far as is known here."""
        changed: list[str | bytes | int] = []
        nothing = SharedState(BreakerState(), ModeRecord())
        for target, mine in shared.items():
            kept = self._kept.get(target, nothing)
            if mine.circuit.order > kept.circuit.order:
                changed += [1, str(target), _encode(mine.circuit.order)]
            if mine.mode.order > kept.mode.order:
                changed += [2, str(target), _encode(mine.mode.order)]
        return changed

    def _read_entries(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> Exchange:
        outcomes: list[Outcome] = []
        probes: list[ProbeResult] = []
        routes: list[RouteChange] = []
        for entry_id, entry in entries:
            self._cursor = entry_id.decode()
            if entry.get(b"from", b"").decode(errors="replace") == self._instance:
                continue
            try:
                evidence = _decode_evidence(entry.get(b"evidence", b""))
            except msgspec.MsgspecError as error:
                # A replica of another release may send what this one does not understand.
                if times := self._not_understood.due():
                    log.warning("evidence_not_understood", error=str(error), times=times)
                continue
            outcomes += evidence.outcomes
            probes += evidence.probes
            routes += evidence.routes
        return Exchange(self._kept, tuple(outcomes), tuple(probes), tuple(routes))

    def _shared(
        self, states: Mapping[bytes, bytes], modes: Mapping[bytes, bytes]
    ) -> dict[Target, SharedState]:
        """Reads the store's values. Those that a replica of another release wrote may not be understood: they are
        left out."""
        circuits = {field: _circuit(value) for field, value in states.items()}
        records = {field: _mode(value) for field, value in modes.items()}
        for field, read in (*circuits.items(), *records.items()):
            if read is None and (times := self._not_understood.due()):
                log.warning("shared_state_not_understood", target=field.decode(errors="replace"), times=times)
        return {
            Target(*field.decode().partition("/")[::2]): SharedState(
                circuits.get(field) or BreakerState(), records.get(field) or ModeRecord()
            )
            for field in circuits.keys() | records.keys()
            if circuits.get(field) or records.get(field)
        }

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            # Whatever the store had may be gone when it is back: tell it everything again.
            self._kept = {}
            raise Unavailable(
                f"The shared health store does not answer: {type(error).__name__}", reason="STORE_UNAVAILABLE"
            ) from error


def _circuit(value: bytes) -> BreakerState | None:
    """Reads a value from its order; None where it is not understood."""
    try:
        generation, severity, open_until, since, trips, cause = _decode_order(value)
        return BreakerState(
            _SEVERITY[severity],
            int(generation),
            float(open_until),
            TripCause(cause),
            float(since),
            int(trips),
        )
    except (msgspec.MsgspecError, ValueError, TypeError, IndexError):
        return None


def _mode(value: bytes) -> ModeRecord | None:
    """Reads a value from its order; None where it is not understood."""
    try:
        version, at, mode, reason = _decode_order(value)
        return ModeRecord(Mode(mode), int(version), float(at), str(reason))
    except (msgspec.MsgspecError, ValueError, TypeError):
        return None
