"""Signs of life in the silences of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from libs.answer import Delta, Event
from services.router.api.heartbeat import Heartbeats

INTERVAL = 0.01


async def _stream(*steps: str | asyncio.Event) -> AsyncGenerator[Event, None]:
    for step in steps:
        if isinstance(step, str):
            yield Delta(step)
        else:
            await step.wait()


async def test_events_that_follow_each_other_have_none_between_them() -> None:
    """Without a silence nothing is added, and the order stays."""
    beats: list[None] = []

    async def send() -> None:
        beats.append(None)

    events = [event async for event in Heartbeats(3600.0).between(_stream("a", "b"), send)]
    assert events == [Delta("a"), Delta("b")]
    assert beats == []


async def test_an_interval_of_0_sends_none() -> None:
    """The silence may be as long as it likes."""
    speaks = asyncio.Event()
    asyncio.get_running_loop().call_later(5 * INTERVAL, speaks.set)

    async def send() -> None:
        raise AssertionError("sent")

    events = [event async for event in Heartbeats(0.0).between(_stream(speaks, "a"), send)]
    assert events == [Delta("a")]


async def test_no_event_is_handed_on_while_one_is_being_sent() -> None:
    """Two writes at once would break a gRPC call; and a caller that does not read gets one heartbeat, not many."""
    speaks, written = asyncio.Event(), asyncio.Event()
    begun = 0
    writing = False

    async def send() -> None:
        nonlocal begun, writing
        begun, writing = begun + 1, True
        speaks.set()
        await written.wait()
        writing = False

    asyncio.get_running_loop().call_later(10 * INTERVAL, written.set)
    async for event in Heartbeats(INTERVAL).between(_stream(speaks, "a"), send):
        assert event == Delta("a")
        assert not writing
    assert begun == 1


async def test_nothing_is_sent_while_an_event_is() -> None:
    """The consumer that still writes an event is not disturbed, however long that takes."""
    beats: list[None] = []

    async def send() -> None:
        beats.append(None)

    async for _ in Heartbeats(INTERVAL).between(_stream("a"), send):
        await asyncio.sleep(10 * INTERVAL)
    assert beats == []


async def test_a_failure_to_send_ends_the_stream() -> None:
    """Its exception is raised where the next event would be."""
    speaks = asyncio.Event()

    async def send() -> None:
        speaks.set()
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        async for _ in Heartbeats(INTERVAL).between(_stream(speaks, "a"), send):
            pass


def test_a_negative_interval_is_refused() -> None:
    """Rather than taken for none."""
    with pytest.raises(ValueError, match="negative"):
        Heartbeats(-1.0)
