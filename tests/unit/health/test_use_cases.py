"""Replicas with a shared fake store: judging, sharing, permits, modes, probes."""

from __future__ import annotations

import pytest

from libs.errors import Aborted, InvalidArgument, NotFound
from libs.resilience.circuit import CircuitState, TripCause
from libs.types import ErrorClass
from services.health.domain.evidence import Outcome
from services.health.domain.target import Mode, Status, Target
from services.health.judge import MAX_OUTBOX
from tests.support.clock import ManualClock
from tests.support.health import FakeHealthStore, Hub, Replica, make_catalog

LARGE = Target("acme", "large")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hub(clock: ManualClock) -> Hub:
    return Hub(clock)


@pytest.fixture
def replicas(clock: ManualClock, hub: Hub) -> list[Replica]:
    return [Replica(clock, FakeHealthStore(hub, name), name=name) for name in "abc"]


async def share(replicas: list[Replica]) -> None:
    """Rounds enough for evidence, for what each concludes from it, and for all to agree."""
    for _ in range(4):
        for replica in replicas:
            await replica.sharer.exchange()


async def test_evidence_that_routers_gave_to_different_replicas_adds_up(replicas: list[Replica]) -> None:
    """One failure at each of three replicas is three failures in a row: all open, in the same state."""
    for replica in replicas:
        replica.fail("acme", "large", 1)
        assert replica.state("acme", "large").circuit.state is CircuitState.CLOSED
    await share(replicas)
    circuits = {replica.state("acme", "large").circuit for replica in replicas}
    assert len(circuits) == 1
    assert circuits.pop().state is CircuitState.OPEN


async def test_without_the_store_each_replica_judges_alone_and_merges_afterwards(
    replicas: list[Replica], hub: Hub
) -> None:
    """The one that sees the faults acts on them; the others learn when the store is back."""
    hub.down = True
    a, b, _ = replicas
    a.fail("acme", "large")
    assert not await a.sharer.exchange()
    assert a.state("acme", "large").circuit.state is CircuitState.OPEN
    assert b.state("acme", "large").circuit.state is CircuitState.CLOSED
    hub.down = False
    await share(replicas)
    assert b.state("acme", "large").circuit == a.state("acme", "large").circuit


async def test_a_new_replica_starts_with_what_the_others_know(
    replicas: list[Replica], hub: Hub, clock: ManualClock
) -> None:
    """A rolling restart does not forget a dead provider nor an operator's word."""
    replicas[0].fail("acme", "large")
    await replicas[0].set_mode(Target("zeta"), Mode.BLOCKED, "contract ended")
    fresh = Replica(clock, FakeHealthStore(hub, "new"), name="new")
    await fresh.sharer.exchange()
    assert fresh.state("acme", "large").status is Status.DOWN
    assert fresh.state("zeta").mode is Mode.BLOCKED


async def test_n_replicas_grant_one_permit(replicas: list[Replica], clock: ManualClock) -> None:
    """However many replicas and askers, one call tests a half-open target; its success closes it for all."""
    replicas[0].fail("acme", "large")
    await share(replicas)
    answers = [await r.permits.acquire(LARGE, "router") for r in replicas]
    assert [permit for permit, _ in answers] == [None] * 3
    clock.advance(60)
    answers = [await r.permits.acquire(LARGE, "router") for r in replicas for _ in range(5)]
    permits = [permit for permit, _ in answers if permit]
    assert len(permits) == 1
    await replicas[2].reports.record([Outcome("acme", "large", 1, latency_sum=1.0, permit=permits[0].id)])
    await share(replicas)
    assert {r.state("acme", "large").circuit.state for r in replicas} == {CircuitState.CLOSED}


async def test_a_permit_is_given_back_when_its_call_brings_no_verdict(
    replicas: list[Replica], clock: ManualClock
) -> None:
    """A rate limit or a caller that went away neither closes nor reopens; the next may try at once."""
    replicas[0].fail("acme", "large")
    clock.advance(60)
    for error in (ErrorClass.CANCELLED, ErrorClass.RATE_LIMITED):
        permit, _ = await replicas[0].permits.acquire(LARGE, "router")
        assert permit is not None
        await replicas[0].reports.record([Outcome("acme", "large", failures={error: 1}, permit=permit.id)])
        assert replicas[0].state("acme", "large").circuit.state is CircuitState.HALF_OPEN


