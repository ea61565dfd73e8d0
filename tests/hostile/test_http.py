"""The HTTP door: who has no key, who has and abuses it, and who says nothing at all."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
from http import HTTPStatus

import pytest

from tests.hostile.ground import ATTACKER_KEY, MIB, Ground, attack, http_address

UNKNOWN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}
#: What the caller did wrong is told as that.
CALLERS = range(400, 430)
SILENT = 1500


@pytest.mark.parametrize(
    "key", ["wrong", "a b", "é", ""], ids=["wrong", "with a space", "not ASCII", "empty"]
)
async def test_an_unknown_caller_cannot_spend_memory(ground: Ground, key: str) -> None:
    """Bodies of 9.9 MB, 9.7 kB on the wire, one after the other and at once, are refused for their caller alone."""
    body = gzip.compress(b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 9_900_000 + b'"}]}')
    async with attack(ground, f"packed bodies of 9.9 MB with key {key!r}"):
        for _ in range(15):
            answer = await ground.post(body, key=key, content_encoding="gzip")
            assert answer is None or answer.status_code in UNKNOWN | {HTTPStatus.BAD_REQUEST}, answer
        await asyncio.gather(*(ground.post(body, key=key, content_encoding="gzip") for _ in range(15)))


BODIES = {
    "250,000 empty messages": b'{"model":"backup/m","messages":[' + b"{}," * 250_000 + b"{}]}",
    "250,000 messages": b'{"model":"backup/m","messages":['
    + b'{"role":"user","content":"x"},' * 250_000
    + b'{"role":"user","content":"x"}]}',
    "250,000 parts": b'{"model":"backup/m","messages":[{"role":"user","content":['
    + b"{}," * 250_000
    + b"{}]}]}",
    "3,000,000 empty lists": b'{"model":"backup/m","messages":[' + b"[]," * 3_000_000 + b"[]]}",
    "3,000,000 empty lists where nobody looks": b'{"model":"backup/m","metadata":['
    + b"[]," * 3_000_000
    + b"[]]}",
    "100,000 tools": b'{"model":"backup/m","messages":[{"role":"user","content":"x"}],"tools":['
    + b",".join(b'{"type":"function","function":{"name":"t%d","parameters":{}}}' % n for n in range(100_000))
    + b"]}",
    "100,000 models": b'{"models":[' + b",".join(b'"m%d"' % n for n in range(100_000)) + b"]}",
    "100,000 stops": b'{"model":"backup/m","messages":[{"role":"user","content":"x"}],"stop":['
    + b'"x",' * 100_000
    + b'"x"]}',
    "9 MB of brackets": b"[" * 9_000_000,
    "9 MB of braces": b'{"a":' * 1_800_000,
    "500,000 fields": b"{" + b",".join(b'"f%d":0' % n for n in range(500_000)) + b"}",
    "one field 500,000 times": b"{" + b'"model":"m",' * 500_000 + b'"model":"m"}',
    "an integer of 9,000,000 digits": b'{"model":"backup/m","seed":' + b"9" * 9_000_000 + b"}",
    "9 MB of escapes": b'{"model":"' + b"\\u0041" * 1_500_000 + b'"}',
    "lone surrogates": b'{"model":"backup/m","messages":[{"role":"user","content":"\\ud800"}]}',
    "bytes that are no text": b"\xff" * 1_000_000,
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_beyond_the_bounds_is_refused_at_once(ground: Ground, name: str) -> None:
    """Counted before anything is made of it, plain or packed, in OpenAI's shape."""
    async with attack(ground, f"HTTP: {name}"):
        for body, headers in (
            (BODIES[name], {}),
            (gzip.compress(BODIES[name]), {"content_encoding": "gzip"}),
        ):
            for _ in range(3):
                answer = await ground.post(body, **headers)
                assert answer is not None
                assert answer.status_code in CALLERS, answer.text
                assert answer.json()["error"]["message"]


async def test_one_tenants_bodies_at_once_are_bounded(ground: Ground) -> None:
    """Forty bodies of 9 MB at the same time are served in turn or refused at once."""
    body = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 9_000_000 + b'"}]}'
    async with attack(ground, "40 bodies of 9 MB at once"):
        await asyncio.gather(*(ground.post(body) for _ in range(40)))


async def test_bodies_in_tiny_chunks_hold_nobody_up(ground: Ground) -> None:
    """Four bodies of 200,000 chunks of one byte, which are more frames than bytes."""
    host, _, port = http_address(ground.stack).rpartition(":")
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ATTACKER_KEY}\r\n"
        "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    body = head.encode() + b"1\r\nx\r\n" * 200_000 + b"0\r\n\r\n"

    async def send() -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(body)
            async with asyncio.timeout(30):
                return await reader.readline()
        finally:
            writer.close()

    async with attack(ground, "4 bodies of 200,000 chunks"):
        answers = await asyncio.gather(*(send() for _ in range(4)))
    assert {answer.split()[1] for answer in answers} <= {b"400", b"408", b"413", b"429"}, answers


RAW = {
    "no HTTP": b"hello\r\n\r\n",
    "a bad version": b"GET / HTTP/9.9\r\n\r\n",
    "a bad header": b"GET /v1/models HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
    "a long header": b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /v1/models HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 50_000 + b"\r\n",
    "a long path": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    "a bad length": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    "two lengths": b"POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
    "a bad chunk": b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
    + ATTACKER_KEY.encode()
    + b"\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("name", RAW)
async def test_what_is_no_request_is_told_in_the_apis_shape(ground: Ground, name: str) -> None:
    """JSON with a message, a request id, and not a word of the software or its version."""
    host, _, port = http_address(ground.stack).rpartition(":")
    async with attack(ground, f"HTTP: {name}"):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(RAW[name])
            async with asyncio.timeout(15):
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(length[0].partition(b":")[2]))
        finally:
            writer.close()
        assert head.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), head
        assert b"x-request-id:" in head.lower(), head
        assert json.loads(body)["error"]["message"], body
        assert not [word for word in (b"python", b"aiohttp") if word in (head + body).lower()], head


@pytest.mark.parametrize(
    "said", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"], ids=["nothing", "half"]
)
async def test_silent_connections_are_bounded_and_end(ground: Ground, said: bytes) -> None:
    """1,500 connections that say nothing, or stop in the middle, keep nobody out and are closed before long."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
    host, _, port = http_address(ground.stack).rpartition(":")
    writers = []
    async with attack(ground, f"{SILENT} silent connections ({said[:4].decode() or 'nothing'})"):
        readers = []
        for _ in range(SILENT):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(said)
            readers.append(reader)
            writers.append(writer)
        try:
            async with asyncio.timeout(40):
                for reader in readers:
                    try:
                        await reader.read()
                    except ConnectionError:
                        continue
        finally:
            for writer in writers:
                writer.close()


async def test_a_body_that_does_not_come_ends(ground: Ground) -> None:
    """A known caller that announces a body and sends a byte a second is not waited for for ever."""
    host, _, port = http_address(ground.stack).rpartition(":")
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ATTACKER_KEY}\r\n"
        f"content-length: {MIB}\r\n\r\n"
    )
    async with attack(ground, "200 bodies that do not come"):
        pairs = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
        for _, writer in pairs:
            writer.write(head.encode() + b"{")
        try:
            async with asyncio.timeout(60):
                for reader, _ in pairs:
                    try:
                        await reader.read()
                    except ConnectionError:
                        continue
        finally:
            for _, writer in pairs:
                writer.close()
