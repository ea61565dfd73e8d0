"""The ground that attacks are fought on: a stack of real processes under watch, an attacker and a neighbour.

async with attack(ground, "100,000 tools"):
    await ground.send(...)

Leaving the block fails where a process died, its loop was held up, its memory grew, or the neighbour, whose calls
went on all the while, missed an answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import grpc
import httpx
import psutil
from pointsman.router.v1 import router_pb2 as pb

from libs.client import Client
from libs.errors import PointsmanError
from libs.lifecycle import background
from libs.rpc.channel import metadata
from libs.rpc.status import from_rpc_error
from tests.hostile.watch import Reading
from tests.support.load import under_load
from tests.support.stack import ROOT, RunningStack

MIB = 2**20
#: What a container would be given.
CAP = 512 * MIB
#: Seconds of CPU that a loop's thread may take in one go.
LONGEST = 0.25
#: Bytes that a process may grow by in one attack: those of the requests in flight and of their decoded values.
GROWTH = 160 * MIB
#: Seconds a loop may be silent after an attack before it counts as lost.
LOST = 5.0
#: Seconds an attacker waits for an answer.
PATIENCE = 15.0

ATTACKER_KEY = "hostile-attacker"
#: Tenants with a provider each that the attacker may use as well: what an attack does to one outlasts no test.
NEIGHBOURS = 24
#: What providers are sent; callers must never see it, and no pattern of keys knows it.
PROVIDER_KEY = "PROVKEY-7f+3c/91==d2-hostile"
#: Kinds of providers that attack → what follows their name in the base URL.
WIRES = {"openai": "/v1", "openai_responses": "/v1", "anthropic": "", "gemini": ""}
#: Attacking providers of each kind. Each attacks once or twice: a third failure in a row may open its circuit.
EVILS = 120
#: How the shared provider and its fallback answer: slowly enough to leave the machine to the attack.
CALM = {"tokens": 20, "latency_ms": 80}
GENERATE = "/pointsman.router.v1.Router/Generate"
STREAM = "/pointsman.router.v1.Router/StreamGenerate"


def http_address(stack: RunningStack) -> str:
    """host:port of the HTTP door."""
    return stack.addresses["router http"]


def watched(stack: RunningStack) -> dict[str, tuple[str, str]]:
    """Processes under watch → an address that their loop answers, and how it is asked."""
    return {name: (stack.addresses[name], "grpc") for name in ("router", "health", "ratelimit", "analytics")}


def catalog() -> str:
    """Attacking providers, one that both tenants share and its fallback."""
    url = "${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}"
    patient = {"first_byte": 10, "idle": 5, "total": 20}
    evils = {f"{kind}-{n}": kind for kind in WIRES for n in range(EVILS)}
    evils |= {f"shared-{n}": "openai" for n in range(NEIGHBOURS)} | {"backup": "gemini"}
    model = {
        "context_window": 4_000_000,
        "max_output_tokens": 1_000_000,
        "capabilities": ["streaming", "system", "stop", "tools", "json", "json_schema"],
        "price": {"input": 1, "output": 2},
    }
    # JSON is YAML.
    return json.dumps(
        {
            "version": 1,
            "domain": "hostile",
            "providers": {
                name: {
                    "kind": kind,
                    "base_url": f"{url}/{name}{WIRES[kind]}",
                    "api_key_file": "provider.key",
                    "timeouts": patient,
                }
                for name, kind in evils.items()
            },
            # What is too long for the others may fit into the backup.
            "models": {f"{name}/m": model for name in evils}
            | {"backup/m": model | {"context_window": 8_000_000}},
            "policies": {
                "default": {"tiers": [["backup/m"]]},
                **{f"policy-{n}": {"tiers": [[f"shared-{n}/m"], ["backup/m"]]} for n in range(NEIGHBOURS)},
            },
            "default_content_type": "general",
            "content_types": {"general": {"max_output_tokens": 200}},
            "tenants": {
                "attacker": {"key_sha256": [_hash(ATTACKER_KEY)]},
                **{
                    f"neighbour-{n}": {
                        "key_sha256": [_hash(f"hostile-neighbour-{n}")],
                        "policies": {"default": f"policy-{n}"},
                    }
                    for n in range(NEIGHBOURS)
                },
            },
        }
    )


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of a call: bytes of answers, and its refusal."""

    received: int
    error: PointsmanError | None = None


