"""Signs of life on streams that are silent, through both doors and real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from pointsman.router.v1 import router_pb2 as pb
from pointsman.router.v1 import router_pb2_grpc

from libs.answer import Completed
from libs.client import Client
from libs.rpc.channel import connect, metadata
from libs.rpc.server import Registration
from libs.types import ErrorClass
from services.router.api.entry import Entry
from services.router.api.heartbeat import Heartbeats
from services.router.api.servicer import RouterServicer
from tests.support.http_door import RunningDoor, running_door
from tests.support.router import KEY, NAME, serve
from tests.support.routing import Harness, catalog, fail, model, new_id

#: Seconds.
INTERVAL = 0.02
PROMPT: Any = [{"role": "user", "content": "Describe a mug."}]
GENERATION = pb.Generation(messages=[pb.Message(role=pb.ROLE_USER, text="Describe a mug.")])


class Doors:
    """Both, before a router whose provider is silent until `speaks` is set. Then it says `fine`."""

    def __init__(self) -> None:
        self.speaks = asyncio.Event()
        scripts: dict[str, list[object]] = {"a/m": [[self.speaks, "fine"]], "b/m": [["else"]]}
        self.harness = Harness(catalog([model("a/m")], [model("b/m")]), scripts)
        h = self.harness
        self.entry = Entry(lambda: h.catalog, h.generate, h.dry_run, h.clock, new_id)
        self.address = ""
        self.http: RunningDoor

    def fail(self, *targets: str) -> None:
        """Lets these fail once the silence is over."""
        for target in targets:
            self.harness.providers.script[target] = [[self.speaks, fail(ErrorClass.OVERLOADED)]]


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    doors = Doors()
    servicer = RouterServicer(doors.entry, doors.harness.set_aside, Heartbeats(INTERVAL))
    registration = Registration(router_pb2_grpc.add_RouterServicer_to_server, servicer, NAME)
    async with (
        serve(registration) as server,
        running_door(doors.entry, heartbeat=INTERVAL) as doors.http,
    ):
        doors.address = f"127.0.0.1:{server.port}"
        yield doors


async def _texts(chunks: Any) -> str:
    """The text of a stream, read to its end."""
    return "".join([c.choices[0].delta.content or "" async for c in chunks if c.choices])


async def test_silence_over_grpc_is_filled_with_heartbeats_that_commit_nothing(doors: Doors) -> None:
    """A provider that fails after them is followed by the next as if nothing had been sent."""
    doors.fail("a/m")
    kinds = []
    async with connect(doors.address) as channel:
        stub: router_pb2_grpc.RouterAsyncStub = router_pb2_grpc.RouterStub(channel)
        call = stub.StreamGenerate(
            pb.StreamGenerateRequest(generation=GENERATION), metadata=metadata(KEY), timeout=20
        )
        async for response in call:
            kinds.append(response.WhichOneof("event"))
            if kinds.count("heartbeat") >= 3:
                doors.speaks.set()
    assert kinds[:4] == ["selected", "heartbeat", "heartbeat", "heartbeat"]
    assert [kind for kind in kinds if kind != "heartbeat"] == [
        "selected",
        "switched_provider",
        "delta",
        "completed",
    ]
    doors.harness.assert_settled()


async def test_callers_of_the_client_library_see_no_heartbeats(doors: Doors) -> None:
    """They are taken out between the wire and the caller."""
    asyncio.get_running_loop().call_later(5 * INTERVAL, doors.speaks.set)
    async with Client(doors.address, KEY, timeout=20) as client:
        events = [event async for event in client.stream("Describe a mug.")]
    assert None not in events
    assert isinstance(events[-1], Completed)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_silence_over_http_is_filled_with_comments(doors: Doors, path: str) -> None:
    """They come under a head that names nobody, before anything of the answer."""
    body = {"model": "auto", "stream": True}
    body |= {"messages": PROMPT} if "chat" in path else {"input": "Describe a mug."}
    lines: list[str] = []
    async with (
        httpx.AsyncClient(base_url=doors.http.url, timeout=20) as client,
        client.stream("POST", path, json=body, headers={"authorization": f"Bearer {KEY}"}) as answer,
    ):
        assert answer.status_code == 200
        assert "x-pointsman-provider" not in answer.headers
        async for line in answer.aiter_lines():
            lines.append(line)
            if lines.count(": heartbeat") >= 2:
                doors.speaks.set()
    said = [line for line in lines if line]
    assert said[:2] == [": heartbeat", ": heartbeat"]
    assert any('"fine"' in line for line in said)
    doors.harness.assert_settled()


async def test_the_official_client_skips_them(doors: Doors) -> None:
    """Both dialects give the answer alone."""
    loop = asyncio.get_running_loop()
    client: AsyncOpenAI
    async with doors.http.client() as client:
        loop.call_later(5 * INTERVAL, doors.speaks.set)
        chunks: Any = await client.chat.completions.create(model="auto", messages=PROMPT, stream=True)
        text = await _texts(chunks)
        doors.speaks.clear()
        loop.call_later(5 * INTERVAL, doors.speaks.set)
        async with client.responses.stream(model="auto", input="Describe a mug.") as stream:
            final = await stream.get_final_response()
    assert text == final.output_text == "fine"


async def test_a_failure_after_heartbeats_is_an_event_that_clients_raise(doors: Doors) -> None:
    """The status went out with the first of them, so the error is said in the stream, in both dialects."""
    doors.fail("a/m", "b/m")
    loop = asyncio.get_running_loop()
    async with doors.http.client() as client:
        loop.call_later(5 * INTERVAL, doors.speaks.set)
        chunks: Any = await client.chat.completions.create(model="auto", messages=PROMPT, stream=True)
        with pytest.raises(openai.APIError, match="overloaded"):
            await _texts(chunks)
        doors.speaks.clear()
        loop.call_later(5 * INTERVAL, doors.speaks.set)
        async with client.responses.stream(model="auto", input="Describe a mug.") as stream:
            kinds = [event.type async for event in stream]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.failed")
    doors.harness.assert_settled()


async def test_a_caller_who_leaves_in_a_silence_stops_the_provider(doors: Doors) -> None:
    """No sign of life outlives the stream."""
    async with connect(doors.address) as channel:
        stub: router_pb2_grpc.RouterAsyncStub = router_pb2_grpc.RouterStub(channel)
        call = stub.StreamGenerate(
            pb.StreamGenerateRequest(generation=GENERATION), metadata=metadata(KEY), timeout=20
        )
        async for response in call:
            if response.HasField("heartbeat"):
                call.cancel()
                break
    async with asyncio.timeout(20):
        while not doors.harness.providers.cancelled:
            await asyncio.sleep(INTERVAL)
    doors.harness.assert_settled()
