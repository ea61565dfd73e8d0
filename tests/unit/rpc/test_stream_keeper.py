"""A long-lived stream is opened again and again, in virtual time, with a scripted peer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import pytest
import structlog

from libs.resilience.backoff import Backoff
from libs.rpc.stream_keeper import StreamEnded, StreamKeeper
from libs.telemetry import Metrics
from libs.throttle import INTERVAL
from tests.support.virtual import VirtualClock, run

BACKOFF = Backoff(base=0.1, cap=2.0)


class Longest(Random):
    """Jitter that is always the longest."""

    def uniform(self, a: float, b: float) -> float:
        return b


@dataclass
class FakeCall:
    """A call that counts how often it was cancelled."""

    cancelled: int = 0

    def cancel(self) -> bool:
        self.cancelled += 1
        return True


def unavailable() -> grpc.aio.AioRpcError:
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, empty, empty, "no route")


@dataclass
class Bed:
    """A keeper, the calls it opened and when."""

    clock: VirtualClock
    calls: list[FakeCall] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        gauge = self.metrics.gauge("peer_connected", "1 while it is")
        self.keeper = StreamKeeper("peer", self._open, BACKOFF, self.clock, Longest(), gauge)

    def _open(self) -> FakeCall:
        self.calls.append(FakeCall())
        self.opened.append(self.clock.monotonic())
        return self.calls[-1]

    @property
    def gauge(self) -> float | None:
        return self.metrics.registry.get_sample_value("pointsman_peer_connected")

    @property
    def waits(self) -> list[float]:
        return [round(b - a, 6) for a, b in zip(self.opened, self.opened[1:], strict=False)]


def with_bed(test: Callable[[Bed], Coroutine[Any, Any, None]]) -> None:
    run(lambda clock: test(Bed(clock)))


@pytest.mark.parametrize("error", [unavailable(), TimeoutError(), StreamEnded(), asyncio.InvalidStateError()])
def test_however_a_session_ends_another_follows_and_its_call_is_cancelled(error: Exception) -> None:
    """The wait grows while the peer answers nothing, and once it has answered begins anew."""

    async def test(bed: Bed) -> None:
        async def session(_: FakeCall) -> None:
            number = len(bed.calls)
            assert not bed.keeper.connected
            if number == 5:
                bed.keeper.answered()
                assert bed.keeper.connected
                assert bed.gauge == 1
            elif number == 8:
                return
            raise error

        await bed.keeper.run(session)
        assert bed.waits == [0.1, 0.2, 0.4, 0.8, 0.1, 0.2, 0.4]
        assert [call.cancelled for call in bed.calls] == [1] * 8
        assert (bed.keeper.connected, bed.gauge) == (False, 0)

    with_bed(test)


def test_the_wait_is_drawn_from_zero_to_the_cap() -> None:
    """Full jitter, so that a fleet does not come back in one instant; never longer than the cap."""

    async def test(bed: Bed) -> None:
        keeper = StreamKeeper("peer", bed._open, BACKOFF, bed.clock, Random(1))

        async def session(_: FakeCall) -> None:
            if len(bed.calls) < 200:
                raise StreamEnded

        await keeper.run(session)
        waits = bed.waits[10:]
        assert min(waits) < 0.1
        assert 1.8 < max(waits) <= BACKOFF.cap

    with_bed(test)


def test_what_breaks_again_and_again_is_logged_now_and_then() -> None:
    """The first at once, then every ten seconds with how many there were; the error in words."""

    async def test(bed: Bed) -> None:
        async def session(_: FakeCall) -> None:
            if bed.clock.monotonic() < bed.opened[0] + 3 * INTERVAL:
                raise unavailable() if len(bed.calls) < 3 else TimeoutError

        with structlog.testing.capture_logs() as logs:
            await bed.keeper.run(session)
        assert {entry["event"] for entry in logs} == {"peer_broken"}
        assert 2 <= len(logs) <= 3
        assert "no route" in logs[0]["error"]
        assert logs[1]["error"] == "TimeoutError"
        assert logs[0]["times"] == 1
        assert logs[1]["times"] > 1

    with_bed(test)


def test_what_is_no_broken_stream_ends_it() -> None:
    """A fault of ours, and a cancellation: the call is cancelled, nothing is connected."""

    async def test(bed: Bed) -> None:
        async def faulty(_: FakeCall) -> None:
            bed.keeper.answered()
            raise KeyError("ours")

        with pytest.raises(KeyError):
            await bed.keeper.run(faulty)

        async def endless(_: FakeCall) -> None:
            bed.keeper.answered()
            await asyncio.sleep(3600)

        task = asyncio.create_task(bed.keeper.run(endless))
        await bed.keeper.known.wait()
        await asyncio.sleep(1)
        assert bed.gauge == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [call.cancelled for call in bed.calls] == [1, 1]
        assert (bed.keeper.connected, bed.gauge) == (False, 0)

    with_bed(test)