class Guard:
    """A watching process."""

    def __init__(self, pid: int, process: asyncio.subprocess.Process) -> None:
        self.pid = pid
        self._process = process

    @classmethod
    async def start(cls, pid: int, address: str, how: str) -> Guard:
        """Watches from now on."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.hostile.watch", str(pid), str(CAP), address, how),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(pid, process)

    async def read(self) -> Reading:
        """Returns the measurements since the last reading."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        return Reading(**json.loads(line))

    async def stop(self) -> None:
        """Ends the watching process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


@dataclass
class Ground:
    """The stack and those who use it."""

    stack: RunningStack
    #: Whose keys the neighbours call with.
    client: Client
    http: httpx.AsyncClient
    guards: dict[str, Guard] = field(default_factory=dict)
    #: What each attack cost, for the summary.
    story: list[str] = field(default_factory=list)
    _neighbour: int = 0
    _evils: dict[str, Iterator[int]] = field(
        default_factory=lambda: {kind: itertools.count() for kind in WIRES}
    )

    @property
    def shared(self) -> str:
        """The provider that the neighbour and the attacker share."""
        return f"shared-{self._neighbour}"

    @property
    def neighbour_key(self) -> str:
        """The neighbour's."""
        return f"hostile-neighbour-{self._neighbour}"

    @property
    def neighbour(self) -> Client:
        """The neighbour's client."""
        return self.client.as_caller(self.neighbour_key)

    async def move(self) -> None:
        """To a neighbour to whom nothing has happened yet."""
        self._neighbour += 1
        assert self._neighbour < NEIGHBOURS, "name more of them"
        await self.calm()

    async def calm(self) -> None:
        """The shared provider answers as it should."""
        await self.stack.simulator.set(self.shared, **CALM)

    async def guard(self) -> None:
        """Watches every process that is not watched yet."""
        for name, (address, how) in watched(self.stack).items():
            old = self.guards.get(name)
            if old is None or not psutil.pid_exists(old.pid):
                if old is not None:
                    await old.stop()
                    await self.stack.back(name, old.pid)
                self.guards[name] = await Guard.start(self.stack.process(name).pid, address, how)
            # The first is about nothing.
            await self.guards[name].read()

    def evil(self, kind: str) -> str:
        """A provider of that kind that nobody has called yet."""
        number = next(self._evils[kind])
        assert number < EVILS, "name more of them"
        return f"{kind}-{number}"

    async def assert_called(self, provider: str, times: int) -> None:
        """Fails where the provider was spared, so that nothing was proved."""
        report = await self.stack.simulator.wait_for(
            provider, lambda found: found["counters"]["concurrent"] == 0
        )
        assert report["counters"]["requests"] >= times, provider

    async def send(
        self,
        message: bytes,
        *,
        path: str = GENERATE,
        service: str = "router",
        key: str | None = ATTACKER_KEY,
        packed: bool = False,
        timeout: float = PATIENCE,
    ) -> Reply:
        """Calls a method with these bytes."""
        received = 0
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(self.stack.addresses[service], options=options) as channel:
            method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
            call = method(
                message,
                metadata=metadata(key) if key is not None else None,
                timeout=timeout,
                compression=grpc.Compression.Gzip if packed else None,
            )
            try:
                async for answer in call:
                    received += len(answer)
            except grpc.aio.AioRpcError as error:
                return Reply(received, from_rpc_error(error))
        return Reply(received)

    async def ask(
        self, models: Sequence[str], *, stream: bool = False, timeout: float = PATIENCE, **fields: Any
    ) -> Reply:
        """Generates as the attacker on these models, with one attempt unless told."""
        given: dict[str, Any] = {
            "messages": [pb.Message(role=pb.ROLE_USER, text="Describe a mug.")],
            "max_attempts": 1,
        } | fields
        generation = pb.Generation(models=models, **given)
        request = pb.GenerateRequest(generation=generation)
        path = STREAM if stream else GENERATE
        return await self.send(request.SerializeToString(), path=path, timeout=timeout)

    async def post(self, body: bytes, *, key: str = ATTACKER_KEY, **headers: str) -> httpx.Response | None:
        """A chat completion at the HTTP door; None where the door hung up."""
        url = f"http://{http_address(self.stack)}/v1/chat/completions"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        said = {"authorization": f"Bearer {key}", "content-type": "application/json", **named}
        sent = [(name.encode(), value.encode("latin-1")) for name, value in said.items()]
        try:
            return await self.http.post(url, content=body, headers=sent, timeout=PATIENCE)
        except httpx.TransportError:
            return None


