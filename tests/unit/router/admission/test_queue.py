"""The queue's order, who may wait, and what becomes of those who do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import QuotaViolation
from libs.telemetry import Metrics
from libs.types import Priority
from services.router.admission.admission import Permit
from services.router.admission.amounts import AdmissionDenied
from services.router.admission.fair_queue import AGING, ROOM, WEIGHTS, FairQueue, Room, Waiter
from services.router.admission.queued_admission import QueueBounds, QueuedAdmission
from services.router.admission.shortage import POLL, shortage_of
from tests.support.leasing import claim
from tests.support.names import limit_key
from tests.support.overload import VirtualLimiter
from tests.support.virtual import VirtualClock, run

TOP, STANDARD, BULK, LOW = Priority
P, M = "provider:p", "model:p/m"


def drained(queue: FairQueue[Waiter], times: int = 10**9, now: float = 0.0) -> list[Waiter]:
    """Returns those that are served, in order, all at one instant."""
    found = []
    while times and (head := queue.head(now)) is not None:
        queue.served(head, now)
        found.append(head)
        times -= 1
    return found


def filled(*groups: tuple[str, Priority, int, int]) -> FairQueue[Waiter]:
    """(tenant, class, cost, how many) each."""
    queue: FairQueue[Waiter] = FairQueue(0.0)
    for tenant, priority, cost, count in groups:
        for _ in range(count):
            queue.push(Waiter(tenant, priority, cost), 0.0)
    return queue


# The order.


def test_classes_that_all_wait_share_by_weight() -> None:
    """Of what is served while everyone waits, each class gets its weight's share of the cost."""
    queue = filled(*(("t", priority, 10, 3000) for priority in Priority))
    total = sum(WEIGHTS.values())
    served = Counter(waiter.priority for waiter in drained(queue, 2670))
    for priority, weight in WEIGHTS.items():
        assert served[priority] == pytest.approx(2670 * weight / total, abs=2)


def test_tenants_of_a_class_share_its_cost_not_its_count() -> None:
    """A tenant with requests ten times as large gets a tenth of the count."""
    queue = filled(("large", STANDARD, 1000, 100), ("small", STANDARD, 100, 1000))
    served = Counter(waiter.tenant for waiter in drained(queue, 110))
    assert served["small"] == pytest.approx(10 * served["large"], abs=10)


def test_a_tenants_own_requests_keep_their_order() -> None:
    """First come, first served."""
    queue: FairQueue[Waiter] = FairQueue(0.0)
    waiters = [Waiter("t", STANDARD, cost) for cost in (5, 1, 9, 2)]
    for waiter in waiters:
        queue.push(waiter, 0.0)
    assert drained(queue) == waiters


def test_whoever_comes_after_a_flood_does_not_wait_for_it() -> None:
    """A tenant that has nothing queued is next but one, whatever another one has."""
    queue = filled(("flood", STANDARD, 10, 500))
    drained(queue, 100)
    late = Waiter("late", STANDARD, 10)
    queue.push(late, 0.0)
    assert late in drained(queue, 2)


def test_nobody_saves_up_turns_by_staying_away() -> None:
    """A tenant that was idle while others were served gets its share from then on, not what it missed."""
    queue = filled(("busy", STANDARD, 10, 300))
    drained(queue, 100)
    for _ in range(100):
        queue.push(Waiter("back", STANDARD, 10), 0.0)
    served = Counter(waiter.tenant for waiter in drained(queue, 100))
    assert served["busy"] == pytest.approx(50, abs=1)


def test_coming_back_does_not_wipe_out_what_was_used() -> None:
    """A tenant that queues one request at a time gets no more than one that queues all it has."""
    queue = filled(("patient", STANDARD, 10, 100))
    served = Counter[str]()
    queue.push(Waiter("again", STANDARD, 30), 0.0)
    for _ in range(60):
        (waiter,) = drained(queue, 1)
        served[waiter.tenant] += waiter.cost
        if waiter.tenant == "again":
            queue.push(Waiter("again", STANDARD, 30), 0.0)
    assert served["again"] == pytest.approx(served["patient"], abs=40)