async def test_a_half_open_permit_is_lost_and_the_breaker_never_closes(
    replicas: list[Replica], clock: ManualClock
) -> None:
    """Named regression: it must. The router that held the permit died; after its time another gets one."""
    replicas[0].fail("acme", "large")
    clock.advance(60)
    lost, _ = await replicas[0].permits.acquire(LARGE, "dies")
    assert lost is not None
    assert (await replicas[0].permits.acquire(LARGE, "lives"))[0] is None
    clock.advance(lost.expires - clock.now())
    found, _ = await replicas[0].permits.acquire(LARGE, "lives")
    assert found is not None
    replicas[0].succeed("acme", "large", permit=found.id)
    assert replicas[0].state("acme", "large").circuit.state is CircuitState.CLOSED


async def test_while_a_provider_is_tried_its_models_share_one_permit(
    replicas: list[Replica], clock: ManualClock
) -> None:
    """A dead provider with many models is probed once, not once per model."""
    a = replicas[0]
    a.fail("acme", "large", error=ErrorClass.TRANSPORT)
    assert a.state("acme").circuit.state is CircuitState.OPEN
    clock.advance(60)
    models = [Target("acme", model) for model in ("large", "small", "tiny")]
    granted = [(await a.permits.acquire(model, "router"))[0] for model in models]
    assert [permit is not None for permit in granted] == [True, False, False]


async def test_without_the_store_a_replica_grants_its_own_permits(
    replicas: list[Replica], hub: Hub, clock: ManualClock
) -> None:
    """One at a time, expiring and returnable as ever."""
    hub.down = True
    a = replicas[0]
    a.fail("acme", "large")
    clock.advance(60)
    first, _ = await a.permits.acquire(LARGE, "router")
    assert first is not None
    assert (await a.permits.acquire(LARGE, "router"))[0] is None
    await a.permits.release(LARGE, first.id)
    second, _ = await a.permits.acquire(LARGE, "router")
    assert second is not None
    a.succeed("acme", "large", permit=second.id)
    assert a.state("acme", "large").circuit.state is CircuitState.CLOSED


async def test_nobody_gets_a_permit_against_an_operators_word(replicas: list[Replica]) -> None:
    """Not for a model, when the provider is in maintenance; unknown targets are an error."""
    a = replicas[0]
    await a.set_mode(Target("acme"), Mode.MAINTENANCE, "moving")
    permit, state = await a.permits.acquire(LARGE, "router")
    assert (permit, state.mode) == (None, Mode.MAINTENANCE)
    for unknown in (Target("nobody"), Target("acme", "nothing")):
        with pytest.raises(NotFound):
            await a.permits.acquire(unknown, "router")


async def test_a_later_word_wins_on_every_replica(replicas: list[Replica], hub: Hub) -> None:
    """Also when the earlier one was spoken to another replica; and it holds although the store is gone."""
    a, b, _ = replicas
    await a.set_mode(Target("acme"), Mode.MAINTENANCE, "one")
    await b.sharer.exchange()
    await b.set_mode(Target("acme"), Mode.AUTOMATIC, "two")
    await share(replicas)
    assert {r.state("acme").mode for r in replicas} == {Mode.AUTOMATIC}
    hub.down = True
    state, _ = await a.set_mode(Target("acme"), Mode.DRAIN, "three")
    assert (state.mode, state.status) == (Mode.DRAIN, Status.MAINTENANCE)
    hub.down = False
    await share(replicas)
    assert {r.state("acme").mode for r in replicas} == {Mode.DRAIN}


async def test_an_operator_who_looked_too_early_is_told(replicas: list[Replica]) -> None:
    """The generation guards against undoing what happened since; reasons are required."""
    a = replicas[0]
    a.fail("acme", "large")
    with pytest.raises(Aborted):
        await a.set_mode(LARGE, Mode.AUTOMATIC, "looked fine", generation=0)
    state, _ = await a.set_mode(LARGE, Mode.AUTOMATIC, "is fine", generation=1)
    assert state.circuit.state is CircuitState.CLOSED
    for reason in ("", "  ", "x" * 501):
        with pytest.raises(InvalidArgument):
            await a.set_mode(LARGE, Mode.DRAIN, reason)
        with pytest.raises(InvalidArgument):
            await a.fail_over(LARGE, reason, None)
    for seconds in (0.0, -1.0, 86_401.0, float("nan")):
        with pytest.raises(InvalidArgument):
            await a.fail_over(LARGE, "why", seconds)