class HttpNeighbour:
    """Calls at the HTTP door, one after the other, of a tenant that names the shared provider alone."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.answers = 0
        self.failures: list[str] = []

    async def run(self) -> None:
        """For ever."""
        body = json.dumps(
            {
                "model": f"{self._ground.shared}/m",
                "messages": [{"role": "user", "content": "Describe a lamp."}],
            }
        )
        while True:
            answer = await self._ground.post(body.encode(), key=self._ground.neighbour_key)
            if answer is not None and answer.status_code == HTTPStatus.OK:
                self.answers += 1
            else:
                self.failures.append(
                    "hung up" if answer is None else f"{answer.status_code} {answer.text[:200]}"
                )
            await asyncio.sleep(0.05)

    async def until(self, *, more: int) -> None:
        """Returns once it has got this many more answers."""
        goal = self.answers + more
        async with asyncio.timeout(PATIENCE):
            while self.answers < goal:
                await asyncio.sleep(0.01)

    def story(self) -> str:
        """The figures on one line."""
        return f"{self.answers} answered, {len(self.failures)} failed {sorted(set(self.failures))[:3]}"


@asynccontextmanager
async def attack(ground: Ground, name: str, *, growth: int = GROWTH) -> AsyncIterator[None]:
    """Fails if the calls in the block hurt anybody else."""
    await ground.guard()
    http = HttpNeighbour(ground)
    async with (
        under_load({"neighbour": ground.neighbour}, f"steady-{len(ground.story)}", workers=2) as load,
        background("neighbour", http.run),
    ):
        await load.until(more=4)
        await http.until(more=2)
        for guard in ground.guards.values():
            await guard.read()
        try:
            yield
        finally:
            readings = {name: await guard.read() for name, guard in ground.guards.items()}
            for process, reading in readings.items():
                if reading.stuck > LOST and not reading.dead:
                    # It would be lost to the next attack as well.
                    ground.stack.kill(process)
                    reading.dead = True
        if not any(reading.dead for reading in readings.values()):
            await load.until(more=4)
            await http.until(more=2)
            readings = {
                name: readings[name].joined(await guard.read()) for name, guard in ground.guards.items()
            }
    ground.story.append(f"{name}: {_figures(readings)}; {load.story()}, HTTP {http.story()}")
    for process, reading in readings.items():
        assert reading.stuck <= LOST, f"{process} answers no more: {ground.story[-1]}"
        assert not reading.dead, f"{process} died: {ground.story[-1]}"
        assert reading.answers > 0, f"{process} was not watched: {ground.story[-1]}"
        assert reading.longest <= LONGEST, f"{process} was held up: {ground.story[-1]}"
        assert reading.peak - reading.before <= growth, f"{process} grew: {ground.story[-1]}"
    assert not load.failures, ground.story[-1]
    assert not http.failures, ground.story[-1]


def _figures(readings: Mapping[str, Reading]) -> str:
    """The doors' figures, and those of the others where they are large."""
    return ", ".join(
        f"{name} {1000 * r.longest:.0f} ms +{(r.peak - r.before) / MIB:.0f} MiB"
        f"{' STUCK' if r.stuck > LOST else ' DEAD' if r.dead else ''}"
        for name, r in readings.items()
        if name == "router" or r.longest > 0.05 or r.stuck > LOST or r.dead
    )
