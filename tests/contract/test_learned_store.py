"""The contract of every LearnedStore: the one in memory and the real one on Valkey."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from libs.limits import LimitKey, Period, Unit, scope_of
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.learning.learned import Observation, Observed, Source
from services.ratelimit.learning.learning import LearnedStore
from services.ratelimit.learning.redis_learned import RedisLearned
from tests.support.engines import RedisServer
from tests.support.limiter import MemoryLearned

KEY = LimitKey(scope_of("model:together/meta-llama/Llama-3.3-70B:free"), Unit.TOTAL_TOKENS, Period.DAY)
WORD = Observed(
    (
        Observation(KEY, 10**12, 0.875, Source.HEADERS, 1_800_000_000.125, 12),
        Observation(
            LimitKey(scope_of("model:a/b"), Unit.REQUESTS, Period.MINUTE), 1, 0.0, Source.REFUSALS, 0.5, 1
        ),
    ),
    {scope_of("model:a/b"): 7},
    1_800_000_001.0,
)


@pytest.fixture(params=["memory", "valkey"])
async def store(
    request: pytest.FixtureRequest,
    valkey_server: RedisServer,
) -> AsyncIterator[LearnedStore]:
    if request.param == "memory":
        yield MemoryLearned()
        return
    redis = connect(valkey_server.url)
    try:
        yield RedisLearned(Functions(redis), uuid.uuid4().hex)
    finally:
        await redis.aclose()


async def test_a_word_comes_back_as_it_was_said(store: LearnedStore) -> None:
    """Every field, to the last bit."""
    assert await store.all() == {}
    await store.put("router-1", WORD)
    assert await store.all() == {"router-1": WORD}


async def test_a_routers_word_replaces_its_last_and_no_one_elses(store: LearnedStore) -> None:
    """One field a router."""
    await store.put("router-1", WORD)
    await store.put("router-2", WORD)
    await store.put("router-1", Observed())
    assert await store.all() == {"router-1": Observed(), "router-2": WORD}


async def test_routers_are_forgotten_by_name(store: LearnedStore) -> None:
    """Unknown ones too, without an error."""
    await store.put("router-1", WORD)
    await store.put("router-2", WORD)
    await store.drop(["router-1", "nobody"])
    assert await store.all() == {"router-2": WORD}
