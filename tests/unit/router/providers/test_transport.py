"""The transport against a server of its own: what cannot be sent."""

from __future__ import annotations

import asyncio

import pytest

from libs.types import ErrorClass
from services.router.providers.http_transport import CHUNK_BYTES, HttpTransport
from services.router.providers.wires.wire import HttpRequest
from services.router.request.generation import ProviderFailure


@pytest.mark.parametrize("key", ["sk-1\nx-evil: 1", "sk-1\r\n", "sk\x00-1"])
async def test_a_key_that_no_header_can_hold_is_a_failure_and_not_shown(key: str) -> None:
    """A bad key, not a crash; neither the message nor what caused it repeats the key."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    request = HttpRequest("POST", url, {"authorization": f"Bearer {key}"}, b"{}")
    async with server, HttpTransport() as transport:
        with pytest.raises(ProviderFailure) as caught:
            await transport.fetch(request, 5.0, 1000)
        with pytest.raises(ProviderFailure):
            async with transport.open(request):
                pass
    assert (caught.value.error_class, caught.value.retry_same) == (ErrorClass.AUTHENTICATION, False)
    assert caught.value.__cause__ is None
    assert "sk" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:{port}/v1", "Connection refused"),
        ("https://127.0.0.1:{port}/v1", "Connection refused"),
        ("http://gpu-7.nowhere.invalid:{port}/v1", "the provider's name cannot be resolved"),
        ("http://gpu-7:{port}:1/v1", "the provider's address is not valid"),
    ],
)
async def test_a_failed_connection_names_no_host_of_ours(url: str, told: str) -> None:
    """Callers read the message; the address is the operator's."""
    probe = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    async with HttpTransport() as transport:
        with pytest.raises(ProviderFailure) as caught:
            await transport.fetch(HttpRequest("POST", url.format(port=port), {}, b"{}"), 5.0, 1000)
    failure = caught.value
    assert told in failure.message
    for text in (failure.message, failure.unredacted):
        assert not [word for word in ("gpu-7", "127.0.0.1", str(port)) if word in text]


async def test_a_connection_is_used_again_after_an_answer_that_was_read_and_closed_after_another() -> None:
    """Closing is what stops a provider whose answer is not wanted any more."""
    connections, closed = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = 1000 if b"/half" in head else 9
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\nwhole one" % size)
        except asyncio.IncompleteReadError:
            closed.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    request = HttpRequest("GET", url, {}, b"")
    async with server, HttpTransport() as transport:
        for limit in (9, 20):
            assert (await transport.fetch(request, 5.0, limit))[2] == b"whole one"
        async with transport.open(request) as answer:
            assert await answer.chunk() == b"whole one"
        assert (connections, closed.is_set()) == (1, False)
        async with transport.open(HttpRequest("GET", f"{url}/half", {}, b"")) as answer:
            assert answer.status == 200
        await asyncio.wait_for(closed.wait(), 10)
        assert connections == 1


async def test_what_came_at_once_is_handed_on_in_bounded_pieces_and_others_run_between() -> None:
    """Nothing is lost at the borders, and nobody waits for more than one piece."""
    body = bytes(range(256)) * 4096

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    rounds = 0

    async def count_rounds() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    async with (
        server,
        HttpTransport() as transport,
        transport.open(HttpRequest("GET", url, {}, b"")) as answer,
    ):
        counting = asyncio.create_task(count_rounds())
        chunks = []
        while chunk := await answer.chunk():
            chunks.append((rounds, chunk))
        counting.cancel()
    assert b"".join(chunk for _, chunk in chunks) == body
    assert max(len(chunk) for _, chunk in chunks) == CHUNK_BYTES
    assert len({at for at, _ in chunks}) == len(chunks)
