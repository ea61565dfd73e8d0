"""A router's lease session: grants slices, takes reports, and revokes when limits or the store's life change."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from libs.clock import Clock
from libs.errors import FieldViolation, InvalidArgument
from libs.limits import LimitKey, Scope
from services.ratelimit.domain.limits import MAX_AMOUNT, check_ids
from services.ratelimit.domain.quota import Denial, Quota
from services.ratelimit.effective_limits import EffectiveLimits
from services.ratelimit.enforce import AdmissionRequest, Enforcer
from services.ratelimit.learning.learned import Observed
from services.ratelimit.learning.learning import Learning
from services.ratelimit.leases.messages import (
    Acquire,
    Answer,
    Opened,
    Report,
    Reported,
    Revoked,
    Slice,
    SliceLife,
    SliceReport,
    SlicesDenied,
    SlicesGranted,
)
from services.ratelimit.leases.sizing import divisor
from services.ratelimit.ports import Granted, LimitStore, SliceChange


@dataclass(slots=True)
class Fleet:
    """The sessions of this process, and the number of routers in all replicas (`holders`)."""

    sessions: set[LeaseSession] = field(default_factory=set)
    holders: int = 0

    def local_holders(self) -> list[str]:
        """Returns the holders with a session in this process."""
        return sorted({session.holder for session in self.sessions})


class LeaseSession:
    """One router's stream. Not safe for concurrent use; `wake` is called when `events` has messages to send."""

    def __init__(
        self,
        holder: str,
        enforcer: Enforcer,
        effective: EffectiveLimits,
        store: LimitStore,
        fleet: Fleet,
        learning: Learning,
        clock: Clock,
        *,
        ttl: float,
        unlimited: float,
        wake: Callable[[], None],
    ) -> None:
        """`ttl` of slices and `unlimited`, both in seconds. Raises InvalidArgument."""
        check_ids({"open.holder_id": holder})
        self.holder = holder
        self._enforcer = enforcer
        self._effective = effective
        self._store = store
        self._fleet = fleet
        self._learning = learning
        self._clock = clock
        self._ttl = ttl
        self._unlimited = unlimited
        self._wake = wake
        self._epoch = ""
        #: By record: its limits in slice order, and the instant by which it has expired (monotonic seconds).
        self._held: dict[str, tuple[tuple[LimitKey, ...], float]] = {}
        self._changed: set[LimitKey] = set()
        self._unsubscribe = effective.subscribe(self._limits_changed)
        fleet.sessions.add(self)

    def close(self) -> None:
        """Ends the session of a stream that is gone; its slices live until they expire."""
        self._unsubscribe()
        self._fleet.sessions.discard(self)

    async def open(self) -> list[Answer]:
        """Registers the holder with the store. Raises Unavailable."""
        await self._store.beat([self.holder])
        self._epoch = self._store.epoch
        return [Opened(self._epoch)]

    def check_epoch(self) -> None:
        """Wakes the stream if the store's life has ended."""
        if self._epoch and self._store.epoch not in ("", self._epoch):
            self._wake()

    def events(self) -> list[Answer]:
        """Returns the revocations that are due."""
        answers: list[Answer] = []
        if self._epoch and self._store.epoch not in ("", self._epoch):
            self._epoch = self._store.epoch
            self._held.clear()
            self._changed.clear()
            answers += [
                Revoked((), "dead_epoch", "the limit store may have lost writes and began a new life"),
                Opened(self._epoch),
            ]
        if self._changed:
            changed, self._changed = self._changed, set()
            ids = tuple(
                _slice_id(self._epoch, record, i)
                for record, (keys, _) in self._held.items()
                for i, key in enumerate(keys)
                if key in changed
            )
            if ids:
                answers.append(Revoked(ids, "limit_changed", "the limit was changed"))
        return answers

    async def handle(self, messages: Sequence[Acquire | Report | Observed]) -> list[Answer]:
        """Returns the answers in the order of the messages, reports first: they may free what is asked for.
        Raises InvalidArgument, Unavailable."""
        answers = await self._report([m for m in messages if isinstance(m, Report)])
        answers += await self._acquire([m for m in messages if isinstance(m, Acquire)])
        # A router sends all that it has learned: of several such messages the last counts.
        for observed in [m for m in messages if isinstance(m, Observed)][-1:]:
            await self._learning.record(self.holder, observed)
        return self.events() + answers

    async def _acquire(self, messages: Sequence[Acquire]) -> list[Answer]:
        requests: list[tuple[Acquire, tuple[Scope, ...], AdmissionRequest | None]] = []
        for message in messages:
            scopes = message.scopes
            unlimited = tuple(scope for scope in scopes if not self._effective.of((scope,)))
            request = None
            if len(unlimited) < len(scopes):
                request = AdmissionRequest(
                    f"lease-{secrets.token_hex(8)}",
                    self.holder,
                    scopes,
                    message.need,
                    message.need.most(message.want),
                    self._ttl,
                    divisor(self._fleet.holders),
                    message.whole,
                )
            requests.append((message, unlimited, request))
        results = iter(
            await self._enforcer.admit([request for _, _, request in requests if request is not None])
        )
        return [
            self._granted(message, unlimited, request, next(results) if request is not None else None)
            for message, unlimited, request in requests
        ]

    def _granted(
        self,
        message: Acquire,
        unlimited: tuple[Scope, ...],
        request: AdmissionRequest | None,
        result: Granted | Denial | Exception | None,
    ) -> Answer:
        if isinstance(result, Exception):
            raise result
        if isinstance(result, Denial):
            return SlicesDenied(message.sequence, result)
        until = self._clock.now() + self._unlimited if unlimited else None
        if request is None or result is None:
            return SlicesGranted(message.sequence, (), unlimited, until)
        keys = tuple(q.limit.key for q in result.quotas)
        self._track(request.record_id, keys)
        slices = tuple(
            self._slice(request.record_id, i, amount, state, result)
            for i, (amount, state) in enumerate(zip(result.amounts, result.quotas, strict=True))
        )
        return SlicesGranted(message.sequence, slices, unlimited, until)

    def _slice(self, record: str, index: int, amount: int, state: Quota, granted: Granted) -> Slice:
        calendar = state.limit.key.period.seconds == 0
        return Slice(
            _slice_id(self._store.epoch, record, index),
            state.limit,
            amount,
            granted.expires,
            granted.expires - granted.now,
            state.remaining,
            state.reset - granted.now if calendar and state.reset is not None else None,
        )

    async def _report(self, messages: Sequence[Report]) -> list[Answer]:
        """Applies all reports of the batch in one call; later reports about a slice replace earlier ones."""
        changes: dict[str, dict[int, SliceChange]] = {}
        dead: list[str] = []
        for message in messages:
            for i, entry in enumerate(message.slices):
                _check_report(entry, f"report.slices[{i}]")
                epoch, record, index = _parse(entry.slice_id)
                if epoch != self._store.epoch:
                    dead.append(entry.slice_id)
                    continue
                merged = changes.setdefault(record, {})
                merged[index] = _merge(merged.get(index), entry, index)
        if not changes:
            lives = {}
        else:
            lives = await self._store.report(
                self.holder, {record: tuple(found.values()) for record, found in changes.items()}
            )
        answers: list[Answer] = []
        unknown: list[str] = []
        for message in messages:
            alive = []
            for entry in message.slices:
                _, record, index = _parse(entry.slice_id)
                life = lives.get(record)
                if life is None or entry.slice_id in dead:
                    continue
                if not life.known:
                    unknown.append(entry.slice_id)
                elif life.expires is not None and not entry.closed:
                    alive.append(SliceLife(entry.slice_id, life.expires, life.ttl))
                if life.expires is None:
                    self._held.pop(record, None)
                elif record in self._held:
                    self._track(record, self._held[record][0])
            answers.append(Reported(message.sequence, tuple(alive)))
        if dead:
            answers.append(Revoked(tuple(dead), "dead_epoch", "granted in an earlier life of the store"))
        if unknown:
            answers.append(
                Revoked(tuple(unknown), "unknown_slice", "not known: forgotten, or never this holder's")
            )
        return answers

    def _track(self, record: str, keys: tuple[LimitKey, ...]) -> None:
        now = self._clock.monotonic()
        self._held.pop(record, None)
        self._held[record] = (keys, now + self._ttl)
        # Insertion order is order of expiry.
        while (oldest := next(iter(self._held))) and self._held[oldest][1] < now:
            del self._held[oldest]

    def _limits_changed(self, changed: frozenset[LimitKey]) -> None:
        if any(key in changed for keys, _ in self._held.values() for key in keys):
            self._changed |= changed
            self._wake()


