"""Health replicas over real gRPC and a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from pointsman.health.v1 import health_pb2 as pb

from libs.change import Change
from libs.clock import SystemClock
from libs.errors import InvalidArgument
from libs.rpc.change_wire import change_from_proto
from libs.rpc.status import from_rpc_error
from tests.support.engines import RedisServer, valkey
from tests.support.health_fleet import Start, all_in, fleet, until


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RedisServer]:
    async with valkey() as running:
        yield running


@pytest.fixture
async def start(server: RedisServer) -> AsyncIterator[Start]:
    async with fleet(server) as starting:
        yield starting


async def test_n_replicas_send_one_probe_not_n(start: Start) -> None:
    """Three replicas learn of one replica's open circuit; when it half-opens, 30 askers at once get one permit in
    all; its success, reported to another replica, closes the circuit everywhere."""
    replicas = [await start(name) for name in "abc"]
    await replicas[0].report("large", faults=3)
    await all_in(replicas, pb.CIRCUIT_STATE_OPEN)
    await all_in(replicas, pb.CIRCUIT_STATE_HALF_OPEN)
    asked = pb.AcquireProbeRequest(provider="acme", model="large", holder_id="router")
    answers = await asyncio.gather(*(r.stub.AcquireProbe(asked) for r in replicas for _ in range(10)))
    permits = [answer.permit for answer in answers if answer.permit]
    assert len(permits) == 1
    assert all(a.state.circuit.state == pb.CIRCUIT_STATE_HALF_OPEN for a in answers)
    await replicas[1].report("large", ok=1, permit=permits[0])
    await all_in(replicas, pb.CIRCUIT_STATE_CLOSED)


async def test_a_lost_permit_does_not_keep_the_circuit_open(start: Start) -> None:
    """Nobody reports on the first permit; when its lease ends, the next one does its work."""
    (a,) = [await start("a")]
    await a.report("large", faults=3)
    await all_in([a], pb.CIRCUIT_STATE_HALF_OPEN)
    asked = pb.AcquireProbeRequest(provider="acme", model="large", holder_id="router")
    lost = await a.stub.AcquireProbe(asked)
    assert lost.permit
    granted: list[str] = []

    async def again() -> bool:
        granted.append((await a.stub.AcquireProbe(asked)).permit)
        return bool(granted[-1])

    await until(again)
    assert granted[-1] != lost.permit
    await a.report("large", ok=1, permit=granted[-1])
    assert await a.circuit("large") == pb.CIRCUIT_STATE_CLOSED


async def test_a_watcher_gets_a_snapshot_then_changes_and_can_resume(start: Start) -> None:
    """Changes missed while the stream was broken come first, and alone; another epoch means a snapshot."""
    a = await start("a")
    watch = a.stub.WatchProviders(pb.WatchProvidersRequest(watcher_id="r"))
    messages = aiter(watch)
    first = await anext(messages)
    assert first.snapshot
    assert {(s.provider, s.model) for s in first.providers} >= {
        ("acme", ""),
        ("acme", "large"),
        ("zeta", "one"),
    }
    heartbeat = await anext(messages)
    assert (heartbeat.version, len(heartbeat.providers)) == (first.version, 0)
    watch.cancel()
    await a.report("large", faults=3)
    request = pb.WatchProvidersRequest(watcher_id="r", epoch=first.epoch, version=first.version)
    resumed = a.stub.WatchProviders(request)
    missed = await anext(aiter(resumed))
    assert not missed.snapshot
    assert missed.version > first.version
    changed = {(s.provider, s.model): s for s in missed.providers}
    assert changed["acme", "large"].circuit.state == pb.CIRCUIT_STATE_OPEN
    assert changed["acme", "large"].status == pb.PROVIDER_STATUS_DOWN
    assert ("zeta", "one") not in changed
    resumed.cancel()
    request.epoch = "another"
    other = a.stub.WatchProviders(request)
    assert (await anext(aiter(other))).snapshot
    other.cancel()


async def test_reports_are_answered_in_order_and_bad_ones_refused(start: Start) -> None:
    """Sequences come back one by one; negative counts and floods name their field; unknown targets are no error."""
    a = await start("a")
    reports = [
        pb.ReportOutcomesRequest(
            sequence=n,
            outcomes=[pb.OutcomeSummary(provider="acme", model="unknown" if n % 2 else "large", successes=1)],
        )
        for n in range(1, 50)
    ]
    assert await a.send(*reports) == list(range(1, 50))
    good = pb.OutcomeSummary(provider="acme", model="large", successes=1)
    for outcomes, field in (
        ([good, pb.OutcomeSummary(provider="acme", model="large", successes=-1)], "outcomes[1]"),
        (
            [pb.OutcomeSummary(provider="acme", model="large", latency_sum=Duration(seconds=-5))],
            "outcomes[0]",
        ),
        ([pb.OutcomeSummary(model="large")], "outcomes[0]"),
        ([pb.OutcomeSummary(provider="acme", model="m", generation=-1)], "outcomes[0]"),
        ([good] * 1001, "outcomes"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await a.send(pb.ReportOutcomesRequest(sequence=1, outcomes=outcomes))
        error = from_rpc_error(caught.value)
        assert isinstance(error, InvalidArgument)
        assert error.violations[0].field == field
    assert (await a.state("acme", "large")).consecutive_failures == 0


async def test_an_operators_word_holds_everywhere_and_after_restarts(start: Start) -> None:
    """Set at one replica it is seen at another and by one that starts later; wrong requests change nothing."""
    a, b = await start("a"), await start("b")
    word = pb.SetProviderModeRequest(
        provider="acme", mode=pb.PROVIDER_MODE_MAINTENANCE, author="ann", reason="moving house"
    )
    answer = await a.stub.SetProviderMode(word)
    assert answer.state.status == pb.PROVIDER_STATUS_MAINTENANCE

    async def heard() -> bool:
        return (await b.state("acme")).mode == pb.PROVIDER_MODE_MAINTENANCE

    await until(heard)
    late = await start("late")
    state = await late.state("acme")
    assert state.mode == pb.PROVIDER_MODE_MAINTENANCE
    assert "moving house" in state.reason
    for request, code in (
        (
            pb.SetProviderModeRequest(
                provider="nobody", mode=pb.PROVIDER_MODE_MAINTENANCE, author="ann", reason="x"
            ),
            grpc.StatusCode.NOT_FOUND,
        ),
        (
            pb.SetProviderModeRequest(mode=pb.PROVIDER_MODE_MAINTENANCE, author="ann", reason="x"),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            pb.SetProviderModeRequest(provider="acme", author="ann", reason="x"),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            pb.SetProviderModeRequest(provider="acme", mode=pb.PROVIDER_MODE_BLOCKED),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            pb.SetProviderModeRequest(
                provider="acme", mode=pb.PROVIDER_MODE_BLOCKED, author="ann", reason="x", generation=9
            ),
            grpc.StatusCode.ABORTED,
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await a.stub.SetProviderMode(request)
        assert caught.value.code() is code
    assert (await a.state("acme")).mode == pb.PROVIDER_MODE_MAINTENANCE


async def test_failover_by_hand_and_a_test_by_hand(start: Start) -> None:
    """Traffic leaves at once for as long as asked; a test by hand answers with all its steps."""
    a = await start("a")
    request = pb.TriggerFailoverRequest(
        provider="acme", author="ann", reason="region trouble", duration=Duration(seconds=3600)
    )
    state = (await a.stub.TriggerFailover(request)).state
    assert state.circuit.state == pb.CIRCUIT_STATE_OPEN
    assert 3500 < state.circuit.open_until.seconds - SystemClock().now() <= 3601
    found = await a.stub.TestProvider(pb.TestProviderRequest(provider="acme"))
    (tested,) = found.endpoints
    assert [step.name for step in tested.steps] == list(pb.TestStepName.values())[1:]
    assert tested.steps[-1].models.findings[0].model == "large"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await a.stub.TestProvider(pb.TestProviderRequest(provider="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_valkey_dies_and_comes_back(start: Start, server: RedisServer) -> None:
    """Each replica goes on with the evidence it sees: circuits open, half-open with a permit of its own and close.
    When the store is back, replicas agree again by themselves."""
    a, b = await start("a"), await start("b")
    await server.kill()
    try:
        await a.report("large", faults=3)
        assert await a.circuit("large") == pb.CIRCUIT_STATE_OPEN
        await all_in([a], pb.CIRCUIT_STATE_HALF_OPEN)
        asked = pb.AcquireProbeRequest(provider="acme", model="large", holder_id="router")
        answers = [(await a.stub.AcquireProbe(asked)).permit for _ in range(3)]
        assert [bool(permit) for permit in answers] == [True, False, False]
        await a.report("large", ok=1, permit=answers[0])
        assert await a.circuit("large") == pb.CIRCUIT_STATE_CLOSED
        word = pb.SetProviderModeRequest(
            provider="zeta", mode=pb.PROVIDER_MODE_BLOCKED, author="ann", reason="storm"
        )
        await a.stub.SetProviderMode(word)
        assert await b.circuit("large") == pb.CIRCUIT_STATE_CLOSED
    finally:
        await server.start()

    async def agreed() -> bool:
        mode = (await b.state("zeta")).mode
        return mode == pb.PROVIDER_MODE_BLOCKED and (await b.state("acme", "large")).circuit.generation == 3

    await until(agreed)
    await b.report("small", faults=3)
    await all_in([a, b], pb.CIRCUIT_STATE_OPEN, "small")


async def test_changes_at_two_replicas_at_once_are_one_after_another(start: Start) -> None:
    """Each follows the one before and says what it replaced; none is lost."""
    replicas = [await start("a"), await start("b")]
    modes = (pb.PROVIDER_MODE_MAINTENANCE, pb.PROVIDER_MODE_DRAIN, pb.PROVIDER_MODE_BLOCKED)

    async def change(number: int) -> Change:
        word = pb.SetProviderModeRequest(
            provider="acme", mode=modes[number % 3], author=f"p{number}", reason="x"
        )
        return change_from_proto((await replicas[number % 2].stub.SetProviderMode(word)).change)

    made = sorted(await asyncio.gather(*[change(number) for number in range(24)]), key=lambda c: c.version)
    assert [each.version for each in made] == list(range(1, 25))
    assert [later.before for later in made] == ["", *[earlier.after for earlier in made[:-1]]]
    assert len({each.author for each in made}) == 24

    async def agreed() -> bool:
        return {(await replica.state("acme")).mode_version for replica in replicas} == {24}

    await until(agreed)


async def test_of_people_at_one_version_one_wins(start: Start) -> None:
    """Wherever they are, the others are told ABORTED, and the state is the winner's."""
    replicas = [await start("a"), await start("b")]

    async def change(number: int) -> str:
        word = pb.SetProviderModeRequest(
            provider="acme", mode=pb.PROVIDER_MODE_DRAIN, author=f"p{number}", reason=f"r{number}", version=0
        )
        try:
            return (await replicas[number % 2].stub.SetProviderMode(word)).change.reason
        except grpc.aio.AioRpcError as error:
            return "" if error.code() is grpc.StatusCode.ABORTED else str(error)

    (won,) = [reason for reason in await asyncio.gather(*[change(n) for n in range(8)]) if reason]

    async def agreed() -> bool:
        states = [await replica.state("acme") for replica in replicas]
        return all(state.reason.endswith(f": {won}") and state.mode_version == 1 for state in states)

    await until(agreed)