def test_a_class_that_waited_long_is_next_and_sets_nobody_back() -> None:
    """After `AGING` seconds without service the lowest class is next, once; who comes then is served as before."""
    queue = filled(("t", TOP, 10, 100), ("t", LOW, 10, 10))
    assert queue.head(AGING - 1).priority is TOP  # type: ignore[union-attr]
    queue.served(queue.head(AGING - 1), AGING - 1)  # type: ignore[arg-type]
    assert queue.head(AGING).priority is LOW  # type: ignore[union-attr]
    queue.served(queue.head(AGING), AGING)  # type: ignore[arg-type]
    queue.push(Waiter("new", STANDARD, 10), AGING)
    assert [w.priority for w in drained(queue, 2, AGING)].count(LOW) == 0


def test_who_left_is_never_served() -> None:
    """Leaving in the middle, at the head, and twice."""
    queue: FairQueue[Waiter] = FairQueue(0.0)
    waiters = [Waiter("t", STANDARD, 1) for _ in range(4)]
    for waiter in waiters:
        queue.push(waiter, 0.0)
    assert [queue.left(waiters[n]) for n in (0, 2, 2)] == [True, True, False]
    assert drained(queue) == [waiters[1], waiters[3]]
    assert len(queue) == 0


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "serve", "leave"]),
        st.sampled_from("abc"),
        st.sampled_from(list(Priority)),
        st.integers(1, 50),
    ),
    max_size=120,
)


@given(STEPS)
def test_everyone_who_joins_is_served_or_leaves_once(steps: list[tuple[str, str, Priority, int]]) -> None:
    """Whatever the order of joining, serving and leaving: a head exists while anyone waits, and it waits."""
    queue: FairQueue[Waiter] = FairQueue(0.0)
    waiting: list[Waiter] = []
    for now, (step, tenant, priority, cost) in enumerate(steps):
        if step == "push":
            waiting.append(Waiter(tenant, priority, cost))
            queue.push(waiting[-1], float(now))
        elif waiting and step == "leave":
            assert queue.left(waiting.pop(cost % len(waiting)))
        elif waiting:
            head = queue.head(float(now))
            assert head in waiting
            queue.served(head, float(now))
            waiting.remove(head)
        assert len(queue) == len(waiting)
        assert all(queue.count(p) == sum(w.priority is p for w in waiting) for p in Priority)
    assert set(drained(queue)) == set(waiting)


@given(st.lists(st.integers(1, 100), min_size=60, max_size=60), st.integers(1, 50))
def test_two_backlogged_tenants_never_drift_apart(costs: list[int], turns: int) -> None:
    """Start-time fair queueing's bound: of two that wait all the time, neither gets more than the other by more than
    their two largest requests."""
    queue: FairQueue[Waiter] = FairQueue(0.0)
    for index, cost in enumerate(costs):
        queue.push(Waiter("ab"[index % 2], STANDARD, cost), 0.0)
    served = Counter[str]()
    for waiter in drained(queue, turns):
        served[waiter.tenant] += waiter.cost
        if queue.count(STANDARD) and min(served.values()) < sum(costs) / 4:
            assert abs(served["a"] - served["b"]) <= max(costs[::2]) + max(costs[1::2])


# What a newcomer is told.


def test_without_evidence_nobody_is_told_to_wait() -> None:
    """Before the first one is served, no rate is known."""
    assert filled(("t", STANDARD, 10, 50)).expected_wait("t", STANDARD, 0.0) == 0.0


def test_the_expected_wait_is_what_is_queued_at_the_rate_of_service() -> None:
    """With one class and one tenant: its queue over the rate."""
    queue = filled(("t", STANDARD, 10, 200))
    for second in range(100):
        drained(queue, 1, second / 10)
    assert queue.expected_wait("t", STANDARD, 9.9) == pytest.approx(10.0, rel=0.1)
    assert queue.ahead("t", STANDARD) == pytest.approx(100, abs=1)


def test_a_flood_waits_for_itself_and_a_newcomer_does_not() -> None:
    """Each tenant's expectation follows what it has queued."""
    queue = filled(("flood", STANDARD, 10, 200))
    for second in range(100):
        drained(queue, 1, second / 10)
    assert queue.expected_wait("new", STANDARD, 9.9) < 0.2 * queue.expected_wait("flood", STANDARD, 9.9)


