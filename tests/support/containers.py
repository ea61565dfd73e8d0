"""Containers of the official images of Redis and PostgreSQL, as servers for tests."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Self

import asyncpg
import docker
from docker.errors import DockerException
from redis.asyncio import Redis
from redis.exceptions import RedisError
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from dev.engines.child import free_port

REDIS_IMAGE, POSTGRES_IMAGE = "redis:7", "postgres:15"
START_SECONDS = 60.0


@cache
def docker_answers() -> bool:
    """Returns True if there is a Docker engine."""
    try:
        return bool(docker.from_env(timeout=5).ping())
    except DockerException:
        return False


class Container:
    """A container on a fixed port of this machine. Docker's calls block, so they run in threads."""

    def __init__(
        self,
        image: str,
        inside: int,
        ready: Callable[[], Awaitable[bool]],
        environment: Mapping[str, str],
        command: Sequence[str] = (),
        network: Network | None = None,
    ) -> None:
        """`inside` is the port that the image listens on; `ready` tells whether the server answers. In a `network`
        other containers reach it by the image's name."""
        self.port = free_port()
        self._ready = ready
        self._container = DockerContainer(image).with_bind_ports(inside, self.port)
        for name, value in environment.items():
            self._container.with_env(name, value)
        if command:
            self._container.with_command(list(command))
        if network is not None:
            self._container.with_network(network).with_network_aliases(image.partition(":")[0])

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self._container.get_container_host_ip()}:{self.port}"

    async def __aenter__(self) -> Self:
        """Makes the container; returns once the server answers."""
        try:
            await asyncio.to_thread(self._container.start)
            await self._wait()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Removes it with its data."""
        await asyncio.to_thread(self._container.stop)

    async def start(self) -> None:
        """See `engines.Server`."""
        await asyncio.to_thread(self._container.get_wrapped_container().start)
        await self._wait()

    async def stop(self) -> None:
        """See `engines.Server`."""
        await asyncio.to_thread(self._container.get_wrapped_container().stop)

    async def kill(self) -> None:
        """See `engines.Server`."""
        await asyncio.to_thread(self._container.get_wrapped_container().kill)

    async def restart(self) -> None:
        """See `engines.Server`."""
        await self.stop()
        await self.start()

    async def _wait(self) -> None:
        async with asyncio.timeout(START_SECONDS):
            while not await self._ready():
                await asyncio.sleep(0.05)


class RedisContainer(Container):
    """redis:7 that keeps what it acknowledged."""

    def __init__(self, network: Network | None = None) -> None:
        self._password = secrets.token_urlsafe(24)
        command = [
            *("redis-server", "--bind", "0.0.0.0", "--requirepass", self._password),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        ]
        super().__init__(REDIS_IMAGE, 6379, self._answers, {}, command, network)

    @property
    def url(self) -> str:
        """See `engines.RedisServer`."""
        return f"redis://:{self._password}@{self.address}/0"

    @property
    def url_inside(self) -> str:
        """For containers of its network."""
        return f"redis://:{self._password}@redis:6379/0"

    async def _answers(self) -> bool:
        client = Redis.from_url(self.url)
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()


class PostgresContainer(Container):
    """postgres:15 as it comes."""

    def __init__(self, network: Network | None = None) -> None:
        self._password = secrets.token_urlsafe(24)
        environment = {
            "POSTGRES_USER": "pointsman",
            "POSTGRES_PASSWORD": self._password,
            "POSTGRES_DB": "postgres",
        }
        super().__init__(POSTGRES_IMAGE, 5432, self._answers, environment, network=network)

    @property
    def dsn(self) -> str:
        """See `engines.PostgresServer`."""
        return f"postgresql://pointsman:{self._password}@{self.address}/postgres"

    @property
    def dsn_inside(self) -> str:
        """For containers of its network."""
        return f"postgresql://pointsman:{self._password}@postgres:5432/postgres"

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.dsn, timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True
