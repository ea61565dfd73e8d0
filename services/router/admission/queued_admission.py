"""The queue in front of the limits: who may wait for capacity that comes back soon waits its turn, the rest is
refused at once with when to come back.

There is a lane for each scope that has run out of something; its waiters are ordered by `fair_queue`. One task a
lane asks for its head: when the limiter will have room, when a call on that scope has ended, or when
somebody more important joins. As long as a lane has waiters, nobody passes them: a claim on its scope joins it, or is
refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from libs.clock import Clock
from libs.errors import QuotaViolation
from libs.limits import Amounts, QueueKey, Scope
from libs.telemetry import Metrics, get_logger
from services.router.admission.admission import Admission, Claim, Permit
from services.router.admission.amounts import AdmissionDenied
from services.router.admission.fair_queue import FairQueue, Room, Waiter
from services.router.admission.meters import QueueMeters
from services.router.admission.shortage import seconds_each, shortage_of

#: RetryInfo of a refusal is at least this, seconds.
SOONEST: Final = 0.1

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """Seconds and counts. `within`: capacity that comes back later than this is not waited for. `longest`: nobody
    waits longer. `most`: waiters in all; `most_of_tenant`: of one tenant; `most_tokens`: of their prompts."""

    within: float = 5.0
    longest: float = 30.0
    most: int = 1000
    most_of_tenant: int = 250
    most_tokens: int = 16_000_000

    def __post_init__(self) -> None:
        if self.within < 0 or self.longest <= 0:
            raise ValueError("a queue needs within >= 0 and longest > 0")


@dataclass(slots=True, eq=False)
class _Waiter(Waiter):
    claim: Claim
    since: float
    #: Monotonic seconds at which it gives up.
    until: float
    permit: asyncio.Future[Permit]
    lane: _Lane | None = None
    #: Asking again before this is in vain, unless a call ends: how many had when it was last asked for.
    not_before: float = 0.0
    ends: int = 0


@dataclass(slots=True, eq=False)
class _Lane:
    scope: Scope
    queue: FairQueue[_Waiter]
    #: The latest refusal by the limiter.
    denied: AdmissionDenied
    #: Calls on the scope that have ended.
    ends: int = 0
    #: Something changed: look at the head again.
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class QueuedAdmission:
    """Satisfies `Admission` in front of another that never waits."""

    def __init__(self, inner: Admission, clock: Clock, metrics: Metrics, bounds: QueueBounds) -> None:
        self._inner = inner
        self._clock = clock
        self._bounds = bounds
        self._room = Room(bounds.most, bounds.most_of_tenant, bounds.most_tokens)
        self._lanes: dict[Scope, _Lane] = {}
        self._meters = QueueMeters(metrics)

    def try_admit(self, scopes: Sequence[Scope], amounts: Amounts) -> Permit | None:
        """Admits from what is held, unless somebody waits for any of the scopes."""
        if self._lanes and any(scope in self._lanes for scope in scopes):
            return None
        permit = self._inner.try_admit(scopes, amounts)
        return None if permit is None else self._watched(permit, scopes)

    async def admit(self, claim: Claim, timeout: float) -> Permit:
        """Asks, and waits as long as the claim's patience and the bounds allow. Raises AdmissionDenied."""
        lane = self._lane_of(claim)
        if lane is None:
            try:
                permit = await self._inner.admit(claim, timeout)
            except AdmissionDenied as denied:
                short = shortage_of(denied, self._bounds.within)
                if short is None or claim.patience <= 0 or not _waits(claim, denied):
                    raise
                lane = self._lanes.get(short.scope) or self._open(short.scope, denied)
            else:
                return self._watched(permit, claim.scopes)
        return await self._wait(claim, lane)

    def _watched(self, permit: Permit, scopes: Sequence[Scope]) -> Permit:
        permit.on_end(partial(self.wake_lanes, scopes))
        return permit

    def wake_lanes(self, scopes: Sequence[Scope]) -> None:
        """Makes the heads that wait for these scopes be asked for again, since a call on them has ended."""
        if self._lanes:
            for scope in scopes:
                if (lane := self._lanes.get(scope)) is not None:
                    lane.ends += 1
                    lane.woken.set()

    def _lane_of(self, claim: Claim, after: Scope | None = None) -> _Lane | None:
        """The first lane with waiters that the claim has to pass, of those that come after that of `after`."""
        # Those shared with other tenants come last: whoever leads there has nothing else to wait for.
        order = sorted(claim.scopes, key=lambda scope: scope.kind.shared)
        if after in order:
            order = order[order.index(after) + 1 :]
        return next((self._lanes[scope] for scope in order if scope in self._lanes), None)

    def _open(self, scope: Scope, denied: AdmissionDenied) -> _Lane:
        now = self._clock.monotonic()
        lane = _Lane(scope, FairQueue(now, aging=self._bounds.longest * 2 / 3), denied)
        self._lanes[scope] = lane
        lane.task = asyncio.create_task(self._serve(lane), name=f"queue {scope}")
        lane.task.add_done_callback(lambda task: self._closed(lane, task))
        return lane

    async def _wait(self, claim: Claim, lane: _Lane) -> Permit:
        now = self._clock.monotonic()
        patience = min(claim.patience, self._bounds.longest)
        tokens = claim.amounts.input_tokens
        cost = max(1, tokens + claim.amounts.output_tokens)
        expected = self._expected(lane, claim, now)
        if patience <= 0 or not _waits(claim, lane.denied):
            raise self._refusal(lane, claim, expected)
        if expected > patience:
            self._meters.refused(claim.priority, "hopeless")
            raise self._refusal(lane, claim, expected)
        full = self._room.full(claim.tenant, claim.priority, tokens)
        if full:
            self._meters.refused(claim.priority, "full")
            raise self._refusal(lane, claim, expected, full)
        loop = asyncio.get_running_loop()
        waiter = _Waiter(claim.tenant, claim.priority, cost, claim, now, now + patience, loop.create_future())
        self._meters.joined(claim.priority, lane.queue.ahead(claim.tenant, claim.priority), expected)
        self._room.enter(claim.tenant, tokens)
        self._join(lane, waiter, now)
        outcome = "left"
        try:
            await asyncio.wait([waiter.permit], timeout=patience)
            if not waiter.permit.done():
                outcome = "expired"
                now = self._clock.monotonic()
                stuck = waiter.lane or lane
                self._meters.refused(claim.priority, "expired")
                raise self._refusal(stuck, claim, self._expected(stuck, claim, now))
            outcome = "refused" if waiter.permit.exception() is not None else "admitted"
            return self._watched(waiter.permit.result(), claim.scopes)
        finally:
            self._leave(waiter)
            self._room.leave(claim.tenant, tokens)
            if outcome == "left" and waiter.permit.done() and waiter.permit.exception() is None:
                # The caller went away in the very moment of its turn.
                self._watched(waiter.permit.result(), claim.scopes).cancel()
            self._meters.left(claim.priority, outcome, self._clock.monotonic() - waiter.since)

    def _join(self, lane: _Lane, waiter: _Waiter, now: float) -> None:
        waiter.lane, waiter.ends = lane, lane.ends
        lane.queue.push(waiter, now)
        if lane.queue.head(now) is waiter:
            lane.woken.set()

    def _leave(self, waiter: _Waiter) -> None:
        lane, waiter.lane = waiter.lane, None
        if lane is not None and lane.queue.left(waiter):
            lane.woken.set()

    async def _serve(self, lane: _Lane) -> None:
        """Admits the lane's heads one by one, as soon as there is room, until nobody waits."""
        while True:
            now = self._clock.monotonic()
            head = lane.queue.head(now)
            if head is None:
                del self._lanes[lane.scope]
                return
            lane.woken.clear()
            if head.not_before > now and head.ends == lane.ends:
                await _wait_for(lane.woken, head.not_before - now)
                continue
            other = self._lane_of(head.claim, lane.scope)
            if other is not None and not _waits(head.claim, other.denied):
                self._refuse(
                    lane, head, self._refusal(other, head.claim, self._expected(other, head.claim, now))
                )
                continue
            if other is not None:
                lane.queue.left(head)
                self._join(other, head, now)
                continue
            head.ends = lane.ends
            try:
                permit = await self._inner.admit(head.claim, head.until - now)
            except AdmissionDenied as denied:
                self._denied(lane, head, denied)
            else:
                self._admitted(lane, head, permit)

    def _admitted(self, lane: _Lane, waiter: _Waiter, permit: Permit) -> None:
        if waiter.lane is not lane:
            permit.cancel()
            return
        lane.queue.served(waiter, self._clock.monotonic())
        waiter.lane = None
        waiter.permit.set_result(permit)

    def _denied(self, lane: _Lane, waiter: _Waiter, denied: AdmissionDenied) -> None:
        now = self._clock.monotonic()
        if waiter.lane is not lane:
            return
        short = shortage_of(denied, self._bounds.within)
        hopeless = short is None or (short.firm and now + short.seconds > waiter.until)
        if short is None or hopeless or not _waits(waiter.claim, denied):
            # No turn would help it any more.
            self._refuse(lane, waiter, denied)
            return
        waiter.not_before = now + short.seconds
        if lane.scope in short.scopes:
            lane.denied = denied
            return
        other = self._lanes.get(short.scope) or self._open(short.scope, denied)
        lane.queue.left(waiter)
        self._join(other, waiter, now)

    def _closed(self, lane: _Lane, task: asyncio.Task[None]) -> None:
        """A lane ends with its last waiter. Where it failed instead, its waiters must not wait for ever."""
        if task.cancelled() or task.exception() is None:
            return
        log.error("queue_lane_failed", scope=str(lane.scope), exc_info=task.exception())
        self._lanes.pop(lane.scope, None)
        while (waiter := lane.queue.head(0.0)) is not None:
            self._refuse(lane, waiter, AdmissionDenied(lane.denied.violations, SOONEST))

    def _refuse(self, lane: _Lane, waiter: _Waiter, why: AdmissionDenied) -> None:
        lane.queue.left(waiter)
        waiter.lane = None
        if not waiter.permit.done():
            waiter.permit.set_exception(why)

    def _expected(self, lane: _Lane, claim: Claim, now: float) -> float:
        """About how long the claim would wait in the lane, in seconds."""
        head = lane.queue.head(now)
        soonest = 0.0 if head is None else max(0.0, head.not_before - now)
        refill = lane.queue.ahead(claim.tenant, claim.priority) * seconds_each(lane.denied)
        return max(soonest + refill, lane.queue.expected_wait(claim.tenant, claim.priority, now))

    def _refusal(self, lane: _Lane, claim: Claim, expected: float, detail: str = "") -> AdmissionDenied:
        waiting = len(lane.queue)
        violation = QuotaViolation(
            QueueKey(lane.scope),
            f"{waiting} requests wait for {lane.scope}; the next of class {claim.priority} would wait about "
            f"{expected:.1f} s" + (f"; {detail}" if detail else ""),
            self._bounds.most,
            self._room.waiting,
            1,
            expected,
            lane.denied.paced,
        )
        return AdmissionDenied((*lane.denied.violations, violation), max(expected, SOONEST))


def _waits(claim: Claim, denied: AdmissionDenied) -> bool:
    """Returns True if it may wait for what is short."""
    return denied.paced or not claim.only_paced


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