def test_a_higher_class_expects_less() -> None:
    """Interactive requests are not told to wait for background ones."""
    queue = filled(("t", LOW, 10, 300), ("t", TOP, 10, 2))
    for second in range(100):
        queue.push(Waiter("t", TOP, 10), second / 10)
        drained(queue, 2, second / 10)
    expected = [queue.expected_wait("t", priority, 9.9) for priority in (TOP, LOW)]
    assert expected[0] < 1.0 < 10.0 < expected[1]


# Bounds.


def test_lower_classes_leave_room_for_higher_ones() -> None:
    """Of every bound a class may fill its part only, in all and within one tenant."""
    for priority in Priority:
        room = Room(100, 1000, 10**9)
        entered = 0
        while not room.full(f"t{entered}", priority, 1):
            room.enter(f"t{entered}", 1)
            entered += 1
        assert entered == 100 * ROOM[priority]
        assert bool(room.full("other", TOP, 1)) is (priority is TOP)


def test_one_tenant_cannot_fill_the_queue() -> None:
    """Beyond its own bound it is refused while others may join; whoever leaves makes room."""
    room = Room(100, 10, 10**9)
    for _ in range(10):
        assert room.full("flood", TOP, 1) == ""
        room.enter("flood", 1)
    assert "10 requests of tenant flood" in room.full("flood", TOP, 1)
    assert room.full("other", TOP, 1) == ""
    room.leave("flood", 1)
    assert room.full("flood", TOP, 1) == ""


def test_prompts_in_memory_are_bounded() -> None:
    """However few requests they are."""
    room = Room(100, 100, 1000)
    room.enter("t", 900)
    assert "tokens of prompts" in room.full("t", TOP, 101)
    room.leave("t", 900)
    assert room.tenants == {}


@pytest.mark.parametrize(
    "bad", [{"aging": 0.0}, {"weights": {TOP: 1.0}}, {"weights": dict.fromkeys(Priority, 0.0)}]
)
def test_a_queue_that_would_starve_somebody_cannot_be_made(bad: dict[str, Any]) -> None:
    """Weights above 0 for every class, and an aging above 0."""
    with pytest.raises(ValueError, match="weight"):
        FairQueue[Waiter](0.0, **bad)


def test_bad_bounds_are_refused() -> None:
    """At construction."""
    for make in (lambda: Room(-1, 1, 1), lambda: QueueBounds(longest=0.0), lambda: Waiter("t", TOP, 0)):
        with pytest.raises(ValueError, match=r"must|needs"):
            make()


# What is waited for at all.


def refused(*dimensions: tuple[str, float | None], retry_after: float | None = 1.0) -> AdmissionDenied:
    """By these (subject, reset)."""
    return AdmissionDenied(
        [QuotaViolation(limit_key(s), "full", reset_seconds=r) for s, r in dimensions], retry_after
    )


def test_rates_and_concurrency_that_come_back_soon_are_waited_for() -> None:
    """Rates until they have refilled, slots by looking again; of several, the scope with the longest wait."""
    both = refused(
        ("tenant:a requests minute", 0.5), ("provider:p total_tokens minute", 2.0), retry_after=2.0
    )
    short = shortage_of(both, 5.0)
    assert short is not None
    assert (str(short.scope), short.seconds, short.firm) == ("provider:p", 2.0, True)
    assert set(map(str, short.scopes)) == {"tenant:a", "provider:p"}
    slots = shortage_of(refused(("model:p/m concurrency", 1.0)), 5.0)
    assert slots is not None
    assert (str(slots.scope), slots.seconds, slots.firm) == ("model:p/m", POLL, False)


def test_a_campaigns_name_may_hold_spaces() -> None:
    """Scope and unit are told apart from the end."""
    short = shortage_of(refused(("campaign:a/Summer requests day sale requests minute", 1.0)), 5.0)
    assert short is not None
    assert str(short.scope) == "campaign:a/Summer requests day sale"


@pytest.mark.parametrize(
    "denied",
    [
        refused(("tenant:a requests day", 1.0)),
        refused(("tenant:a micro_usd month", 1.0)),
        refused(("tenant:a micro_usd minute", 1.0)),
        refused(("tenant:a requests minute", 1.0), ("tenant:a micro_usd day", 1.0)),
        refused(("tenant:a requests minute", 6.0), retry_after=6.0),
        refused(("tenant:a requests minute", None), retry_after=None),
        refused(("provider:p queue", 1.0)),
        refused(),
    ],
)
def test_quotas_budgets_and_late_capacity_are_not_waited_for(denied: AdmissionDenied) -> None:
    """Even where they would come back within the bound: they are decisions, not congestion."""
    assert shortage_of(denied, 5.0) is None


