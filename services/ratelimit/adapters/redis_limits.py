"""The limit store on Redis or Valkey. The rules are in limits.lua; this side names keys, packs and unpacks."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence

import structlog

from libs.clock import Clock
from libs.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, PermissionDenied, Unavailable
from libs.limits import CONCURRENCY, UNIT_BY_NUMBER, Amounts, LimitKey, by_unit
from services.ratelimit.adapters.dimensions import (
    WindowCache,
    doubles,
    pack_dimensions,
    readings,
    unpack,
    views,
)
from services.ratelimit.adapters.redis_functions import Functions
from services.ratelimit.domain.limits import Limit, key_of
from services.ratelimit.domain.quota import Denial, Reading, denial, quota, violation
from services.ratelimit.ports import (
    Admission,
    Beat,
    Granted,
    Override,
    RecordLife,
    SeedNeeded,
    SliceChange,
    StaleLimits,
)

log = structlog.get_logger(__name__)

#: Records expired, and idle limits forgotten, in one beat: about a millisecond of the store's time.
SWEEP_BATCH = 50
#: New epochs and new windows in a row before giving up on a store that does not settle.
_ATTEMPTS = 4


class Keys:
    """The names of all keys of a limit domain; one hash tag, so one slot of a cluster."""

    def __init__(self, domain: str) -> None:
        self.prefix = f"pointsman:{{{domain}}}:"
        self.meta = f"{self.prefix}meta"
        self.due = f"{self.prefix}due"
        self.holders = f"{self.prefix}holders"
        self.limits = f"{self.prefix}limits"
        self.audit = f"{self.prefix}audit"

    def record(self, record_id: str) -> str:
        """Returns the key of a reservation or lease."""
        return f"{self.prefix}r:{record_id}"

    def dimension(self, key: LimitKey) -> str:
        """Returns the key of a limit's counter."""
        return f"{self.prefix}d:{_field(key)}"


