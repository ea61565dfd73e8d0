"""Work that runs beside a service's calls ends with it."""

from __future__ import annotations

import asyncio

import pytest

from libs.lifecycle import background


async def test_a_cancellation_that_was_lost_is_said_again() -> None:
    """Python 3.11's wait_for forgets one that comes as its task is done: a replica that sent to Redis at that moment
    never ended."""
    lost = 0

    async def endless() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    async with background("endless", endless):
        await asyncio.sleep(0)
    assert lost == 2


async def test_a_task_that_failed_fails_the_body() -> None:
    """At its exit, with what the task failed with."""

    async def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with background("broken", broken):
            await asyncio.sleep(0)
