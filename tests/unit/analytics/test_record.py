"""Group commits: who waits for what, and what a failure means."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from libs.errors import Unavailable
from libs.telemetry import Metrics
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.ledger import Recorded
from services.analytics.ledger.recorder import Recorder
from services.analytics.ledger.request import RequestRecord
from tests.support.clock import ManualClock
from tests.support.ledger import NOW, MemoryLedger, an_attempt


class GatedLedger(MemoryLedger):
    """Commits only while the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.entered = asyncio.Event()

    async def record(self, attempts: Sequence[Attempt], requests: Sequence[RequestRecord] = ()) -> Recorded:
        self.entered.set()
        await self.gate.wait()
        return await super().record(attempts, requests)


class RefusingLedger(MemoryLedger):
    """Can never keep the attempts named."""

    def __init__(self, *refused: str) -> None:
        super().__init__()
        self.refused = refused

    async def record(self, attempts: Sequence[Attempt], requests: Sequence[RequestRecord] = ()) -> Recorded:
        done = await super().record([a for a in attempts if a.attempt_id not in self.refused])
        return Recorded(done.inserted, done.replaced, done.duplicates, dict.fromkeys(self.refused, "no"))


class BrokenLedger(MemoryLedger):
    """Has a bug."""

    async def record(self, attempts: Sequence[Attempt], requests: Sequence[RequestRecord] = ()) -> Recorded:
        raise ZeroDivisionError


def recorder_of(ledger: MemoryLedger, max_commit: int = 2000) -> tuple[Recorder, Metrics]:
    metrics = Metrics()
    return Recorder(ledger, ManualClock(now=NOW), metrics, max_commit), metrics


async def turn() -> None:
    """Lets everything that can run, run."""
    for _ in range(5):
        await asyncio.sleep(0)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"pointsman_analytics_{name}", labels)


async def test_batches_that_come_during_a_commit_share_the_next() -> None:
    """Ten streams: the first commits alone, the other nine together."""
    ledger = GatedLedger()
    recorder, metrics = recorder_of(ledger)
    first = asyncio.create_task(recorder.record([an_attempt("a0")]))
    await ledger.entered.wait()
    others = asyncio.gather(*(recorder.record([an_attempt(f"a{i}")]) for i in range(1, 10)))
    await turn()
    assert value(metrics, "pending_events") == 9
    ledger.gate.set()
    await asyncio.gather(first, others)
    assert ledger.commits == [1, 9]
    assert value(metrics, "pending_events") == 0
    assert value(metrics, "events_total", result="inserted") == 10
    assert value(metrics, "commit_events_sum") == 10
    # Each attempt began 60 s ago and took 1 s.
    assert value(metrics, "lag_seconds_sum") == 2 * 59.0


async def test_a_commit_is_bounded_but_never_splits_a_batch() -> None:
    """With room for 5, batches of 3, 2, 2 and 7 make commits of 5, 2 and 7."""
    ledger = GatedLedger()
    recorder, _ = recorder_of(ledger, max_commit=5)
    batches = [[an_attempt(f"a{b}x{i}") for i in range(size)] for b, size in enumerate([3, 2, 2, 7])]
    ledger.gate.set()
    await asyncio.gather(*(recorder.record(batch) for batch in batches))
    assert ledger.commits == [5, 2, 7]
    assert len(ledger.rows) == 14


async def test_nothing_is_acknowledged_before_its_commit() -> None:
    """The call returns when the ledger has it, not earlier."""
    ledger = GatedLedger()
    recorder, _ = recorder_of(ledger)
    task = asyncio.create_task(recorder.record([an_attempt()]))
    await ledger.entered.wait()
    await turn()
    assert not task.done()
    ledger.gate.set()
    assert await task == {}


async def test_a_ledger_that_is_gone_fails_all_who_wait_and_none_later() -> None:
    """Every waiting batch gets UNAVAILABLE; the next commit works again without a restart."""
    ledger = MemoryLedger()
    ledger.gone = True
    recorder, metrics = recorder_of(ledger)
    results = await asyncio.gather(
        *(recorder.record([an_attempt(f"a{i}")]) for i in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, Unavailable) for result in results)
    assert value(metrics, "commit_failures_total") == 1
    ledger.gone = False
    assert await recorder.record([an_attempt()]) == {}
    assert set(ledger.rows) == {"a1"}


async def test_a_bug_below_reaches_the_sender_and_does_not_stop_the_loop() -> None:
    """An unexpected error is raised to whoever waits, each time."""
    recorder, _ = recorder_of(BrokenLedger())
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await recorder.record([an_attempt()])


async def test_a_sender_that_leaves_does_not_disturb_the_others() -> None:
    """A batch of a cancelled stream is left out before its commit, and written after; the others are acknowledged."""
    ledger = GatedLedger()
    recorder, _ = recorder_of(ledger)
    first = asyncio.create_task(recorder.record([an_attempt("a0")]))
    await ledger.entered.wait()
    leaver, last = (asyncio.create_task(recorder.record([an_attempt(f"a{i}")])) for i in (1, 2))
    await turn()
    first.cancel()
    leaver.cancel()
    await asyncio.gather(first, leaver, return_exceptions=True)
    ledger.gate.set()
    assert await last == {}
    assert set(ledger.rows) == {"a0", "a2"}


async def test_the_unusable_is_named_to_its_own_sender_and_the_rest_is_kept() -> None:
    """From the future, or refused by the store: a reason by attempt id, to the stream that sent it only."""
    ledger = RefusingLedger("a1")
    recorder, metrics = recorder_of(ledger)
    mine, other = await asyncio.gather(
        recorder.record(
            [an_attempt("a1"), an_attempt("a2"), an_attempt("a3", started=NOW + 90_000)], malformed=2
        ),
        recorder.record([an_attempt("a4")]),
    )
    assert set(mine) == {"a1", "a3"}
    assert "future" in mine["a3"]
    assert other == {}
    assert set(ledger.rows) == {"a2", "a4"}
    assert value(metrics, "events_total", result="rejected") == 4
    assert value(metrics, "events_total", result="inserted") == 2


async def test_closing_waits_for_what_is_being_written() -> None:
    """A drain does not cut a commit."""
    ledger = GatedLedger()
    recorder, _ = recorder_of(ledger)
    task = asyncio.create_task(recorder.record([an_attempt()]))
    await ledger.entered.wait()
    closing = asyncio.create_task(recorder.close())
    await turn()
    assert not closing.done()
    ledger.gate.set()
    await asyncio.gather(closing, task)
    await recorder.close()
    assert set(ledger.rows) == {"a1"}
