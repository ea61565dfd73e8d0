"""Router, analytics and PostgreSQL are killed with SIGKILL at random, again and again, while callers go on: in the
end the ledger has what the providers saw, once each, and all that is kept from it agrees with it."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import asyncpg

from libs.errors import Unavailable
from services.analytics.ledger.postgres_attempts import attempt_of
from services.analytics.rollups.postgres_rollups import read_state
from tests.e2e.catalogs import BUDGETED_KEY, CRASHES
from tests.hostile.conftest import SEED
from tests.support.load import Load, under_load
from tests.support.rollups import counted, held
from tests.support.stack import RunningStack, running_stack

VICTIMS = ("router", "analytics", "postgres")
#: SIGKILLs of each: at the fifth within half a minute `dev up` gives a stack up.
KILLS = 4
#: The longest time between two, seconds.
PAUSE = 2.0
WORKERS = 4


async def kill_at_random(stack: RunningStack, rng: random.Random) -> int:
    """Kills one after the other, or while the last is not back yet; returns how many once all serve again."""
    killed = 0
    for name in rng.sample(VICTIMS * KILLS, len(VICTIMS) * KILLS):
        with suppress(LookupError):  # It is dead still.
            pid = stack.kill(name)
            killed += 1
            if rng.random() < 0.5:
                await stack.back(name, pid)
        await asyncio.sleep(rng.choice([0.0, rng.uniform(0, PAUSE)]))
    await asyncio.gather(*(stack.back(name, 0) for name in VICTIMS))
    return killed


async def test_random_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """Every attempt that a provider saw is in the ledger once: at the cost that its caller was told, or as uncertain
    where its router did not live to see the end; every request that was answered has its record once."""
    rng = random.Random(SEED)
    async with running_stack(tmp_path, CRASHES) as stack, AsyncExitStack() as opened:
        faults = [{"kind": "status", "preset": "server_error", "when": {"every": 15}}]
        await stack.simulator.set("openai", latency_ms=20, ms_per_token=0.3, faults=faults)
        await stack.simulator.set("gemini", latency_ms=20, ms_per_token=0.3)
        clients = {
            "demo": await opened.enter_async_context(stack.client()),
            "budgeted": await opened.enter_async_context(stack.client(BUDGETED_KEY)),
        }
        async with under_load(clients, "random", workers=WORKERS, seed=SEED) as load:
            await load.until(more=20)
            killed = await kill_at_random(stack, rng)
            await load.until(more=20)
        print(f"{load.story()}; {killed} kills")
        await assert_accounts_agree(stack, load, KILLS * WORKERS * len(clients))


async def assert_accounts_agree(stack: RunningStack, load: Load, cut_off: int) -> None:
    """Fails unless callers, providers and the ledger agree. `cut_off`: calls that died with their router, at most."""
    assert all(isinstance(failure.error, Unavailable) for failure in load.failures), load.failures
    attempts = load.attempts
    seen = sum(report["counters"]["requests"] for report in (await stack.simulator.all()).values())
    rows = await stack.settled_ledger(load.prefix, lambda found: len(found) >= seen)
    by_id = {row["attempt_id"]: row for row in rows}
    unknown = [row for row in rows if row["outcome"] == "unknown"]
    print(
        f"ledger {len(rows)}, providers saw {seen}, callers know of {len(attempts)}, unknown {len(unknown)}"
    )
    assert len(by_id) == len(rows)
    assert set(attempts) <= set(by_id)
    assert all(by_id[key]["cost_micro_usd"] == attempt.cost_micro_usd for key, attempt in attempts.items())
    assert all(by_id[key]["outcome"] != "unknown" for key in attempts)
    assert len(unknown) <= cut_off
    assert all(row["accuracy"] == "uncertain" and row["cost_micro_usd"] > 0 for row in unknown)
    # An attempt is written down before its bytes leave: some may never have reached the provider.
    assert seen <= len(rows) <= seen + len(unknown)
    answered = [result.request_id for result in load.answers]
    connection = await asyncpg.connect(stack.postgres_dsn)
    try:
        requests = await connection.fetch(
            "SELECT request_id, count(*) AS records FROM analytics.requests WHERE outcome = 'success' GROUP BY 1"
        )
        async with connection.transaction(isolation="repeatable_read"):
            state = await read_state(connection)  # type: ignore[arg-type]  # a pool's proxy has the same methods
            kept = [attempt_of(row) for row in await connection.fetch("SELECT * FROM analytics.attempts")]
            assert await held(connection, state) == counted(kept, state)
    finally:
        await connection.close()
    records = {row["request_id"]: row["records"] for row in requests}
    assert {key: records.get(key) for key in answered} == dict.fromkeys(answered, 1)