class RedisLimitStore:
    """Satisfies `ports.LimitStore`; one per process and limit domain."""

    def __init__(
        self,
        functions: Functions,
        domain: str,
        clock: Clock,
        *,
        trust: bool = False,
        learn: float = 10.0,
        test_now: Callable[[], int] | None = None,
    ) -> None:
        """`trust`: the server keeps every write over restarts and a new one has no past. `learn`: seconds until
        slices of an earlier life are dead. `test_now`: the store's clock in ms, for tests only."""
        self._functions = functions
        self._keys = Keys(domain)
        self._clock = clock
        self._trust = trust
        self._learn_ms = int(learn * 1000)
        self._test_now = test_now
        self._skew_ms = 0
        self._epoch = ""
        self._windows = WindowCache()

    @property
    def epoch(self) -> str:
        return self._epoch

    async def admit(self, admissions: Sequence[Admission]) -> list[Granted | Denial | Exception]:
        results: list[Granted | Denial | Exception | None] = [None] * len(admissions)
        for _ in range(_ATTEMPTS):
            open_ = [i for i, result in enumerate(results) if result is None]
            if not open_:
                break
            await self._ensure_epoch()
            now_ms = self._now_ms()
            calls = [self._admit_call(admissions[i], now_ms) for i in open_]
            for i, answer in zip(open_, await self._functions.call_all(calls), strict=True):
                results[i] = self._admitted(admissions[i], answer)
        return [r if r is not None else _unsettled() for r in results]

    def _admit_call(
        self, a: Admission, now_ms: int
    ) -> tuple[str, list[str], list[str | bytes | int | float]]:
        head = (a.version, int(a.ttl * 1000), a.divisor, self._test_time())
        numbers = pack_dimensions(head, a.limits, a.need, a.want, now_ms, self._windows)
        keys = [self._keys.meta, self._keys.due, self._keys.record(a.record_id)]
        keys += [self._keys.dimension(limit.key) for limit in a.limits]
        return ("pointsman_v1_admit", keys, [self._epoch, a.holder, a.fingerprint, numbers])

    def _admitted(self, a: Admission, answer: bytes) -> Granted | Denial | Exception | None:
        letter, numbers = answer[:1], unpack(answer[1:]) if answer[:1] in b"DGRSW" else ()
        if letter in (b"D", b"G"):
            return self._verdict(a, letter == b"G", numbers)
        if letter == b"R":
            return Granted(numbers[0] / 1000, numbers[1] / 1000, (), (), repeated=True)
        if letter == b"S":
            return SeedNeeded([a.limits[int(i) - 1] for i in numbers])
        if letter == b"V":
            return StaleLimits()
        if letter == b"F":
            return PermissionDenied("This reservation is another holder's", reason="FOREIGN_RESERVATION")
        if letter == b"X":
            return AlreadyExists("This id was used for another reservation", reason="RESERVATION_ID_TAKEN")
        if letter == b"C":
            return FailedPrecondition("This reservation is over", reason="RESERVATION_OVER")
        self._prepare_retry(letter, numbers)
        return None

    def _verdict(self, a: Admission, granted: bool, numbers: Sequence[float]) -> Granted | Denial:
        now_ms, now = int(numbers[0]), numbers[0] / 1000
        found = views(numbers[2:], a.limits, now_ms, self._windows)
        if not granted:
            return denial(
                [
                    violation(limit, reading, need, now)
                    for limit, need, (flag, _, reading) in zip(a.limits, a.need, found, strict=True)
                    if flag == 1
                ],
                now,
            )
        return Granted(
            now,
            numbers[1] / 1000,
            tuple(grant for _, grant, _ in found),
            tuple(quota(limit, r, now) for limit, (_, _, r) in zip(a.limits, found, strict=True)),
            tuple(limit.key for limit, (flag, _, _) in zip(a.limits, found, strict=True) if flag == 2),
        )

    async def settle(self, record_id: str, holder: str, used: Amounts) -> None:
        await self._finish(record_id, holder, "settle", used)

    async def cancel(self, record_id: str, holder: str) -> None:
        await self._finish(record_id, holder, "cancel", Amounts())

    async def _finish(self, record_id: str, holder: str, verb: str, used: Amounts) -> None:
        amounts = _settled_amounts(used)
        numbers = doubles(1 + len(amounts)).pack(self._test_time(), *amounts)
        keys = [self._keys.meta, self._keys.due, self._keys.record(record_id)]
        answer = await self._call("pointsman_v1_finish", keys, [holder, verb, numbers])
        if answer == b"U":
            raise NotFound("There is no such reservation, or no longer", reason="RESERVATION_UNKNOWN")
        if answer == b"F":
            raise PermissionDenied("This reservation is another holder's", reason="FOREIGN_RESERVATION")
        if answer == b"B":
            raise FailedPrecondition(
                "This reservation was settled with other amounts or cancelled", reason="RESERVATION_OVER"
            )

    async def report(
        self, holder: str, changes: Mapping[str, Sequence[SliceChange]]
    ) -> dict[str, RecordLife]:
        args: list[str | bytes | int | float] = [holder, self._test_time()]
        for entries in changes.values():
            flat = [float(n) for e in entries for n in (e.index + 1, e.used, e.overrun, e.closed, e.renew)]
            args.append(doubles(len(flat)).pack(*flat))
        keys = [self._keys.meta, self._keys.due, *(self._keys.record(r) for r in changes)]
        answer = await self._call("pointsman_v1_report", keys, args)
        now, *expiries = unpack(answer[len(changes) :])
        return {
            record: RecordLife(
                answer[i : i + 1] == b"O", expiries[i] / 1000 or None, max(0.0, (expiries[i] - now) / 1000)
            )
            for i, record in enumerate(changes)
        }

    async def read(self, limits: Sequence[Limit]) -> tuple[float, list[Reading]]:
        zeros = [0] * len(limits)
        for _ in range(_ATTEMPTS):
            keys = [self._keys.meta, *(self._keys.dimension(limit.key) for limit in limits)]
            blob = pack_dimensions((self._test_time(),), limits, zeros, zeros, self._now_ms(), self._windows)
            answer = await self._call("pointsman_v1_read", keys, [blob])
            numbers = unpack(answer[1:])
            if answer[:1] == b"S":
                raise SeedNeeded([limits[int(numbers[0]) - 1]])
            if answer[:1] == b"G":
                return numbers[0] / 1000, readings(numbers[2:])
            self._prepare_retry(answer[:1], numbers)
        raise _unsettled()

    async def seed(self, limit: Limit, spent: int) -> None:
        for _ in range(_ATTEMPTS):
            bounds = self._windows.at(limit.key.period, limit.time_zone, self._now_ms())
            blob = doubles(5).pack(self._test_time(), bounds.start, bounds.middle, bounds.end, spent)
            keys = [self._keys.meta, self._keys.due, self._keys.dimension(limit.key)]
            answer = await self._call("pointsman_v1_seed", keys, [blob])
            if answer[:1] == b"O":
                return
            self._prepare_retry(answer[:1], unpack(answer[1:]))
        raise _unsettled()

    async def beat(self, holders: Sequence[str]) -> Beat:
        keys = [self._keys.meta, self._keys.due, self._keys.holders]
        answer = await self._call("pointsman_v1_beat", keys, [self._test_time(), SWEEP_BATCH, *holders])
        now, version, swept, _, alive, learning = unpack(answer[1:])
        if self._test_now is None:
            self._skew_ms = int(now - self._clock.now() * 1000)
        backlog = swept >= SWEEP_BATCH
        return Beat(now / 1000, int(version), self._epoch, int(alive), backlog, learning / 1000)

    async def overrides(self) -> tuple[int, dict[LimitKey, Override]]:
        # The version first: a change in between is seen twice, never missed.
        version = (await self.beat(())).version
        stored = await self._functions.hash(self._keys.limits)
        found: dict[LimitKey, Override] = {}
        for field, value in stored.items():
            scope, unit, period = field.decode().rsplit("|", 2)
            key = key_of(scope, int(unit), int(period))
            entry = json.loads(value)
            limit = None
            if entry["limit"]:
                limit = Limit(key, **json.loads(entry["limit"]), version=int(entry["version"]))
            found[key] = Override(limit, int(entry["version"]))
        return version, found

    async def set_override(
        self, key: LimitKey, limit: Limit | None, expected_version: int | None, actor: str, reason: str
    ) -> int:
        text = ""
        if limit is not None:
            fields: dict[str, object] = {
                "limit": limit.limit,
                "burst": limit.burst,
                "time_zone": limit.time_zone,
                "shadow": limit.shadow,
            }
            if limit.pace:
                # Only where it is set: replicas that do not know it yet can read all the others.
                fields["pace"] = True
            text = json.dumps(fields)
        field = _field(key)
        expected = "" if expected_version is None else str(expected_version)
        keys = [self._keys.meta, self._keys.limits, self._keys.audit]
        answer = await self._call(
            "pointsman_v1_set", keys, [field, expected, text, actor, reason, self._test_time()]
        )
        (version,) = unpack(answer[1:])
        if answer[:1] == b"B":
            raise Aborted(
                f"The limit's version is {int(version)}, not {expected}", reason="LIMIT_VERSION_CHANGED"
            )
        return int(version)

    async def _call(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int | float]) -> bytes:
        """Calls a function with the present epoch as first argument."""
        for _ in range(_ATTEMPTS):
            await self._ensure_epoch()
            answer = await self._functions.call(name, keys, [self._epoch, *args])
            if answer[:1] != b"E":
                return answer
            self._prepare_retry(b"E", ())
        raise _unsettled()

    async def _ensure_epoch(self) -> None:
        if self._epoch:
            return
        await self._functions.load()
        trust = 2 if self._trust else 1 if await self._keeps_writes() else 0
        args: list[str | bytes | int | float] = [
            secrets.token_hex(8),
            trust,
            self._learn_ms,
            self._test_time(),
        ]
        self._epoch = (
            await self._functions.call("pointsman_v1_begin", [self._keys.meta, self._keys.due], args)
        ).decode()
        log.info("limit_store_epoch", epoch=self._epoch, trust=trust)

    async def _keeps_writes(self) -> bool:
        """Returns True if a restart of this very server loses nothing: every write is synced, and it was never a
        replica."""
        persistence = await self._functions.info("persistence")
        replication = await self._functions.info("replication")
        return (
            persistence.get("aof_enabled") == 1
            and replication.get("connected_slaves") == 0
            and str(replication.get("master_replid2", "")).strip("0") == ""
            and await self._functions.option("appendfsync") == "always"
        )

    def _prepare_retry(self, letter: bytes, numbers: Sequence[float]) -> None:
        """Prepares another attempt: the epoch ended, or the store's clock is in another window than ours."""
        if letter == b"E":
            self._epoch = ""
        elif letter == b"W":
            self._skew_ms = int(numbers[0] - self._clock.now() * 1000)
        else:
            raise AssertionError(f"unknown answer {letter!r}")

    def _test_time(self) -> int:
        return self._test_now() if self._test_now is not None else 0

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000) + self._skew_ms


def _field(key: LimitKey) -> str:
    """Returns the limit's name in the store; `overrides` reads it."""
    return f"{key.scope}|{key.unit.number}|{key.period.number}"


def _settled_amounts(used: Amounts) -> list[int]:
    """Returns what a settlement posts of each unit, in the order of their numbers; concurrency is released whole."""
    amounts = by_unit(used)
    return [0 if unit is CONCURRENCY else amounts[unit] for _, unit in sorted(UNIT_BY_NUMBER.items())]


def _unsettled() -> Unavailable:
    return Unavailable("The limit store keeps changing", reason="LIMIT_STORE_UNSETTLED", retry_after=1.0)
