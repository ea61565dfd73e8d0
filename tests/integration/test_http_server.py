"""The door as a server: bounds, draining, HTTPS, and its life as a process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from libs.answer import Event
from libs.http.bounds import Bounds
from libs.http.listener import close_listener, keep_new_out
from libs.http.server import certificate as server_certificate
from services.router.api.accept import Draft
from tests.support.http_door import FakeEntry, RunningDoor, completed, delta, running_door, selected
from tests.support.process import spawn
from tests.support.router import KEY

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
TOKEN = "token"
HEADERS = {"authorization": f"Bearer {KEY}"}
ASK = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def entry() -> FakeEntry:
    return FakeEntry()


@pytest.fixture
async def door(entry: FakeEntry) -> AsyncIterator[RunningDoor]:
    async with running_door(entry) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        yield client


async def raw(port: int, request: bytes) -> bytes:
    """Returns the server's answer to bytes that no client library would send, until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


def asked() -> bytes:
    """A whole request, whose connection stays for another."""
    body = json.dumps(ASK).encode()
    return head(body, f"Content-Length: {len(body)}").replace(b"Connection: close\r\n", b"")


def head(body: bytes, *more: str) -> bytes:
    """A request with a key."""
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: x",
        "Connection: close",
        f"Authorization: Bearer {KEY}",
        *more,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_a_body_too_large_is_413(http: httpx.AsyncClient, entry: FakeEntry) -> None:
    """Declared, or in chunks of unknown number; the error is OpenAI's, and the next request is served."""
    big = b'{"model": "auto", "messages": [], "x": "' + b"a" * 70_000 + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(big), 8192):
            yield big[start : start + 8192]

    async with running_door(entry, Bounds(max_body=65_536)) as door:
        url = f"{door.url}/v1/chat/completions"
        for content in (big, chunks()):
            answer = await http.post(url, headers=HEADERS, content=content)
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "request_too_large"
        assert (await http.post(url, headers=HEADERS, json=ASK)).status_code == 200
    assert len(entry.drafts) == 1