async def test_a_failover_by_hand_lasts_as_long_as_asked(replicas: list[Replica], clock: ManualClock) -> None:
    """Success in flight does not end it; its time or an operator does; every replica follows."""
    a, b, _ = replicas
    state, _ = await a.fail_over(Target("acme"), "region trouble", 600.0)
    assert (state.status, state.circuit.cause) == (Status.DOWN, TripCause.OPERATOR)
    assert "region trouble" in state.reason
    a.succeed("acme", "large")
    await share(replicas)
    clock.advance(599)
    assert b.state("acme").circuit.state is CircuitState.OPEN
    clock.advance(1)
    assert b.state("acme").circuit.state is CircuitState.HALF_OPEN


async def test_one_replica_probes_for_all_and_only_where_traffic_says_nothing(
    replicas: list[Replica], clock: ManualClock
) -> None:
    """Working traffic makes a probe superfluous; what one replica's probe finds, all know."""
    a, b, c = replicas
    a.succeed("acme", "large")
    await share(replicas)
    for replica in replicas:
        await replica.prober.probe_due()
    assert [r.endpoints.asked for r in replicas] == [["zeta"], [], []]
    clock.advance(31)
    a.succeed("acme", "large")
    await share(replicas)
    b.endpoints.errors["zeta"] = ErrorClass.TRANSPORT
    for replica in (b, a, c):
        await replica.prober.probe_due()
    assert "zeta" in b.endpoints.asked
    assert a.endpoints.asked == ["zeta"]
    await share(replicas)
    assert c.state("zeta").last_checked == clock.now()


async def test_a_blocked_provider_is_not_probed(replicas: list[Replica]) -> None:
    """Blacklisted means left alone; a test by hand still asks."""
    a = replicas[0]
    await a.set_mode(Target("zeta"), Mode.BLOCKED, "no")
    await a.prober.probe_due()
    assert a.endpoints.asked == ["acme"]
    assert await a.tester.test("zeta")
    with pytest.raises(NotFound):
        await a.tester.test("nobody")


async def test_a_broken_provider_is_asked_more_often_and_half_opened_early(
    replicas: list[Replica], hub: Hub, clock: ManualClock
) -> None:
    """Within seconds of being reachable again, long before its circuit's time; without the store too."""
    hub.down = True
    a = replicas[0]
    for _ in range(3):
        a.endpoints.errors["acme"] = ErrorClass.TRANSPORT
        a.fail("acme", "large", error=ErrorClass.TRANSPORT)
        clock.advance(60)
        a.fail("acme", "large", 1, error=ErrorClass.TRANSPORT)
    a.judge.fleet.judgement(Target("acme")).breaker.trip(clock.now(), TripCause.TRANSPORT)
    await a.prober.probe_due()
    opened = a.state("acme").circuit
    assert opened.state is CircuitState.OPEN
    a.endpoints.errors.clear()
    clock.advance(5.1)
    await a.prober.probe_due()
    assert clock.now() < opened.open_until
    assert a.state("acme").circuit.state is CircuitState.HALF_OPEN


async def test_unknown_targets_are_counted_and_ignored(replicas: list[Replica]) -> None:
    """Catalogs reload at different times: a report is never refused for naming a newer model."""
    a = replicas[0]
    a.judge.record_outcomes(
        [Outcome("acme", "next", 1), Outcome("nobody", "x", 1), Outcome("acme", "large", 1)]
    )
    value = a.metrics.registry.get_sample_value
    assert value("pointsman_health_outcomes_total", {"result": "unknown"}) == 2
    assert value("pointsman_health_outcomes_total", {"result": "taken"}) == 1


async def test_a_memory_of_every_request_grows_until_the_process_dies(
    replicas: list[Replica], hub: Hub
) -> None:
    """Named regression: it must not. With the store gone and reports pouring in, what is kept is bounded."""
    hub.down = True
    a = replicas[0]
    for _ in range(MAX_OUTBOX + 500):
        a.succeed("acme", "large")
    assert len(a.judge.take_outgoing().outcomes) == MAX_OUTBOX


async def test_a_reloaded_catalog_is_judged_and_published(replicas: list[Replica]) -> None:
    """New models appear, removed ones are no longer published, open circuits stay."""
    a = replicas[0]
    a.fail("acme", "large")
    before = a.published.version
    a.judge.replace_catalog(make_catalog({"acme": ("large", "next")}))
    assert set(a.published.states) == {Target("acme"), LARGE, Target("acme", "next")}
    assert a.published.since(a.published.epoch, before).snapshot
    assert a.state("acme", "large").circuit.state is CircuitState.OPEN