# The queue in front of a limiter, in virtual time.


@dataclass
class Bed:
    """A queue in front of a limiter a millisecond away."""

    clock: VirtualClock
    limiter: VirtualLimiter
    bounds: QueueBounds = field(default_factory=QueueBounds)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.port = QueuedAdmission(self.limiter, self.clock, self.metrics, self.bounds)

    async def ask(
        self,
        tenant: str,
        *,
        priority: Priority = STANDARD,
        patience: float = 20.0,
        tokens: int = 10,
        scopes: tuple[str, ...] = (P, M),
    ) -> Permit:
        wanted = claim(
            f"tenant:{tenant}", *scopes, tenant=tenant, priority=priority, patience=patience, tokens=tokens
        )
        return self.port.try_admit(wanted.scopes, wanted.amounts) or await self.port.admit(wanted, 1.0)

    def begin(self, tenant: str, **more: Any) -> asyncio.Task[Permit]:
        return asyncio.create_task(self.ask(tenant, **more))

    async def line(self, *tenants: str, **more: Any) -> list[asyncio.Task[Permit]]:
        """They come one after another."""
        tasks = []
        for tenant in tenants:
            tasks.append(self.begin(tenant, **more))
            await asyncio.sleep(0.01)
        return tasks

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"pointsman_{name}", labels) or 0.0


def virtually(
    main: Callable[[Bed], Coroutine[Any, Any, None]],
    slots: dict[str, int] | None = None,
    rates: dict[str, tuple[float, float]] | None = None,
    bounds: QueueBounds | None = None,
) -> None:
    async def body(clock: VirtualClock) -> None:
        bed = Bed(clock, VirtualLimiter(clock, slots or {}, rates or {}), bounds or QueueBounds())
        await main(bed)
        await asyncio.sleep(60.0)
        left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        assert left == [], "a lane outlives its waiters"
        assert bed.port._room.waiting == bed.port._room.tokens == 0

    run(body)


def test_a_slot_that_comes_free_goes_to_who_waits_at_once() -> None:
    """The settle wakes the head, a millisecond from the limiter; a newcomer does not pass it."""

    async def main(bed: Bed) -> None:
        first = await bed.ask("a")
        waiting = bed.begin("b")
        await asyncio.sleep(3.1)
        assert not waiting.done()
        first.settle(claim(P).amounts)
        freed = bed.clock.monotonic()
        assert bed.port.try_admit(claim("tenant:c", P, M).scopes, claim(P).amounts) is None
        (await waiting).settle(claim(P).amounts)
        assert bed.clock.monotonic() - freed == pytest.approx(0.001)
        assert bed.metric("queue_wait_seconds_count", **{"class": "standard", "outcome": "admitted"}) == 1

    virtually(main, {P: 1})


def test_slots_freed_by_another_router_are_noticed() -> None:
    """Nobody here says so, so the limiter is asked now and then."""

    async def main(bed: Bed) -> None:
        waiting = bed.begin("b")
        await asyncio.sleep(5.0)
        bed.limiter.slots[P] = 1
        began = bed.clock.monotonic()
        (await waiting).cancel()
        assert bed.clock.monotonic() - began < POLL + 0.01
        assert bed.limiter.asked < 5.0 / POLL + 10

    virtually(main, {P: 0})


def test_a_rate_is_waited_for_exactly() -> None:
    """Ten waiters at ten a second take a second, each asked for about twice."""

    async def main(bed: Bed) -> None:
        began = bed.clock.monotonic()
        for permit in await asyncio.gather(*(bed.begin(f"t{n}") for n in range(11))):
            permit.settle(claim(P).amounts)
        assert bed.clock.monotonic() - began == pytest.approx(1.0, abs=0.05)
        assert bed.limiter.asked < 45

    virtually(main, rates={P: (10.0, 1.0)})


