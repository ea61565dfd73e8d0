"""Asks Redis or Valkey how it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from libs.clock import Clock
from libs.diagnosis import StoreAnswer
from libs.errors import Unavailable


async def ask_redis(
    redis: Redis, clock: Clock, schema: Callable[[], Awaitable[int]] | None = None
) -> StoreAnswer:
    """Returns the server's version and clock, and the version of our functions there where `schema` finds it. Raises
    Unavailable."""
    client: Any = redis  # its own hints are for both clients at once
    try:
        found = await client.info("server")
        began = clock.now()
        seconds, micros = await client.time()
        middle = (began + clock.now()) / 2
    except (RedisError, OSError) as error:
        # By type: the text may hold the URL.
        raise Unavailable(
            f"The store does not answer ({type(error).__name__})", reason="STORE_UNAVAILABLE"
        ) from error
    version = str(found.get("valkey_version") or found.get("redis_version") or "")
    name = "Valkey" if "valkey_version" in found else "Redis"
    offset = int(seconds) + int(micros) / 1e6 - middle
    return StoreAnswer(f"{name} {version}", offset, await schema() if schema is not None else None)
