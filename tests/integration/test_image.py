"""The container image as a stack, against the official images of its databases."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from dev.catalog import PUBLISHED_KEY
from dev.engines.child import free_port
from dev.members import grpc_serving, http_serving
from dev.stack import GRPC_SERVICES
from libs.client import Client, QuotaClient
from tests.support.engines import VARIABLE, PostgresServer, containers_wanted

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not containers_wanted(), reason=f"{VARIABLE}=containers and a Docker engine are wanted"
    ),
]

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "pointsman:test"
#: The image with the simulator.
DEVELOPMENT = "pointsman-development:test"
TOKEN = "of-this-test"
PORTS = {"router": 7700, "health": 7701, "ratelimit": 7702, "analytics": 7703}
HTTP_PORT = 7780
SIMULATOR = "simulator:7790"


@dataclass(frozen=True, slots=True)
class Stack:
    """The addresses of the services, and the ledger."""

    addresses: dict[str, str]
    postgres: PostgresServer


async def build() -> None:
    """`make images`, under names of their own. RuntimeError with the last lines where it fails."""
    arguments = [
        word
        for name in ("PIP_INDEX_URL", "PYTHON_IMAGE")
        if name in os.environ
        for word in ("--build-arg", name)
    ]
    for target, tag in (("production", IMAGE), ("development", DEVELOPMENT)):
        process = await asyncio.create_subprocess_exec(
            *("docker", "build", "--target", target, "--tag", tag, *arguments, "."),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(output.decode()[-3000:])


def environment(redis_url: str, postgres_dsn: str) -> dict[str, str]:
    """Of all services; each reads what is its own."""
    shared = {
        "POINTSMAN_CONFIG": "/app/config/simulator.yaml",
        "POINTSMAN_SIMULATOR_URL": f"http://{SIMULATOR}",
        "POINTSMAN_SERVICE_TOKEN": TOKEN,
        "POINTSMAN_HEALTH_REDIS_URL": redis_url,
        "POINTSMAN_RATELIMIT_REDIS_URL": redis_url,
        "POINTSMAN_RATELIMIT_STORE_TRUSTED": "true",
        "POINTSMAN_RATELIMIT_ANALYTICS_TARGET": f"analytics:{PORTS['analytics']}",
        "POINTSMAN_ANALYTICS_POSTGRES_DSN": postgres_dsn,
        "POINTSMAN_ROUTER_SPOOL_DIR": "/tmp/spool",
        "POINTSMAN_ROUTER_HTTP_LISTEN": f"0.0.0.0:{HTTP_PORT}",
    }
    listens = {f"POINTSMAN_{name.upper()}_LISTEN": f"0.0.0.0:{port}" for name, port in PORTS.items()}
    targets = {
        f"POINTSMAN_ROUTER_{name.upper()}_TARGET": f"{name}:{PORTS[name]}" for name in GRPC_SERVICES[:3]
    }
    return shared | listens | targets


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[Stack]:
    """Every service from the image in a network of its own, with redis:7, postgres:15 and the simulator."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.network import Network

    from tests.support.containers import PostgresContainer, RedisContainer

    await build()
    addresses: dict[str, str] = {}
    async with AsyncExitStack() as opened:
        network = opened.enter_context(Network())
        redis = await opened.enter_async_context(RedisContainer(network))
        postgres = await opened.enter_async_context(PostgresContainer(network))
        settings = environment(redis.url_inside, postgres.dsn_inside)
        simulator = DockerContainer(
            DEVELOPMENT, command="-m dev.simulator --listen 0.0.0.0:7790", env=settings
        )
        opened.enter_context(simulator.with_network(network).with_network_aliases("simulator"))
        for name, port_inside in PORTS.items():
            container = DockerContainer(IMAGE, command=f"-m services.{name}", env=settings)
            container.with_network(network).with_network_aliases(name)
            doors = {name: port_inside} | ({"http": HTTP_PORT} if name == "router" else {})
            for door, inside in doors.items():
                addresses[door] = f"127.0.0.1:{(port := free_port())}"
                container.with_bind_ports(inside, port)
            opened.enter_context(container)
        async with asyncio.timeout(60):
            for name in GRPC_SERVICES:
                await grpc_serving(addresses[name])
            await http_serving("/healthz")(addresses["http"])
        yield Stack(addresses, postgres)


async def test_the_image_answers_counts_and_accounts(stack: Stack) -> None:
    """Over both doors; what was asked is counted in Redis and in PostgreSQL's ledger."""
    async with Client(stack.addresses["router"], PUBLISHED_KEY, timeout=30) as client:
        answer = await client.generate("Describe a mug.", request_id="image-1")
    assert answer.text
    body = {"model": "auto", "messages": [{"role": "user", "content": "Describe a mug."}]}
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        given = await http.post(
            f"http://{stack.addresses['http']}/v1/chat/completions",
            json=body,
            headers={"Authorization": f"Bearer {PUBLISHED_KEY}"},
        )
    assert given.status_code == 200, given.text
    async with QuotaClient(stack.addresses["ratelimit"], TOKEN, timeout=30) as quotas:
        async with asyncio.timeout(30):
            while not any(state.used for state in await quotas.list_quotas([])):
                await asyncio.sleep(0.1)
    connection = await asyncpg.connect(stack.postgres.dsn)
    try:
        async with asyncio.timeout(30):
            count = "SELECT count(DISTINCT request_id) FROM analytics.attempts WHERE outcome = 'success'"
            while await connection.fetchval(count) < 2:
                await asyncio.sleep(0.1)
    finally:
        await connection.close()
