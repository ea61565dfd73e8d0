"""Callers of the HTTP door who mean no good, on real sockets: they get an answer or an end, and others are served."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from libs.answer import Event, Result
from libs.errors import DeadlineExceeded
from libs.http.bounds import Bounds
from libs.intake import CALL_BYTES, BytesInFlight, UnknownCallers
from services.router.api.accept import Draft
from tests.support.clock import ManualClock
from tests.support.http_door import (
    FakeEntry,
    RunningDoor,
    completed,
    delta,
    result,
    running_door,
    selected,
)
from tests.support.router import KEY

PATH = "/v1/chat/completions"
HEADERS = {"authorization": f"Bearer {KEY}"}
ASK: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
#: Everything that may be waited for ends in a test after this many seconds.
PATIENCE = 20.0
SOON = 0.2


class Line:
    """A connection on which anything can be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, door: RunningDoor) -> Line:
        """A new one."""
        return cls(*await asyncio.open_connection("127.0.0.1", door.server.port))

    def ask(self, *headers: str, body: bytes = b"", key: str = KEY) -> None:
        """A request's head, and as much of a body as is given."""
        lines = [f"POST {PATH} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode("latin-1") + body)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, and body of the next answer that has a length."""
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split(" ")[1]), headers, body

    async def code(self) -> tuple[int, str]:
        """Status and OpenAI's code of the next answer, which must be an error as OpenAI shows it."""
        status, headers, body = await self.answer()
        error = json.loads(body)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert headers["x-request-id"]
        assert headers["server"] == "pointsman"
        return status, error["code"]

    async def ended(self) -> None:
        """Returns once the other side has hung up."""
        try:
            async with asyncio.timeout(PATIENCE):
                while await self.reader.read(65536):
                    pass
        except ConnectionError:
            pass

    def close(self) -> None:
        """Hangs up."""
        self.writer.close()


async def send_forever(line: Line) -> None:
    """Ends with the connection's end."""
    while True:
        line.writer.write(b"a" * 65_536)
        await line.writer.drain()


@pytest.fixture
def entry() -> FakeEntry:
    return FakeEntry()


@pytest.fixture
async def door(entry: FakeEntry) -> AsyncIterator[RunningDoor]:
    async with running_door(entry, Bounds(linger_seconds=SOON)) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE, headers=HEADERS) as client:
        yield client


async def forever(draft: Draft) -> Result:
    """An answer that does not come."""
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(
    "key", ["wrong", "with a space", "k\xfcrzel", "x" * 4000, "", "\t", "a,b", "Bearer Bearer"]
)
async def test_nothing_of_an_unknown_caller_is_read(door: RunningDoor, entry: FakeEntry, key: str) -> None:
    """The answer comes while the body is still to be sent, is 401 whatever the key looks like, and ends the
    connection."""
    line = await Line.to(door)
    line.ask("Content-Length: 9000000", body=b"{", key=key)
    assert await line.code() == (401, "invalid_api_key")
    await line.ended()
    assert (entry.drafts, door.held.total) == ([], 0)


async def test_the_official_client_sees_the_401_of_a_large_request(entry: FakeEntry) -> None:
    """Though nothing of its body is kept."""
    async with running_door(entry) as door, door.client(key="wrong") as client:
        for _ in range(10):
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(
                    model="auto", messages=[{"role": "user", "content": "x" * 5_000_000}]
                )


async def test_what_comes_after_the_answer_is_bounded(entry: FakeEntry) -> None:
    """Whoever goes on sending is cut off after as much as a body may have, however much time there is."""
    async with running_door(entry, Bounds(max_body=100_000, linger_seconds=PATIENCE)) as door:
        line = await Line.to(door)
        line.ask("Content-Length: 9000000", key="wrong")
        assert await line.code() == (401, "invalid_api_key")
        with pytest.raises(ConnectionError):
            await send_forever(line)


