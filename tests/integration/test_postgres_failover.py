"""PostgreSQL fails over under load: a standby is promoted, and the ledger has every acknowledged record once."""

from __future__ import annotations

import asyncio
import secrets
import time

import asyncpg
from pointsman.analytics.v1 import analytics_pb2 as pb

from dev.engines import postgres
from tests.support.analytics import Sender, an_event, analytics
from tests.support.standby import promote, synchronous_standby

BATCHES, EVENTS, SENDERS = 40, 25, 3


async def count(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT attempt_id FROM analytics.attempts")
    finally:
        await connection.close()
    return [row["attempt_id"] for row in rows]


async def test_a_failover_of_postgresql_loses_and_doubles_nothing() -> None:
    """Senders go on as the primary is killed with SIGKILL and the standby takes over at another address: all of
    their records are there once. Meanwhile and afterwards questions are answered, from the standby."""
    async with postgres() as primary, synchronous_standby(primary) as standby:
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        dsn = primary.dsn.replace(f"127.0.0.1:{primary.port}", hosts)
        async with analytics(dsn, postgres_reader_dsn=standby.dsn) as service:
            now = time.time()
            senders = [Sender(service.stub) for _ in range(SENDERS)]
            ids = [[secrets.token_hex(8) for _ in range(BATCHES * EVENTS)] for _ in senders]
            batches = [
                [[an_event(name, now) for name in mine[i : i + EVENTS]] for i in range(0, len(mine), EVENTS)]
                for mine in ids
            ]
            sending = [
                asyncio.create_task(sender.deliver(given))
                for sender, given in zip(senders, batches, strict=True)
            ]
            while sum(len(sender.acknowledged) for sender in senders) < BATCHES * EVENTS:
                await asyncio.sleep(0.005)
            await primary.kill()
            before = {name for sender in senders for name in sender.acknowledged}
            assert not all(task.done() for task in sending)
            answer = await service.stub.GetCosts(pb.GetCostsRequest())
            assert answer.total.attempts >= len(before)
            await promote(standby)
            async with asyncio.timeout(60):
                await asyncio.gather(*sending)
            answer = await service.stub.GetCosts(pb.GetCostsRequest())
            found = await count(standby.dsn)
    assert before <= set(found)
    assert sorted(found) == sorted(name for mine in ids for name in mine)
    assert answer.total.attempts == len(found)
