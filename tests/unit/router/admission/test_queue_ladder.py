"""Waiting as a step of the policy's degradation ladder, with fakes all around."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from libs.answer import Completed, Result
from libs.catalog.model import Model, Policy
from libs.errors import ResourceExhausted
from libs.limits import scope_of
from libs.selection import Degradation
from libs.telemetry import Metrics
from libs.types import ErrorClass, Priority
from services.router.admission.amounts import AdmissionDenied
from services.router.admission.queued_admission import QueueBounds, QueuedAdmission
from services.router.generate.begin import LAST_WORD
from tests.support.clock import ManualClock
from tests.support.routing import TENANT, FakeAdmission, Harness, catalog, denial, fail, generation, model

A, B, CHEAP = model("a/m"), model("b/m"), model("c/m")


@dataclass
class Bed:
    """A Generate with a queue in front of its limits; `full` names scopes that have no room for now."""

    ladder: tuple[str, ...] = ("queue", "refuse")
    full: tuple[str, ...] = ("provider:a",)
    #: Those of `full` whose limits are paced.
    paced: tuple[str, ...] = ()
    tiers: tuple[Any, ...] = ([A],)
    script: dict[str, list[object]] = field(
        default_factory=lambda: {"a/m": ["a"], "b/m": ["b"], "c/m": ["c"]}
    )
    within: float = 5.0
    #: Models the policy does not name.
    others: tuple[Model, ...] = ()

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.limits = FakeAdmission(
            {scope: denial(scope, 1.0, limit=60, paced=scope in self.paced) for scope in self.full}
        )
        self.queue = QueuedAdmission(self.limits, self.clock, self.metrics, QueueBounds(self.within))
        known = catalog(*self.tiers, *[[m] for m in self.others], degradation=self.ladder)
        policy = Policy(
            "default", known.policies["default"].tiers[: len(self.tiers)], degradation=self.ladder
        )
        self.harness = Harness(
            replace(known, policies={"default": policy}),
            self.script,
            clock=self.clock,
            admission=self.limits,
            queue=self.queue,
            price=lambda provider, model, usage, at, name: 10 if model is CHEAP else 100,
        )

    async def whole(self, **more: object) -> Result:
        h = self.harness
        return await h.generate.whole(h.catalog, TENANT, generation(**more))  # type: ignore[arg-type]

    def begin(self, **more: object) -> asyncio.Task[Result]:
        return asyncio.create_task(self.whole(**more))

    async def waiting(self, count: int = 1) -> None:
        """Returns once so many wait."""
        async with asyncio.timeout(5):
            while self.waiters() != count:
                await asyncio.sleep(0)

    def waiters(self) -> int:
        name = "pointsman_queue_waiting"
        found = [self.metrics.registry.get_sample_value(name, {"class": str(p)}) for p in Priority]
        return round(sum(value or 0.0 for value in found))

    def free(self, scope: str) -> None:
        """There is room again, and somebody's call on it has ended."""
        del self.limits.denied[scope]
        self.queue.wake_lanes([scope_of(scope)])


async def test_where_the_ladder_says_queue_the_answer_comes_after_a_wait_and_says_so() -> None:
    """Nobody is called before there is room."""
    bed = Bed()
    task = bed.begin()
    await bed.waiting()
    assert bed.harness.providers.calls == []
    bed.free("provider:a")
    result = await task
    assert (result.text, result.degradation) == ("a", Degradation.QUEUED)
    bed.harness.assert_settled()


async def test_regression_a_wait_in_vain_ends_before_the_callers_deadline() -> None:
    """The caller is told what is full and when to come back, rather than that its deadline has passed."""
    bed = Bed()
    task = bed.begin(deadline=bed.clock.monotonic() + LAST_WORD + 0.05)
    with pytest.raises(ResourceExhausted) as caught:
        await task
    assert caught.value.retry_after is not None
    assert max(claim.patience for claim in bed.limits.claims) == pytest.approx(0.05)


async def test_a_stream_waits_too() -> None:
    """Its first event comes after the wait, its last says that it waited."""
    bed = Bed(script={"a/m": [["a"]]})
    h = bed.harness

    async def events() -> list[object]:
        return [e async for e in h.generate.stream(h.catalog, TENANT, generation())]

    task = asyncio.create_task(events())
    await bed.waiting()
    bed.free("provider:a")
    last = (await task)[-1]
    assert isinstance(last, Completed)
    assert last.result.degradation is Degradation.QUEUED
    h.assert_settled()