async def test_unknown_callers_are_answered_at_a_rate_of_their_own(entry: FakeEntry) -> None:
    """Beyond it they are told to come later; callers with a key are served meanwhile."""
    strangers = UnknownCallers(ManualClock(), rate=1, burst=2)
    async with running_door(entry, Bounds(linger_seconds=SOON), strangers=strangers) as door:
        codes = []
        for _ in range(4):
            line = await Line.to(door)
            line.ask("Content-Length: 100", key="wrong")
            codes.append(await line.code())
            await line.ended()
        assert codes == [(401, "invalid_api_key")] * 2 + [(429, "unknown_callers")] * 2
        async with door.client() as client:
            await client.chat.completions.create(**ASK)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_compressed_bodies_are_refused_unread(
    door: RunningDoor, http: httpx.AsyncClient, entry: FakeEntry, encoding: str
) -> None:
    """10 kB can be 10 MB; nothing is unpacked to find out."""
    packed = gzip.compress(json.dumps(ASK | {"x": "a" * 10_000_000}).encode())
    answer = await http.post(door.url + PATH, headers={"content-encoding": encoding}, content=packed)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_encoding")
    assert entry.drafts == []


async def test_bytes_in_flight_are_bounded(entry: FakeEntry, http: httpx.AsyncClient) -> None:
    """Of one caller, while its requests are served and while they are read; what is refused is so at once, and all
    is given back."""
    entry.answer = forever
    held = BytesInFlight(200_000, 100_000)
    body = json.dumps(ASK | {"x": "a" * 60_000}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    async with running_door(entry, held=held) as door:
        url = door.url + PATH
        first = asyncio.ensure_future(http.post(url, content=body))
        await entry.until(lambda e: len(e.drafts) == 1)
        assert held.total == CALL_BYTES + len(body)
        for content in (body, chunks()):
            answer = await http.post(url, content=content)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "bytes_in_flight")
            assert answer.headers["retry-after"] == "1"
        assert held.total == CALL_BYTES + len(body)
        first.cancel()
        await entry.until(lambda e: e.cancelled == 1)
        entry.answer = FakeEntry().answer
        assert (await http.post(url, content=body)).status_code == 200
        assert held.total == 0


async def test_a_half_sent_body_holds_what_came_of_it_alone(entry: FakeEntry) -> None:
    """Announcing a large body takes nothing from others; hanging up gives back what was sent."""
    async with running_door(entry) as door:
        line = await Line.to(door)
        line.ask("Content-Length: 9000000", body=b"a" * 10_000)
        async with asyncio.timeout(PATIENCE):
            while door.held.total == 0:
                await asyncio.sleep(0.01)
            assert door.held.total <= CALL_BYTES + 10_000
            line.close()
            while door.held.total:
                await asyncio.sleep(0.01)


async def test_who_expects_to_be_told_to_go_on_is_told(door: RunningDoor) -> None:
    """With a known key and a size that may be; else the answer comes without the body having been sent at all."""
    body = json.dumps(ASK).encode()
    length, expect = f"Content-Length: {len(body)}", "Expect: 100-continue"
    line = await Line.to(door)
    line.ask(length, expect)
    assert (await line.answer())[0] == 100
    line.writer.write(body)
    assert (await line.answer())[0] == 200
    line.ask("Content-Length: 99000000", expect)
    assert await line.code() == (413, "request_too_large")
    line = await Line.to(door)
    line.ask(length, expect, key="wrong")
    assert await line.code() == (401, "invalid_api_key")


