"""Services' accounts of themselves, over gRPC, with real stores and with stores that fail."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from libs.client import DiagnosisClient
from libs.clock import SystemClock
from libs.diagnosis import SettingRemark, Store, StoreAnswer, StoreKind
from libs.errors import Unauthenticated, Unavailable
from libs.redis_diagnosis import ask_redis
from libs.rpc.diagnosis import DiagnosisServicer, diagnosis_registration
from libs.rpc.identity import ServiceToken
from services.analytics.database.postgres_diagnosis import ask_postgres
from services.ratelimit.adapters.redis_functions import Functions, revision_of, source
from tests.support.engines import PostgresServer, valkey
from tests.support.postgres import fresh_database
from tests.support.server import grpc_server

TOKEN = "operators-token"


async def never() -> StoreAnswer:
    await asyncio.Event().wait()
    raise AssertionError


async def gone() -> StoreAnswer:
    raise Unavailable("The store does not answer")


async def refused() -> StoreAnswer:
    raise ConnectionRefusedError


async def test_a_diagnosis_comes_whole_over_the_wire() -> None:
    """Stores that are there, gone, refused and silent are told apart within the bound of each; remarks, versions and
    offsets below zero arrive as they were; without the token there is nothing."""

    async def there() -> StoreAnswer:
        return StoreAnswer("PostgreSQL 15.3", -1.25, 7)

    stores = [
        Store(StoreKind.POSTGRESQL, "ledger", there, 8),
        Store(StoreKind.VALKEY, "gone", gone),
        Store(StoreKind.VALKEY, "refused", refused),
        Store(StoreKind.VALKEY, "silent", never),
    ]
    servicer = DiagnosisServicer(
        "analytics", "me", list(SettingRemark), stores, lambda: "abc", SystemClock(), timeout=0.05
    )
    server = grpc_server([diagnosis_registration(servicer)], ServiceToken(TOKEN))
    await server.start("127.0.0.1:0")
    server.begin_serving()
    address = f"127.0.0.1:{server.port}"
    try:
        async with DiagnosisClient(address, TOKEN) as client:
            found = await client.diagnose()
        async with DiagnosisClient(address, "another") as client:
            with pytest.raises(Unauthenticated):
                await client.diagnose()
    finally:
        await server.drain(0)
    assert (found.service, found.instance_id, found.catalog_version) == ("analytics", "me", "abc")
    assert found.remarks == tuple(SettingRemark)
    assert abs(found.now - SystemClock().now()) < 60
    ledger, *others = found.stores
    assert (ledger.answer, ledger.schema_wanted) == (StoreAnswer("PostgreSQL 15.3", -1.25, 7), 8)
    assert not ledger.ready
    assert [(store.name, store.answer) for store in others] == [
        ("gone", None),
        ("refused", None),
        ("silent", None),
    ]


async def test_valkey_says_how_it_is() -> None:
    """Its version, its clock, and the revision of the limiter's functions: none before they are loaded; when it is
    gone that is said."""
    async with valkey() as running:
        redis = Redis.from_url(running.url, socket_timeout=1.0)
        functions = Functions(redis)
        try:
            answer = await ask_redis(redis, SystemClock(), functions.revision)
            assert answer.version.split()[0] in ("Valkey", "Redis")
            assert answer.schema == 0
            assert abs(answer.clock_offset) < 60
            await functions.load()
            answer = await ask_redis(redis, SystemClock(), functions.revision)
            assert answer.schema == revision_of(source()) > 0
            await running.kill()
            with pytest.raises(Unavailable):
                await ask_redis(redis, SystemClock())
        finally:
            await redis.aclose()


async def test_postgresql_says_how_it_is(postgres_server: PostgresServer) -> None:
    """Its version and its clock; no schema where nothing was migrated; a database that is not there, and a server
    that is not, are unavailable, and the DSN is in no message."""
    async with fresh_database(postgres_server) as dsn:
        answer = await ask_postgres(dsn, SystemClock())
        assert answer.version.startswith("PostgreSQL 1")
        assert answer.schema == 0
        assert abs(answer.clock_offset) < 60
    for wrong in (dsn, "postgresql://user:hush@127.0.0.1:1/none"):
        with pytest.raises(Unavailable) as caught:
            await ask_postgres(wrong, SystemClock())
        assert "hush" not in str(caught.value)