@pytest.mark.parametrize(
    "request_bytes",
    [
        head(b"\x00" * 10, "Content-Length: ten"),
        head(b"", "Bad Header: 1", "Content-Length: 0"),
        head(b"zz\r\n", "Transfer-Encoding: chunked"),
        b"MADEUP / HTTP/1.1\r\n\r\n",
    ],
)
async def test_broken_http_is_400_and_its_headers_are_not_logged(
    door: RunningDoor,
    http: httpx.AsyncClient,
    request_bytes: bytes,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The line that the parser complains about is not logged, since it may hold the key."""
    answer = await raw(door.server.port, request_bytes)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    top, _, body = answer.partition(b"\r\n\r\n")
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert b"\r\nx-request-id: r-" in top.lower()
    assert b"aiohttp" not in answer.lower()
    assert b"python" not in answer.lower()
    assert (await http.get(f"{door.url}/healthz")).status_code == 200
    assert KEY not in caplog.text
    assert KEY not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[1]", b"{", b'"x"', b"\xff\xfe", b'{"a":"\\ud800"}', b"[" * 100_000]
)
async def test_bodies_that_are_no_requests(door: RunningDoor, http: httpx.AsyncClient, body: bytes) -> None:
    """400 with a sentence, never 500."""
    answer = await http.post(f"{door.url}/v1/chat/completions", headers=HEADERS, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_unknown_paths_and_methods(door: RunningDoor, http: httpx.AsyncClient) -> None:
    """In OpenAI's shape too, with an id."""
    for method, path, status, code in (
        ("POST", "/v1/embeddings", 404, "unknown_url"),
        ("DELETE", "/v1/chat/completions", 405, "method_not_supported"),
    ):
        answer = await http.request(method, door.url + path, headers=HEADERS)
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == code
        assert answer.headers["x-request-id"]


async def test_an_unusable_request_id_is_replaced(door: RunningDoor, http: httpx.AsyncClient) -> None:
    """The answer says which id the request has."""
    for given, kept in (("mine", "mine"), ("x" * 129, "r-1")):
        headers = HEADERS | {"x-request-id": given}
        answer = await http.post(f"{door.url}/v1/chat/completions", headers=headers, json=ASK)
        assert answer.headers["x-request-id"] == kept
        assert answer.json()["id"] == f"chatcmpl-{kept}"


async def connect_until_refused(port: int) -> None:
    """ConnectionRefusedError, as soon as the port is closed."""
    while True:
        # One that was waiting to be taken as the port was closed is reset.
        with suppress(ConnectionResetError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
        await asyncio.sleep(0.01)


async def test_draining_lets_streams_finish(entry: FakeEntry, http: httpx.AsyncClient) -> None:
    """Not ready at once, closed to new connections soon; what runs gets its time, and the drain ends with it."""
    go_on = asyncio.Event()

    async def stream(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        yield delta("one ")
        await go_on.wait()
        yield delta("two")
        yield completed()

    entry.events = stream
    async with running_door(entry) as door:
        url = f"{door.url}/v1/chat/completions"
        async with http.stream("POST", url, headers=HEADERS, json=ASK | {"stream": True}) as answer:
            lines = answer.aiter_lines()
            while '"one "' not in await anext(lines):
                pass
            draining = asyncio.ensure_future(door.server.drain(30))
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await connect_until_refused(door.server.port)
            assert not draining.done()
            go_on.set()
            assert [line async for line in lines][-2:] == ["data: [DONE]", ""]
        await asyncio.wait_for(draining, 10)


async def test_what_comes_before_callers_have_turned_away_is_served(
    entry: FakeEntry, http: httpx.AsyncClient
) -> None:
    """Over the connections they have, which end with the answer; they are told that it is not ready."""
    async with running_door(entry) as door:
        url = f"{door.url}/v1/chat/completions"
        assert "connection" not in (await http.post(url, headers=HEADERS, json=ASK)).headers
        draining = asyncio.ensure_future(door.server.drain(30))
        await asyncio.sleep(0)
        answer = await http.post(url, headers=HEADERS, json=ASK)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert (await http.get(f"{door.url}/readyz")).status_code == 503
        await asyncio.wait_for(draining, 10)


async def test_a_request_on_a_connection_made_in_time_is_served(entry: FakeEntry) -> None:
    """The port is closed between the connection and its request; its caller could not know whether to send it again
    elsewhere."""
    async with running_door(entry) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.server.port)
        await asyncio.sleep(0)
        draining = asyncio.ensure_future(door.server.drain(30))
        with pytest.raises(ConnectionRefusedError):
            await connect_until_refused(door.server.port)
        writer.write(asked())
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        await asyncio.wait_for(draining, 10)
        writer.close()


async def test_a_request_that_has_arrived_on_an_idle_connection_is_served(entry: FakeEntry) -> None:
    """Its bytes are in the kernel, not read by the loop, as idle connections are ended; others end at once."""
    async with running_door(entry) as door:
        streams = [await asyncio.open_connection("127.0.0.1", door.server.port) for _ in range(2)]
        for reader, writer in streams:
            writer.write(asked())
            assert b"200" in await reader.readuntil(b"\r\n")
        known = door.server._registry
        async with asyncio.timeout(10):
            while len(known._holders.waiting()) < 2:
                await asyncio.sleep(0.01)
        (_, writer), (silent, _) = streams
        before = len(entry.drafts)
        # Sent past the loop.
        os.write(writer.get_extra_info("socket").fileno(), asked())
        await known.end_waiting(30)
        await asyncio.wait_for(silent.read(), 10)
        await asyncio.wait_for(entry.until(lambda e: len(e.drafts) == before + 1), 10)
        for _, writer in streams:
            writer.close()


async def test_no_connection_is_made_between_the_last_accept_and_the_close() -> None:
    """It would be reset with what was sent on it: whoever comes then has no connection, and those before are kept."""
    listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    address = listener.sockets[0].getsockname()
    before = socket.create_connection(address)
    accepted: list[socket.socket] = []
    keep_new_out(listener)
    try:
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.2)
        accepted = close_listener(listener)
        before.sendall(b"asked")
        assert [c.getpeername() for c in accepted] == [before.getsockname()]
        assert accepted[0].recv(5) == b"asked"
    finally:
        before.close()
        for connection in accepted:
            connection.close()


async def test_connections_that_wait_to_be_accepted_are_kept_as_the_port_closes() -> None:
    """The kernel would reset them, and with them the requests that have been sent already."""
    listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    address = listener.sockets[0].getsockname()
    # Made without the loop, which therefore has not accepted them.
    callers = [socket.create_connection(address) for _ in range(3)]
    try:
        accepted = close_listener(listener)
        callers[0].sendall(b"asked")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        assert sorted(c.getpeername() for c in accepted) == sorted(c.getsockname() for c in callers)
        for connection in accepted:
            connection.close()
    finally:
        for caller in callers:
            caller.close()


async def test_a_drain_ends_what_does_not(entry: FakeEntry, http: httpx.AsyncClient) -> None:
    """After its time a stream is cut, without a proper end, and the router's call is cancelled."""

    async def endless(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        yield delta("one ")
        await asyncio.Event().wait()

    entry.events = endless
    async with running_door(entry) as door:
        url = f"{door.url}/v1/chat/completions"
        async with http.stream("POST", url, headers=HEADERS, json=ASK | {"stream": True}) as answer:
            lines = answer.aiter_lines()
            while '"one "' not in await anext(lines):
                pass
            await asyncio.wait_for(door.server.drain(0.1), 10)
            with pytest.raises(httpx.RemoteProtocolError):
                [line async for line in lines]
        await asyncio.wait_for(entry.until(lambda e: e.cancelled == 1), 10)


@asynccontextmanager
async def process(log: Path, variables: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m services.router` with this door alone, killed at the end where it still runs."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("POINTSMAN_", "OTEL_"))
    }
    environ |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}"}
    catalog = str(ROOT / "config" / "simulator.yaml")
    environ |= {"POINTSMAN_CONFIG": catalog, "POINTSMAN_ROUTER_LISTEN": "", "POINTSMAN_SERVICE_TOKEN": TOKEN}
    # There is no limiter to wait for.
    environ |= {
        "POINTSMAN_ROUTER_SPOOL_DIR": str(log.with_suffix(".spool")),
        "POINTSMAN_ROUTER_LIMITER_WAIT": "0",
    }
    environ |= {f"POINTSMAN_ROUTER_{name}": value for name, value in variables.items()}
    with log.open("wb") as file:
        child = await spawn(sys.executable, "-m", "services.router", env=environ, cwd=ROOT, stderr=file)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def port_of(child: asyncio.subprocess.Process, log: Path) -> int:
    """The port, once the log names it."""
    async with asyncio.timeout(60):
        while not (found := re.search(r'"http_port": (\d+)', log.read_text())):
            assert child.returncode is None, log.read_text()
            await asyncio.sleep(0.02)
    return int(found[1])


async def test_over_tls_silent_connections_end_too(entry: FakeEntry) -> None:
    """Those that do not even begin the handshake, and those that send nothing after it."""
    certificate = SUPPORT / "localhost_cert.pem"
    tls = server_certificate(certificate, SUPPORT / "localhost_key.pem")
    async with running_door(entry, Bounds(head_seconds=0.3), tls=tls) as door:
        silent = await asyncio.open_connection("127.0.0.1", door.server.port)
        trust = ssl.create_default_context(cafile=str(certificate))
        shaken = await asyncio.open_connection(
            "127.0.0.1", door.server.port, ssl=trust, server_hostname="localhost"
        )
        for reader, writer in (silent, shaken):
            async with asyncio.timeout(20):
                assert await reader.read() == b""
            writer.close()


async def test_a_process_with_https(tmp_path: Path) -> None:
    """HTTPS with its own certificate, and SIGTERM ends it with status 0."""
    certificate = SUPPORT / "localhost_cert.pem"
    variables = {
        "HTTP_LISTEN": "127.0.0.1:0",
        "HTTP_CERTIFICATE": str(certificate),
        "HTTP_KEY": str(SUPPORT / "localhost_key.pem"),
    }
    log = tmp_path / "router.log"
    async with process(log, variables) as child:
        port = await port_of(child, log)
        trust = ssl.create_default_context(cafile=str(certificate))
        async with httpx.AsyncClient(trust_env=False, verify=trust) as http:
            url = f"https://localhost:{port}"
            answer = await http.get(f"{url}/v1/models", headers={"authorization": "Bearer demo-key"})
            assert answer.status_code == 200
            assert (await http.get(f"{url}/readyz")).status_code == 200
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 20) == 0
    assert "demo-key" not in log.read_text()


@pytest.mark.parametrize(
    ("variables", "status", "sentence"),
    [
        ({"HTTP_LISTEN": "nowhere"}, 64, "POINTSMAN_ROUTER_HTTP_LISTEN"),
        ({"HTTP_LISTEN": ""}, 64, "POINTSMAN_ROUTER_LISTEN is empty too"),
        ({"HTTP_KEY": "x.pem"}, 64, "POINTSMAN_ROUTER_HTTP_KEY"),
        ({"HTTP_LISTEN": "{taken}"}, 69, "is the port taken?"),
        ({"HTTP_LISTEN": "{taken}", "LISTEN": "127.0.0.1:0"}, 69, "is the port taken?"),
        ({"HTTP_LISTEN": "nobody.invalid:0"}, 69, "there is no host called nobody.invalid"),
    ],
)
async def test_what_keeps_it_from_starting_is_one_sentence(
    door: RunningDoor, tmp_path: Path, variables: dict[str, str], status: int, sentence: str
) -> None:
    """Bad settings end with 64, what the machine refuses with 69."""
    taken = {name: value.format(taken=f"127.0.0.1:{door.server.port}") for name, value in variables.items()}
    log = tmp_path / "router.log"
    async with process(log, taken) as child:
        assert await asyncio.wait_for(child.wait(), 60) == status
    assert sentence in log.read_text().splitlines()[-1]
