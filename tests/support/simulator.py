"""The provider simulator as a child process, and a client for its control API.

async with running_simulator() as simulator:
    await simulator.set("openai", tokens=60, faults=[{"kind": "cut", "after_tokens": 40}])
    base_url = simulator.base("openai") + "/v1"
    ...
    assert (await simulator.counters("openai"))["requests"] == 2
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.support.process import spawn

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Simulator:
    """A running one. Behaviours are the JSON of `dev/simulator/behaviour.py`."""

    url: str
    pid: int
    client: httpx.AsyncClient
    #: Virtual providers that were given faults; whoever makes up for it takes them out.
    faulty: set[str] = field(default_factory=set)

    def base(self, name: str) -> str:
        """URL of a virtual provider, without a version path."""
        return f"{self.url}/{name}"

    async def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = await self.client.request(method, f"{self.url}/_control{path}", **kwargs)
        if answer.status_code != 200:
            raise ValueError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    async def set(self, name: str, **behaviour: Any) -> None:
        """Replace the behaviour; counters, faults and times start again. ValueError names a wrong field."""
        if behaviour.get("faults"):
            self.faulty.add(name)
        await self._call("PUT", f"/{name}", json=behaviour)

    async def set_strict(self, strict: bool) -> None:
        """Let all that say nothing of it refuse, or not, what their vendors refuse."""
        await self._call("PUT", "", json={"strict": strict})

    async def reset(self, name: str) -> None:
        """Counters, faults and times start again."""
        await self._call("POST", f"/{name}/reset")

    async def report(self, name: str) -> dict[str, Any]:
        """Everything it knows: counters, attempts, last_request, last_headers, behaviour."""
        found: dict[str, Any] = await self._call("GET", f"/{name}")
        return found

    async def counters(self, name: str) -> dict[str, Any]:
        """The counters alone."""
        found: dict[str, Any] = (await self.report(name))["counters"]
        return found

    async def all(self) -> dict[str, dict[str, Any]]:
        """Every virtual provider's report by name."""
        found: dict[str, dict[str, Any]] = (await self._call("GET", ""))["providers"]
        return found

    async def forget(self) -> None:
        """Start afresh: every virtual provider has the default behaviour and no history."""
        await self._call("DELETE", "")

    async def wait_for(
        self, name: str, condition: Callable[[dict[str, Any]], bool], timeout: float = 10.0
    ) -> dict[str, Any]:
        """The first report for which the condition holds. TimeoutError with the last counters if none does."""
        report = await self.report(name)
        try:
            async with asyncio.timeout(timeout):
                while not condition(report):
                    await asyncio.sleep(0.01)
                    report = await self.report(name)
        except TimeoutError:
            raise TimeoutError(f"{name}: {report['counters']}") from None
        return report


async def start(*arguments: str) -> tuple[asyncio.subprocess.Process, str]:
    """The process and its URL, once it listens. RuntimeError with what it said where it ended instead."""
    process = await spawn(
        sys.executable,
        "-m",
        "dev.simulator",
        "--stop-on-stdin-close",
        *arguments,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    line = await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)
    if not line:
        said = (await process.stderr.read()).decode()
        raise RuntimeError(f"the simulator ended with {await process.wait()}: {said}")
    return process, json.loads(line)["listening"]


async def stop(process: asyncio.subprocess.Process) -> None:
    """End it the gentle way, else the other."""
    if process.returncode is None:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def running_simulator(
    scenario: Path | None = None, listen: str = "127.0.0.1:0"
) -> AsyncIterator[Simulator]:
    """A simulator of its own on a free port; gone with the block, or with this process."""
    arguments = ["--listen", listen]
    if scenario is not None:
        arguments += ["--scenario", str(scenario)]
    process, url = await start(*arguments)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            yield Simulator(url, process.pid, client)
    finally:
        await stop(process)


@dataclass
class Seen:
    """The bytes that came over the socket until it ended. `end`: eof or reset."""

    raw: bytes
    end: str

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.raw.split(b" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        lines = self.raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def rest(self) -> bytes:
        """All after the headers, chunk sizes included."""
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def chunks(self) -> tuple[bytes, bool]:
        """(body joined, whether the last chunk came)."""
        rest, body = self.rest, b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            if int(size, 16) == 0:
                return body, rest == b"\r\n"
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return body, False

    @property
    def words(self) -> list[str]:
        """Content deltas of a chat stream, up to the first event that cannot be read."""
        found = []
        for block in self.chunks[0].decode().split("\n\n"):
            if block.startswith("data: {"):
                choices = json.loads(block[6:]).get("choices") or [{}]
                found.append(choices[0].get("delta", {}).get("content"))
        return [word for word in found if word]


async def ask(simulator: Simulator, name: str, *, path: str = "v1/chat/completions", **more: Any) -> Seen:
    """One request over a socket of its own, read to its end. `more` are fields beside the least that a path takes."""
    place = urlsplit(simulator.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    least: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Blue mug"}]}
    if path.endswith("/responses"):
        least = {"model": "m", "input": "Blue mug"}
    elif "/converse" in path:
        least = {"messages": [{"role": "user", "content": [{"text": "Blue mug"}]}]}
    body = json.dumps({**least, **more}).encode()
    head = f"POST /{name}/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    writer.write(head.encode() + b"x-api-key: k\r\nanthropic-version: 2023-06-01\r\n\r\n" + body)
    raw, end = b"", "eof"
    try:
        async with asyncio.timeout(20):
            while data := await reader.read(65536):
                raw += data
    except ConnectionResetError:
        end = "reset"
    writer.close()
    return Seen(raw, end)


def events(text: str) -> list[tuple[str, Any]]:
    """(event name, data) of a server-sent event stream; data is parsed unless it is [DONE]."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if fields:
            data = fields["data"]
            found.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return found


def frames(data: bytes) -> list[tuple[dict[str, str], Any]]:
    """(headers, payload) of an AWS event stream, with both checksums verified."""
    found = []
    while data:
        total, header_length, prelude_crc = struct.unpack(">III", data[:12])
        assert zlib.crc32(data[:8]) == prelude_crc
        assert zlib.crc32(data[: total - 4]) == struct.unpack(">I", data[total - 4 : total])[0]
        headers, rest = {}, data[12 : 12 + header_length]
        while rest:
            size = rest[0]
            name = rest[1 : 1 + size].decode()
            kind, length = struct.unpack(">BH", rest[1 + size : 4 + size])
            assert kind == 7
            headers[name] = rest[4 + size : 4 + size + length].decode()
            rest = rest[4 + size + length :]
        found.append((headers, json.loads(data[12 + header_length : total - 4])))
        data = data[total:]
    return found
