"""Loads and calls the function library in a Redis or Valkey server, and classifies its failures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from libs.errors import Unavailable

LIBRARY = "pointsman_limits_v1"
_REVISION = re.compile(r"^-- revision (\d+)", re.MULTILINE)
#: Answers of a server that is there and will be able to serve again by itself.
_PASSING = (
    "LOADING",
    "MASTERDOWN",
    "NOREPLICAS",
    "READONLY",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MISCONF",
    "OOM",
    "BUSY",
)

Call = tuple[str, Sequence[str], Sequence[str | bytes | int | float]]


def connect(url: str, timeout: float = 1.0) -> Redis:
    """Returns a client that fails after `timeout` seconds rather than wait, and tries a broken connection once more:
    all functions may be repeated."""
    return Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[RedisConnectionError],
        health_check_interval=0,
        decode_responses=False,
    )


@cache
def source() -> str:
    """Returns the library's text."""
    return Path(__file__).with_name("limits.lua").read_text(encoding="utf-8")


class Functions:
    """Calls functions of the library; loads it where it is missing or older."""

    def __init__(self, redis: Redis, failed: Callable[[], None] = lambda: None) -> None:
        """`failed` is called whenever the store could not be used."""
        self._redis: Any = redis  # its own hints are for both clients at once
        self._failed = failed

    async def load(self) -> None:
        """Makes sure that the server has this library or a newer one. Raises Unavailable."""
        try:
            stored = await self._redis.function_list(library=LIBRARY, withcode=True)
            text = str(stored[0]) if stored else ""
            code = _stored_code(stored)
            if code == source():
                return
            if text and code and revision_of(code) > revision_of(source()):
                return
            await self._redis.function_load(source(), replace=True)
        except RedisError as error:
            raise self._unavailable(error) from error

    async def revision(self) -> int:
        """Returns the revision of the library on the server, 0 where there is none. Raises Unavailable."""
        try:
            code = _stored_code(await self._redis.function_list(library=LIBRARY, withcode=True))
        except RedisError as error:
            raise self._unavailable(error) from error
        return revision_of(code) if code else 0

    async def call(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int | float]) -> bytes:
        """Calls one function. Raises Unavailable."""
        (answer,) = await self.call_all([(name, keys, args)])
        return answer

    async def call_all(self, calls: Sequence[Call]) -> list[bytes]:
        """Calls functions, in order, in one round trip. Raises Unavailable."""
        answers = await self._send(calls)
        if any(_is_missing(answer) for answer in answers):
            await self.load()
            answers = await self._send(calls)
        for answer in answers:
            if isinstance(answer, RedisError):
                raise self._unavailable(answer) from answer
        return [answer for answer in answers if isinstance(answer, bytes)]

    async def info(self, section: str) -> dict[str, object]:
        """Runs INFO. Raises Unavailable."""
        try:
            found: dict[str, object] = await self._redis.info(section)
        except RedisError as error:
            raise self._unavailable(error) from error
        return found

    async def option(self, name: str) -> str:
        """Runs CONFIG GET; empty where the server does not allow it. Raises Unavailable."""
        try:
            found = await self._redis.config_get(name)
        except ResponseError:
            return ""
        except RedisError as error:
            raise self._unavailable(error) from error
        return str(found.get(name, ""))

    async def hash(self, key: str) -> dict[bytes, bytes]:
        """Runs HGETALL. Raises Unavailable."""
        try:
            found = await self._redis.hgetall(key)
        except RedisError as error:
            raise self._unavailable(error) from error
        return cast(dict[bytes, bytes], found)

    async def hash_set(self, key: str, field: str, value: bytes) -> None:
        """Runs HSET. Raises Unavailable."""
        try:
            await self._redis.hset(key, field, value)
        except RedisError as error:
            raise self._unavailable(error) from error

    async def hash_delete(self, key: str, fields: Sequence[str]) -> None:
        """Runs HDEL. Raises Unavailable."""
        try:
            await self._redis.hdel(key, *fields)
        except RedisError as error:
            raise self._unavailable(error) from error

    async def _send(self, calls: Sequence[Call]) -> list[object]:
        try:
            if len(calls) == 1:
                ((name, keys, args),) = calls
                return [await self._redis.execute_command("FCALL", name, len(keys), *keys, *args)]
            pipeline = self._redis.pipeline(transaction=False)
            for name, keys, args in calls:
                pipeline.execute_command("FCALL", name, len(keys), *keys, *args)
            return list(await pipeline.execute(raise_on_error=False))
        except ResponseError as error:
            if _is_missing(error):
                return [error]
            raise self._unavailable(error) from error
        except RedisError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: RedisError) -> Exception:
        passing = isinstance(error, RedisConnectionError | RedisTimeoutError | ReadOnlyError) or str(
            error
        ).startswith(_PASSING)
        if not passing:
            return error
        self._failed()
        return Unavailable(
            "The limit store does not answer", reason="LIMIT_STORE_UNAVAILABLE", retry_after=1.0
        )


def _is_missing(answer: object) -> bool:
    return isinstance(answer, ResponseError) and "Function not found" in str(answer)


def revision_of(code: str) -> int:
    """Returns the revision of a library's text, 0 where it names none."""
    found = _REVISION.search(code)
    return int(found[1]) if found else 0


def _stored_code(stored: object) -> str:
    """Returns the code in the answer of FUNCTION LIST, whose shape depends on the protocol version."""
    if not isinstance(stored, list) or not stored:
        return ""
    entry = stored[0]
    pairs = entry.items() if isinstance(entry, dict) else zip(entry[::2], entry[1::2], strict=False)
    for key, value in pairs:
        if key in (b"library_code", "library_code"):
            return value.decode() if isinstance(value, bytes) else str(value)
    return ""