@pytest.mark.parametrize("dribble", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_connections_that_send_no_head_end(entry: FakeEntry, dribble: bytes) -> None:
    """Silent ones and those that send a head without an end, byte by byte; one that is served does not."""
    entry.answer = forever
    async with running_door(entry, Bounds(head_seconds=SOON)) as door:
        served = await Line.to(door)
        served.ask(f"Content-Length: {len(json.dumps(ASK))}", body=json.dumps(ASK).encode())
        await entry.until(lambda e: len(e.drafts) == 1)
        lines = [await Line.to(door) for _ in range(30)]
        for line in lines:
            line.writer.write(dribble)
        await asyncio.gather(*(line.ended() for line in lines))
        assert (entry.cancelled, served.reader.at_eof()) == (0, False)
        served.close()


async def test_connections_between_requests_end(entry: FakeEntry) -> None:
    """After their time, and the next request's half sent head does not lengthen it."""
    async with running_door(entry, Bounds(idle_seconds=SOON)) as door:
        line = await Line.to(door)
        line.ask("Content-Length: 2", body=b"{}")
        assert (await line.code())[0] == 400
        line.writer.write(b"POST / HT")
        await line.ended()


@pytest.mark.parametrize("pieces", [0, 1000])
async def test_bodies_that_do_not_come_end(entry: FakeEntry, pieces: int) -> None:
    """A body of which nothing comes ends the request, and so does one of which a byte comes now and then."""
    async with running_door(entry, Bounds(body_seconds=SOON, linger_seconds=SOON)) as door:
        line = await Line.to(door)
        line.ask("Content-Length: 5000000", body=b"{")
        answer = asyncio.ensure_future(line.code())
        for _ in range(pieces):
            if answer.done():
                break
            line.writer.write(b" ")
            await asyncio.sleep(SOON / 10)
        assert await answer == (408, "request_timeout")
        await line.ended()
        assert door.held.total == 0


async def test_the_longest_waiting_makes_room(entry: FakeEntry) -> None:
    """Connections that no request is being served on cannot keep others out."""
    async with running_door(entry, Bounds(max_connections=4)) as door:
        silent = [await Line.to(door) for _ in range(4)]
        async with door.client() as client:
            await client.chat.completions.create(**ASK)
        await silent[0].ended()
        assert not silent[3].reader.at_eof()


async def test_one_connection_too_many_is_told_so(entry: FakeEntry) -> None:
    """A connection above the bound is refused with a 503 while all others are being served."""
    entry.answer = forever
    async with running_door(entry, Bounds(max_connections=2)) as door:
        body = json.dumps(ASK).encode()
        busy = []
        for number in range(2):
            busy.append(await Line.to(door))
            busy[-1].ask(f"Content-Length: {len(body)}", body=body, key=f"{KEY}+t{number}")
            await entry.until(lambda e, number=number: len(e.drafts) == number + 1)  # type: ignore[misc]
        late = await Line.to(door)
        assert await late.code() == (503, "too_many_connections")
        await late.ended()
        busy[0].close()
        await entry.until(lambda e: e.cancelled == 1)
        entry.answer = FakeEntry().answer
        again = await Line.to(door)
        again.ask(f"Content-Length: {len(body)}", body=body)
        assert (await again.answer())[0] == 200


@pytest.mark.parametrize("served", [True, False], ids=["being served", "idle"])
async def test_two_tenants_cannot_take_all_connections(entry: FakeEntry, served: bool) -> None:
    """Two hold as many as they can get; a third is served at once, again and again."""
    most = 48
    body = json.dumps(ASK).encode()
    length = f"Content-Length: {len(body)}"
    async with running_door(entry, Bounds(max_connections=most)) as door:
        if served:
            entry.answer = forever
        lines = []
        refused = 0
        for tenant in ("greedy", "second"):
            for _ in range(most):
                line = await Line.to(door)
                before = len(entry.drafts)
                line.ask(length, body=body, key=f"{KEY}+{tenant}")
                if not served:
                    assert (await line.answer())[0] == 200
                elif await was_refused(line, entry, before):
                    refused += 1
                lines.append(line)
        assert (refused > most) == served
        entry.answer = FakeEntry().answer
        for _ in range(5):
            third = await Line.to(door)
            third.ask(length, body=body, key=f"{KEY}+third")
            assert (await third.answer())[0] == 200
        for line in lines:
            line.close()


async def was_refused(line: Line, entry: FakeEntry, before: int) -> bool:
    """Waits until its request is being served, or has been refused."""
    refusal = asyncio.ensure_future(line.code())
    begun = asyncio.ensure_future(entry.until(lambda e: len(e.drafts) > before))
    await asyncio.wait({refusal, begun}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    if refusal.done():
        begun.cancel()
        assert await refusal in ((429, "too_many_connections"), (503, "too_many_connections"))
        return True
    refusal.cancel()
    return False


async def test_a_reader_that_does_not_read_ends_its_stream(entry: FakeEntry) -> None:
    """As soon as the buffers are full, and the provider's with it: nothing is kept for it without end."""
    sent = 0

    async def endless(draft: Draft) -> AsyncGenerator[Event, None]:
        nonlocal sent
        yield selected()
        while True:
            sent += 1
            yield delta("x" * 100_000)

    entry.events = endless
    async with running_door(entry, Bounds(write_seconds=SOON)) as door:
        line = await Line.to(door)
        body = json.dumps(ASK | {"stream": True}).encode()
        line.ask(f"Content-Length: {len(body)}", body=body)
        await asyncio.wait_for(entry.until(lambda e: e.cancelled == 1), PATIENCE)
        # What the kernel's buffers of both sides take, and ours.
        assert sent < 300
        line.close()


async def test_a_quiet_stream_goes_on(entry: FakeEntry, http: httpx.AsyncClient) -> None:
    """However long its provider thinks: none of the bounds on time is about it."""

    async def thinking(draft: Draft) -> AsyncGenerator[Event, None]:
        yield selected()
        for word in ("one ", "two "):
            await asyncio.sleep(5 * SOON)
            yield delta(word)
        yield completed()

    entry.events = thinking
    bounds = Bounds(head_seconds=SOON, idle_seconds=SOON, body_seconds=SOON, write_seconds=SOON)
    async with running_door(entry, bounds) as door:
        answer = await http.post(door.url + PATH, json=ASK | {"stream": True})
        assert answer.text.endswith("data: [DONE]\n\n")


def request(*headers: str, line: str = f"POST {PATH} HTTP/1.1", body: bytes = b"") -> bytes:
    """A request of a known caller."""
    return "\r\n".join([line, "Host: x", f"Authorization: Bearer {KEY}", *headers, "", ""]).encode() + body


BAD_CHUNK = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello"], 400, "invalid_http"),
        ([request(line="POST  HTTP")], 400, "invalid_http"),
        ([request("x: " + "y" * 20_000)], 431, "headers_too_large"),
        ([request(line=f"GET /{'a' * 20_000} HTTP/1.1")], 431, "headers_too_large"),
        ([request(*(f"x-{n}: y" for n in range(500)))], 400, "invalid_http"),
        ([request("Content-Length: 5", "Content-Length: 6", body=b"hello!")], 400, "invalid_http"),
        ([request(BAD_CHUNK, body=b"zz\r\n")], 400, "invalid_http"),
        ([request(BAD_CHUNK), b"5\r\nhello\r\n", b"zz\r\n"], 400, "invalid_body"),
        ([request(BAD_CHUNK, "Content-Length: 4", body=b"zz\r\n")], 400, "invalid_http"),
        ([request(line="GET /v1/models/%ff%00 HTTP/1.1")], 404, "model_not_found"),
        ([request(line="GET /\udcff HTTP/1.1".encode("utf-8", "replace").decode())], 404, "unknown_url"),
    ],
)
async def test_bad_http_is_answered_as_any_error(
    door: RunningDoor, http: httpx.AsyncClient, pieces: list[bytes], status: int, code: str
) -> None:
    """In OpenAI's shape, with a request id, and without a word about the software; the next caller is served."""
    line = await Line.to(door)
    for piece in pieces:
        line.writer.write(piece)
        await asyncio.sleep(0.05)
    status_line, headers, body = await line.answer()
    assert (status_line, json.loads(body)["error"]["code"]) == (status, code)
    assert headers["x-request-id"]
    for word in ("aiohttp", "python"):
        assert word not in str(headers).lower()
        assert word not in body.decode().lower()
    assert KEY not in body.decode()
    line.close()
    assert (await http.post(door.url + PATH, json=ASK)).status_code == 200