def _slice_id(epoch: str, record: str, index: int) -> str:
    return f"{epoch}.{record}.{index}"


def _parse(slice_id: str) -> tuple[str, str, int]:
    epoch, record, index = slice_id.split(".")
    return epoch, record, int(index)


def _check_report(entry: SliceReport, field_: str) -> None:
    faults = []
    parts = entry.slice_id.split(".")
    if len(parts) != 3 or not all(parts) or not parts[2].isascii() or not parts[2].isdigit():
        faults.append(FieldViolation(f"{field_}.slice_id", "is not a slice's id"))
    else:
        check_ids({f"{field_}.slice_id": entry.slice_id})
    for name, value in (("used", entry.used), ("overrun", entry.overrun)):
        if not 0 <= value <= MAX_AMOUNT:
            faults.append(FieldViolation(f"{field_}.{name}", f"must be from 0 to {MAX_AMOUNT}, not {value}"))
    if faults:
        raise InvalidArgument(faults, reason="BAD_SLICE_REPORT")


def _merge(before: SliceChange | None, entry: SliceReport, index: int) -> SliceChange:
    """Merges two reports on a slice: a closing one is final; of others the highest figures count."""
    if before is None or (entry.closed and not before.closed):
        renew = entry.renew or (before is not None and before.renew)
        return SliceChange(index, entry.used, entry.overrun, entry.closed, renew)
    if before.closed:
        return before
    return SliceChange(
        index,
        max(before.used, entry.used),
        max(before.overrun, entry.overrun),
        False,
        before.renew or entry.renew,
    )