def test_an_interactive_request_goes_before_those_that_wait_already() -> None:
    """It joins last and is admitted first."""

    async def main(bed: Bed) -> None:
        first = await bed.ask("a")
        others = await bed.line(*["bulk"] * 5, priority=BULK)
        await asyncio.sleep(1.0)
        urgent = bed.begin("now", priority=TOP)
        await asyncio.sleep(1.0)
        first.settle(claim(P).amounts)
        (await urgent).cancel()
        assert not any(task.done() for task in others)
        for task in others:
            (await task).cancel()
        assert bed.limiter.admitted == ["a", "now", *["bulk"] * 5]

    virtually(main, {P: 1})


def test_a_tenant_at_its_own_limit_holds_up_nobody_else() -> None:
    """Those who wait for a tenant's limit wait in a lane of their own."""

    async def main(bed: Bed) -> None:
        held = await bed.ask("full")
        waiting = bed.begin("full")
        await asyncio.sleep(1.0)
        for _ in range(5):
            (await bed.ask("other")).cancel()
        assert not waiting.done()
        held.cancel()
        (await waiting).cancel()

    virtually(main, {"tenant:full": 1, P: 100})


def test_who_leads_one_lane_waits_in_the_next_without_passing_it() -> None:
    """Past its tenant's limit, a request takes its turn among the others at the provider."""

    async def main(bed: Bed) -> None:
        mine, provider = await bed.ask("t", scopes=(M,)), await bed.ask("x")
        own, *others = await bed.line("t", "y", "y")
        await asyncio.sleep(1.0)
        mine.cancel()
        await asyncio.sleep(1.0)
        assert not own.done()
        provider.cancel()
        for task in (others[0], own, others[1]):
            (await task).cancel()
        assert Counter(bed.limiter.admitted[2:]) == {"t": 1, "y": 2}
        assert bed.limiter.admitted[2] == "y"

    virtually(main, {"tenant:t": 1, P: 1})


async def why_refused(task: asyncio.Task[Permit]) -> AdmissionDenied:
    with pytest.raises(AdmissionDenied) as caught:
        await task
    return caught.value


def test_who_does_not_want_to_wait_is_told_at_once_when_to_come_back() -> None:
    """Without asking the limiter again where others wait already."""

    async def main(bed: Bed) -> None:
        first = await bed.ask("a")
        waiting = bed.begin("b")
        await asyncio.sleep(1.0)
        asked = bed.limiter.asked
        denied = await why_refused(bed.begin("c", patience=0.0))
        assert bed.limiter.asked == asked
        assert denied.retry_after
        assert {v.subject for v in denied.violations} == {f"{P} concurrency", f"{P} queue"}
        first.cancel()
        (await waiting).cancel()

    virtually(main, {P: 1})


def test_patience_ends() -> None:
    """After exactly that long, with RetryInfo, and nothing is held."""

    async def main(bed: Bed) -> None:
        first = await bed.ask("a")
        began = bed.clock.monotonic()
        denied = await why_refused(bed.begin("b", patience=7.0))
        assert bed.clock.monotonic() - began == pytest.approx(7.0, abs=0.01)
        assert denied.retry_after
        assert bed.metric("queue_refused_total", **{"class": "standard", "why": "expired"}) == 1
        assert bed.metric("queue_waiting", **{"class": "standard"}) == 0
        first.cancel()

    virtually(main, {P: 1})


def test_nobody_waits_longer_than_the_bound() -> None:
    """Whatever its patience."""

    async def main(bed: Bed) -> None:
        began = bed.clock.monotonic()
        await why_refused(bed.begin("b", patience=3600.0))
        assert bed.clock.monotonic() - began == pytest.approx(4.0, abs=0.01)

    virtually(main, {P: 0}, bounds=QueueBounds(longest=4.0))


def test_the_hopeless_are_refused_at_once() -> None:
    """A request that would wait longer than its caller does, at the queue's rate, does not join it."""

    async def main(bed: Bed) -> None:
        waiting = await bed.line(*["t"] * 20)
        await asyncio.sleep(5.0)
        began = bed.clock.monotonic()
        denied = await why_refused(bed.begin("t", patience=2.0))
        assert bed.clock.monotonic() == began
        assert denied.retry_after is not None
        assert 10.0 < denied.retry_after < 25.0
        assert bed.metric("queue_refused_total", **{"class": "standard", "why": "hopeless"}) == 1
        for task in waiting:
            (await task).cancel()

    virtually(main, rates={P: (1.0, 1.0)})


