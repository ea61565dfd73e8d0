"""Large pieces of work take turns."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from libs.heavy import HeavyWork


async def test_others_run_between_two_large_pieces() -> None:
    """However many wait, the loop has rounds of its own between one piece and the next."""
    work = HeavyWork()
    story: list[str] = []

    async def large() -> None:
        async with work:
            story.append("large")

    async def small() -> None:
        while story.count("large") < 4:
            story.append("small")
            await asyncio.sleep(0)

    await asyncio.gather(*(large() for _ in range(4)), small())
    places = [index for index, name in enumerate(story) if name == "large"]
    assert all(after - before > 1 for before, after in itertools.pairwise(places)), story


async def test_a_piece_that_fails_or_is_cancelled_keeps_nobody_waiting() -> None:
    """A piece that fails or is cancelled, at work or waiting for its turn, lets the next one begin."""
    work = HeavyWork()
    with pytest.raises(ValueError, match="broken"):
        async with work:
            raise ValueError("broken")

    async def wait() -> None:
        async with work:
            raise AssertionError("it was cancelled before its turn")

    async with work:
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(10), work:
        pass
    assert waiting.cancelled()