async def test_no_answer_names_the_software(door: RunningDoor, http: httpx.AsyncClient) -> None:
    """Whole, streamed, refused, unknown, healthy: all call themselves the same."""
    url = door.url + PATH
    answers = [
        await http.post(url, json=ASK),
        await http.post(url, json=ASK | {"stream": True}),
        await http.post(url, content=b"{"),
        await http.get(url),
        await http.get(door.url + "/nowhere"),
        await http.get(door.url + "/readyz"),
        await http.get(door.url + "/v1/models"),
    ]
    assert {answer.headers["server"] for answer in answers} == {"pointsman"}
    assert all(answer.headers["x-request-id"] for answer in answers)


async def test_refused_requests_leave_nothing_behind(door: RunningDoor) -> None:
    """Without the garbage collector's help: what failed is not kept alive by its own traceback."""
    bodies = [b"{" + b" " * 500_000, json.dumps({"model": "auto", "messages": []} | {"n": 2}).encode()]

    async def refuse(times: int) -> None:
        line = await Line.to(door)
        for _ in range(times):
            for body in bodies:
                line.ask(f"Content-Length: {len(body)}", body=body)
                assert (await line.answer())[0] == 400
        line.close()
        stranger = await Line.to(door)
        stranger.ask("Content-Length: 1000", key="wrong")
        await stranger.ended()

    await refuse(10)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        await refuse(100)
        grown = len(gc.get_objects()) - before
    finally:
        gc.enable()
    assert grown < 100, f"{grown} objects are left of 200 refused requests"
    assert door.held.total == 0