def test_beyond_its_bounds_the_queue_refuses() -> None:
    """By tenant and in all; the refusal says why and when to come back."""

    async def main(bed: Bed) -> None:
        first = await bed.ask("a")
        waiting = await bed.line("t", "t", "t", priority=TOP)
        await asyncio.sleep(1.0)
        denied = await why_refused(bed.begin("t", priority=TOP))
        assert "3 requests of tenant t wait already" in str(denied)
        waiting.append(bed.begin("u", priority=TOP))
        await asyncio.sleep(1.0)
        denied = await why_refused(bed.begin("v", priority=TOP))
        assert "4 requests wait already" in str(denied)
        assert denied.retry_after
        assert bed.metric("queue_refused_total", **{"class": "interactive", "why": "full"}) == 2
        first.cancel()
        for task in (waiting[0], waiting[3], *waiting[1:3]):
            (await task).cancel()

    virtually(main, {P: 1}, bounds=QueueBounds(most=4, most_of_tenant=3))


def test_a_caller_who_goes_away_leaves_no_trace() -> None:
    """At the head, behind it, and in the very moment of its turn: the room goes to the next."""

    async def main(bed: Bed) -> None:
        first = await bed.ask("a")
        tasks = await bed.line(*"tttt")
        await asyncio.sleep(1.0)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.sleep(1.0)
        loop = asyncio.get_running_loop()
        # Between the limiter's answer and the caller's hearing of it.
        bed.limiter.granting = lambda: loop.call_soon(tasks[1].cancel)
        first.cancel()
        (await tasks[3]).cancel()
        assert all(tasks[n].cancelled() for n in range(3))
        assert bed.limiter.running[P] == 0

    virtually(main, {P: 1})


def test_who_no_longer_could_be_served_makes_way() -> None:
    """A head that the limiter says will have no room in time is refused, and the next is served."""

    async def main(bed: Bed) -> None:
        (await bed.ask("a")).cancel()
        late = bed.begin("b", patience=1.0)
        await asyncio.sleep(0.1)
        patient = bed.begin("c", patience=10.0)
        assert (await why_refused(late)).retry_after
        (await patient).cancel()

    virtually(main, rates={P: (0.4, 1.0)})


def test_a_quota_that_ends_meanwhile_ends_the_wait() -> None:
    """A shortage that turns into one that is not waited for is refused at that moment."""

    async def main(bed: Bed) -> None:
        first = await bed.ask("a")
        waiting = bed.begin("b")
        await asyncio.sleep(1.0)
        bed.limiter.fault = refused(("tenant:b micro_usd day", 3600.0), retry_after=3600.0)
        denied = await why_refused(waiting)
        assert [v.subject for v in denied.violations] == ["tenant:b micro_usd day"]
        bed.limiter.fault = None
        first.cancel()

    virtually(main, {P: 1})


def test_a_bug_below_refuses_those_who_wait_and_the_next_start_afresh() -> None:
    """Nobody waits for ever for a lane that failed."""

    async def main(bed: Bed) -> None:
        first = await bed.ask("a")
        waiting = [bed.begin("b"), bed.begin("c")]
        await asyncio.sleep(1.0)
        bed.limiter.fault = RuntimeError("a bug")
        for task in waiting:
            assert (await why_refused(task)).retry_after
        bed.limiter.fault = None
        first.cancel()
        (await bed.ask("d")).cancel()

    virtually(main, {P: 1})


def test_position_and_expected_wait_are_measured() -> None:
    """By class, as a request joins."""

    async def main(bed: Bed) -> None:
        first = await bed.ask("a")
        tasks = await bed.line(*"ttt")
        await asyncio.sleep(1.0)
        assert bed.metric("queue_waiting", **{"class": "standard"}) == 3
        assert bed.metric("queue_position_count", **{"class": "standard"}) == 3
        assert bed.metric("queue_position_bucket", **{"class": "standard", "le": "0.0"}) == 1
        assert bed.metric("queue_expected_seconds_count", **{"class": "standard"}) == 3
        first.cancel()
        for task in tasks:
            (await task).cancel()

    virtually(main, {P: 1})