@pytest.mark.parametrize("ladder", [(), ("refuse",), ("cheaper_model", "refuse")])
async def test_where_the_ladder_does_not_say_so_nobody_waits(ladder: tuple[str, ...]) -> None:
    """A refusal at once, with the limit and when to come back."""
    bed = Bed(ladder)
    with pytest.raises(ResourceExhausted) as caught:
        await bed.whole()
    assert caught.value.retry_after == 1.0
    assert [v.subject for v in caught.value.violations] == ["provider:a requests minute"]


async def test_as_long_as_another_provider_has_room_nobody_waits() -> None:
    """The next candidate serves, undegraded."""
    bed = Bed(tiers=([A], [B]))
    result = await bed.whole()
    assert (result.text, result.degradation) == ("b", None)


async def test_with_every_provider_full_the_one_with_the_shortest_wait_is_waited_for() -> None:
    """As the limiter tells it."""
    bed = Bed(tiers=([A], [B]), full=("provider:a", "provider:b"))
    bed.limits.denied["provider:b"] = denial("provider:b", 0.5)
    task = bed.begin()
    await bed.waiting()
    bed.free("provider:b")
    assert (await task).text == "b"


async def test_a_tenants_own_rate_is_waited_for() -> None:
    """It comes back by itself, whoever serves."""
    bed = Bed(full=("tenant:acme",), tiers=([A], [B]))
    task = bed.begin()
    await bed.waiting()
    bed.free("tenant:acme")
    assert (await task).text == "a"
    bed.harness.assert_settled()


async def test_cheaper_models_come_before_waiting_where_the_ladder_puts_them_first() -> None:
    """And after it where it puts them second."""
    cheap = Bed(("cheaper_model", "queue"), others=(CHEAP,))
    assert (await cheap.whole()).degradation is Degradation.CHEAPER_MODEL
    patient = Bed(("queue", "cheaper_model"), others=(CHEAP,))
    task = patient.begin()
    await patient.waiting()
    patient.free("provider:a")
    assert (await task).degradation is Degradation.QUEUED


async def test_after_a_wait_in_vain_the_ladder_goes_on() -> None:
    """Capacity that comes back too late is not waited for: the next step is taken."""
    bed = Bed(("queue", "cheaper_model"), others=(CHEAP,), within=0.5)
    assert (await bed.whole()).degradation is Degradation.CHEAPER_MODEL


async def test_an_old_answer_is_given_rather_than_a_wait_where_it_comes_first() -> None:
    """Only where there is one."""
    bed = Bed(("stale_cache", "queue"), full=())
    assert (await bed.whole()).degradation is None
    bed.limits.denied["provider:a"] = denial("provider:a", 1.0)
    assert (await bed.whole()).degradation is Degradation.STALE_CACHE
    task = bed.begin(text="Another prompt")
    await bed.waiting()
    bed.free("provider:a")
    assert (await task).degradation is Degradation.QUEUED


async def test_what_fails_after_a_wait_is_a_failure_like_any_other() -> None:
    """It goes on to the next provider, which may have room by now, and both attempts are in the account."""
    bed = Bed(
        tiers=([A], [B]),
        full=("provider:a", "provider:b"),
        script={"a/m": [fail(ErrorClass.OVERLOADED)], "b/m": ["b"]},
    )
    bed.limits.denied["provider:b"] = denial("provider:b", 3.0)
    task = bed.begin()
    await bed.waiting()
    del bed.limits.denied["provider:b"]
    bed.free("provider:a")
    result = await task
    assert [attempt.provider for attempt in result.attempts] == ["a", "b"]
    assert result.degradation is Degradation.QUEUED
    bed.harness.assert_settled()


async def test_a_caller_who_leaves_the_queue_was_never_there() -> None:
    """Nothing is called, held or written, and its request id is free again."""
    bed = Bed()
    task = bed.begin()
    await bed.waiting()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bed.waiting(0)
    bed.free("provider:a")
    assert (await bed.whole()).text == "a"
    bed.harness.assert_settled()


@pytest.mark.parametrize("ladder", [(), ("refuse",), ("cheaper_model", "refuse"), ("stale_cache",)])
async def test_a_paced_limit_is_waited_for_whatever_the_ladder_says(ladder: tuple[str, ...]) -> None:
    """Its answer comes after a wait and says so; no other step is taken before."""
    bed = Bed(ladder, paced=("provider:a",), others=(CHEAP,))
    task = bed.begin()
    await bed.waiting()
    assert bed.harness.providers.calls == []
    bed.free("provider:a")
    result = await task
    assert (result.text, result.degradation) == ("a", Degradation.QUEUED)
    bed.harness.assert_settled()


