"""The store of replicas on Redis or Valkey. All keys carry one hash tag, so a cluster keeps them on one node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from libs.change import Change
from libs.clock import Clock
from libs.errors import Unavailable
from libs.resilience.circuit import BreakerState
from libs.telemetry import get_logger
from libs.throttle import Throttle
from services.health.adapters.stored_values import (
    decode_change,
    decode_circuit,
    decode_earlier_mode,
    encode_change,
    field_of,
)
from services.health.domain.evidence import Outcome, ProbePermit, ProbeResult
from services.health.domain.routes import RouteChange
from services.health.domain.target import Target
from services.health.ports import Exchange

#: Entries of evidence kept for slow readers, and for how long the last ones, in seconds.
STREAM_LENGTH = 1000
STREAM_SECONDS = 3600
#: Seconds after its last write that a circuit is dropped. Operators' changes are kept for ever.
STATES_SECONDS = 7 * 86_400

# Keeps the larger of two arrays, compared element by element like `BreakerState.order` and `Change.order`.
# KEYS: states, changes. ARGV: the time to live of states, then triples of key number, field, value.
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

# Keeps a change if the one that stands is older, and the one that it follows where it is the version before.
# KEYS: changes, unrecorded. ARGV: field, value, version, id, id of the change that it follows, 1 if it is unrecorded.
# Returns what stands where that is another.
_CHANGE = """
local kept = redis.call('HGET', KEYS[1], ARGV[1])
local good, old = pcall(cjson.decode, kept or '')
if good and type(old) == 'table' and type(old[1]) == 'number' then
  local version = tonumber(ARGV[3])
  if old[1] >= version or (old[1] == version - 1 and old[3] ~= ARGV[5]) then return kept end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[6] == '1' then redis.call('HSET', KEYS[2], ARGV[4], ARGV[2]) end
return false
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

_T = TypeVar("_T")
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Evidence:
    outcomes: tuple[Outcome, ...] = ()
    probes: tuple[ProbeResult, ...] = ()
    routes: tuple[RouteChange, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode_evidence = msgspec.json.Decoder(_Evidence).decode


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
        self._states, self._changes, self._unrecorded, self._stream = (
            f"{tag}:{name}" for name in ("states", "changes", "unrecorded", "evidence")
        )
        self._prefix = tag
        self._kept: Mapping[Target, BreakerState] = {}
        #: As last read: what is the same is not decoded again.
        self._kept_changes: dict[bytes, tuple[bytes, Change | None]] = {}
        #: Ids of unrecorded changes that were handed over: who records them takes them out for all.
        self._handed_over: set[str] = set()
        self._earlier_modes_read = False
        self._cursor = ""

    async def exchange(self, outgoing: Exchange) -> Exchange:
        async with self._calling():
            if not self._cursor:
                last: Any = await self._redis.xrevrange(self._stream, count=1)
                self._cursor = last[0][0].decode() if last else "0-0"
            earlier = () if self._earlier_modes_read else await self._read_earlier_modes()
            pipeline = self._redis.pipeline(transaction=False)
            if changed := self._changed_fields(outgoing):
                pipeline.eval(_MERGE, 2, self._states, self._changes, STATES_SECONDS, *changed)
            if new := [c for c in outgoing.unrecorded if c.change_id not in self._handed_over]:
                pipeline.hset(self._unrecorded, mapping={c.change_id: encode_change(c) for c in new})
            pipeline.hgetall(self._states)
            pipeline.hgetall(self._changes)
            pipeline.hvals(self._unrecorded)
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
        first = bool(changed) + bool(new)
        circuits, changes, unrecorded, entries = answers[first : first + 4]
        self._handed_over = {change.change_id for change in outgoing.unrecorded}
        self._earlier_modes_read = True
        self._kept = self._circuits(circuits)
        self._kept_changes = {
            field: known
            if (known := self._kept_changes.get(field)) and known[0] == value
            else (value, decode_change(value))
            for field, value in changes.items()
        }
        evidence = self._read_entries(entries)
        return Exchange(
            self._kept,
            evidence.outcomes,
            evidence.probes,
            evidence.routes,
            changes=(
                *earlier,
                *self._understood(changes.keys(), (change for _, change in self._kept_changes.values())),
            ),
            unrecorded=self._understood((b"unrecorded",) * len(unrecorded), map(decode_change, unrecorded)),
        )

    async def change(self, change: Change, follows: str, *, unrecorded: bool) -> Change | None:
        async with self._calling():
            kept: Any = await self._redis.eval(
                _CHANGE,
                *(2, self._changes, self._unrecorded, field_of(change), encode_change(change)),
                *(change.version, change.change_id, follows),
                int(unrecorded),
            )
        return None if kept is None else decode_change(kept)

    async def recorded(self, change_ids: Collection[str]) -> None:
        async with self._calling():
            await self._redis.hdel(self._unrecorded, *change_ids)

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

    def _changed_fields(self, outgoing: Exchange) -> list[str | bytes | int]:
        """Returns the arguments of `_MERGE` for what the store does not have yet, as far as is known here."""
        changed: list[str | bytes | int] = []
        closed = BreakerState()
        for target, circuit in outgoing.circuits.items():
            if circuit.order > self._kept.get(target, closed).order:
                changed += [1, str(target), _encode(circuit.order)]
        for change in outgoing.changes:
            field = field_of(change)
            kept = self._kept_changes.get(field.encode(), (b"", None))[1]
            if kept is None or change.order > kept.order:
                changed += [2, field, encode_change(change)]
        return changed

    def _read_entries(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> _Evidence:
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
        return _Evidence(tuple(outcomes), tuple(probes), tuple(routes))

    def _circuits(self, states: Mapping[bytes, bytes]) -> dict[Target, BreakerState]:
        """Reads the store's circuits."""
        found = self._understood_by_field(states.keys(), map(decode_circuit, states.values()))
        return {Target.of(field.decode()): circuit for field, circuit in found}

    def _understood(self, fields: Iterable[bytes], values: Iterable[_T | None]) -> tuple[_T, ...]:
        return tuple(value for _, value in self._understood_by_field(fields, values))

    def _understood_by_field(
        self, fields: Iterable[bytes], values: Iterable[_T | None]
    ) -> list[tuple[bytes, _T]]:
        """Returns the values that are understood. Those that a replica of another release wrote may not be: they are
        left out."""
        found = []
        for field, value in zip(fields, values, strict=True):
            if value is not None:
                found.append((field, value))
            elif times := self._not_understood.due():
                log.warning("shared_state_not_understood", field=field.decode(errors="replace"), times=times)
        return found

    async def _read_earlier_modes(self) -> tuple[Change, ...]:
        """Reads modes as an earlier release kept them, so that who upgrades lets nobody in that was blocked."""
        modes: Any = await self._redis.hgetall(f"{self._prefix}:modes")
        found = ((field, decode_earlier_mode(field, value)) for field, value in modes.items())
        return self._understood(*zip(*found, strict=True)) if modes else ()

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            # Whatever the store had may be gone when it is back: tell it everything again.
            self._kept, self._kept_changes, self._handed_over = {}, {}, set()
            raise Unavailable(
                f"The shared health store does not answer: {type(error).__name__}", reason="STORE_UNAVAILABLE"
            ) from error