async def test_a_deadline_has_one_code(door: RunningDoor, entry: FakeEntry) -> None:
    """Whichever reason the router gives for it."""
    for reason in ("DEADLINE_EXCEEDED", "DEADLINE_IN_THE_PAST", "QUEUE_TIMEOUT"):

        async def late(draft: Draft, reason: str = reason) -> Result:
            raise DeadlineExceeded("late", reason=reason)

        entry.answer = late
        async with door.client() as client:
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(**ASK)
        assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")


async def test_many_small_requests_of_others_beside_an_attack(entry: FakeEntry) -> None:
    """Steady traffic keeps its answers while strangers send bodies and connections hang."""

    async def answered(draft: Draft) -> Result:
        return result(draft.request_id, "fine")

    entry.answer = answered
    async with running_door(entry, Bounds(max_connections=64)) as door, door.client() as client:
        hanging = [await Line.to(door) for _ in range(64)]
        for number in range(50):
            stranger = await Line.to(door)
            stranger.ask("Content-Length: 9000000", body=b"a" * 100_000, key=f"wrong-{number}")
            await client.chat.completions.create(**ASK)
        for line in hanging:
            line.close()
    assert len(entry.drafts) == 50


async def test_a_body_in_tiny_chunks_is_read_whole(entry: FakeEntry) -> None:
    """A body of 30,000 chunks of a byte, sent at once, is parsed in slices and loses nothing; a request behind
    it on the same connection is answered too."""
    body = json.dumps(ASK | {"user": "u" * 64}).encode() + b" " * 30_000
    chunks = b"".join(b"1\r\n" + body[at : at + 1] + b"\r\n" for at in range(len(body))) + b"0\r\n\r\n"
    async with running_door(entry) as door:
        line = await Line.to(door)
        line.ask("Transfer-Encoding: chunked", body=chunks)
        assert (await line.answer())[0] == 200
        plain = json.dumps(ASK).encode()
        line.ask(f"Content-Length: {len(plain)}", body=plain)
        assert (await line.answer())[0] == 200