async def test_a_paced_limit_of_the_tenants_own_is_waited_for() -> None:
    """No other provider would help."""
    bed = Bed((), full=("tenant:acme",), paced=("tenant:acme",), tiers=([A], [B]))
    task = bed.begin()
    await bed.waiting()
    bed.free("tenant:acme")
    assert (await task).text == "a"
    bed.harness.assert_settled()


async def test_nobody_waits_for_a_paced_limit_while_another_provider_has_room() -> None:
    """As with any limit, the next candidate serves, undegraded."""
    bed = Bed((), paced=("provider:a",), tiers=([A], [B]))
    result = await bed.whole()
    assert (result.text, result.degradation) == ("b", None)


async def test_of_two_full_providers_the_paced_one_is_waited_for() -> None:
    """The other's limit is not, though it would have room sooner."""
    bed = Bed((), full=("provider:a", "provider:b"), paced=("provider:b",), tiers=([A], [B]))
    bed.limits.denied["provider:a"] = denial("provider:a", 0.2)
    task = bed.begin()
    await bed.waiting()
    bed.free("provider:b")
    assert (await task).text == "b"


async def test_where_one_violated_limit_is_not_paced_the_request_is_refused_at_once() -> None:
    """As if none were."""
    bed = Bed((), paced=("provider:a",))
    both = [
        denial(scope, 1.0, paced=scope == "provider:a").violations[0] for scope in ("provider:a", "model:a/m")
    ]
    bed.limits.denied["provider:a"] = AdmissionDenied(both, 1.0)
    with pytest.raises(ResourceExhausted) as caught:
        await bed.whole()
    assert caught.value.retry_after == 1.0
    assert len(caught.value.violations) == 2


async def test_who_waits_for_a_paced_limit_does_not_go_on_waiting_for_one_that_is_not() -> None:
    """A request whose turn comes while another limit has no room is refused, as it would have been."""
    bed = Bed((), paced=("provider:a",))
    task = bed.begin()
    await bed.waiting()
    bed.limits.denied["model:a/m"] = denial("model:a/m", 1.0)
    bed.free("provider:a")
    with pytest.raises(ResourceExhausted) as caught:
        await task
    assert [v.subject for v in caught.value.violations] == ["model:a/m requests minute"]
    bed.harness.assert_settled()


async def test_nobody_joins_those_who_wait_for_a_limit_that_is_not_paced_without_the_ladder() -> None:
    """A lane of others' is no reason to wait."""
    bed = Bed()
    task = bed.begin()
    await bed.waiting()
    h = bed.harness
    policy = replace(h.catalog.policies["default"], degradation=())
    h.catalog = replace(h.catalog, version="2", policies={"default": policy})
    with pytest.raises(ResourceExhausted):
        await bed.whole(request_id="r2")
    bed.free("provider:a")
    assert (await task).degradation is Degradation.QUEUED


async def test_a_caller_in_too_much_of_a_hurry_is_refused_at_once() -> None:
    """A paced limit that refills too late is not waited for, and RetryInfo says when it does."""
    bed = Bed((), paced=("provider:a",))
    bed.limits.denied["provider:a"] = denial("provider:a", 4.0, limit=15, paced=True)
    with pytest.raises(ResourceExhausted) as caught:
        await bed.whole(deadline=1003.0)
    assert caught.value.retry_after == 4.0
    assert bed.waiters() == 0


async def test_a_caller_is_refused_at_once_where_those_ahead_take_longer_than_it_has() -> None:
    """One a second passes and four wait: who has three seconds need not join, and is told five."""
    bed = Bed((), paced=("provider:a",))
    tasks = [bed.begin(request_id=f"w{i}") for i in range(4)]
    await bed.waiting(4)
    with pytest.raises(ResourceExhausted) as caught:
        await bed.whole(deadline=1003.0)
    assert caught.value.retry_after == pytest.approx(5.0, abs=1.0)
    assert bed.waiters() == 4
    patient = bed.begin()
    await bed.waiting(5)
    bed.free("provider:a")
    assert [(await task).text for task in (*tasks, patient)] == ["a"] * 5


async def test_capacity_of_a_paced_limit_that_comes_back_too_late_is_not_waited_for() -> None:
    """The queue's bounds hold for it too."""
    bed = Bed((), paced=("provider:a",), within=0.5)
    with pytest.raises(ResourceExhausted):
        await bed.whole()
