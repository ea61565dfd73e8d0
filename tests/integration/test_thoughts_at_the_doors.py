"""A model's thoughts through both doors, whole and streamed, and across a failover."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI
from pointsman.router.v1 import router_pb2_grpc

from libs.answer import Completed, Delta, Restarted
from libs.client import Client, TextAssembler
from libs.conversation import Citation, Message, Reasoning, ReasoningDelta, Role, Text
from libs.rpc.server import Registration
from libs.types import ErrorClass, FinishReason, Usage
from services.router.api.entry import Entry
from services.router.api.heartbeat import Heartbeats
from services.router.api.servicer import RouterServicer
from services.router.request.generation import Completion, Prompt
from tests.support.http_door import running_door
from tests.support.router import KEY, NAME, serve
from tests.support.routing import Harness, catalog, fail, model, new_id

SIGNED = Reasoning("hm", "S", kind="anthropic")
SOURCE = Citation("https://a.example", "A")
ANSWER = Completion("fine", FinishReason.STOP, Usage(10, 5), reasoning=(SIGNED,), citations=(SOURCE,))
STREAM = [
    ReasoningDelta(0, Reasoning("h", kind="anthropic")),
    ReasoningDelta(0, Reasoning("m", "S")),
    "fine",
    SOURCE,
]
VOID = [ReasoningDelta(0, Reasoning("void", "V", kind="x")), fail(ErrorClass.STALLED)]
ASK: Any = [{"role": "user", "content": "Describe a mug."}]
ENCRYPTED: Any = ["reasoning.encrypted_content"]


class Doors:
    """Both, before the same router with fake providers: `a/m` fails in its thoughts, `b/m` answers."""

    def __init__(self) -> None:
        self.harness = Harness(catalog([model("a/m")], [model("b/m")]), {})
        self.grpc: Client
        self.http: AsyncOpenAI

    def play(self, first: object, second: object) -> None:
        self.harness.providers.script.update({"a/m": [first], "b/m": [second]})

    def last(self) -> Prompt:
        """The last prompt that a provider got."""
        return self.harness.providers.prompts[-1]


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    doors = Doors()
    h = doors.harness
    entry = Entry(lambda: h.catalog, h.generate, h.dry_run, h.clock, new_id)
    servicer = RouterServicer(entry, h.set_aside, Heartbeats(0.0))
    registration = Registration(router_pb2_grpc.add_RouterServicer_to_server, servicer, NAME)
    async with (
        serve(registration) as server,
        running_door(entry) as door,
        Client(f"127.0.0.1:{server.port}", KEY, timeout=20) as doors.grpc,
        door.client() as doors.http,
    ):
        yield doors


async def test_a_whole_answer_and_its_way_back(doors: Doors) -> None:
    """Over each door the thoughts come with the answer, and sent back they reach the provider as they were."""
    doors.play(ANSWER, ANSWER)
    turn = (SIGNED, Text("fine"))
    result = await doors.grpc.generate("Describe a mug.")
    assert (result.reasoning, result.citations) == ((SIGNED,), (SOURCE,))
    back = Message(Role.ASSISTANT, parts=(*result.reasoning, Text(result.text)))
    await doors.grpc.generate([Message(Role.USER, "a"), back, Message(Role.USER, "b")])
    assert doors.last().messages[1].parts == turn
    chat = await doors.http.chat.completions.create(model="auto", messages=ASK)
    message: Any = chat.choices[0].message
    assert message.reasoning_content == "hm"
    assert message.annotations[0].url_citation.url == SOURCE.url
    await doors.http.chat.completions.create(model="auto", messages=[*ASK, message, *ASK])
    assert doors.last().messages[1].parts == turn
    response = await doors.http.responses.create(model="auto", input=ASK, include=ENCRYPTED)
    assert [item.type for item in response.output] == ["reasoning", "message"]
    output: Any = response.output
    await doors.http.responses.create(model="auto", input=[*ASK, *output, *ASK])
    assert doors.last().messages[1].parts == turn


async def test_thoughts_of_an_attempt_that_failed_are_void_over_grpc(doors: Doors) -> None:
    """The caller is told so, and ends up with those of the answer; the account has both attempts."""
    doors.play(VOID, STREAM)
    assembler, kinds = TextAssembler(), []
    async for event in doors.grpc.stream("Describe a mug."):
        assembler.feed(event)
        kinds.append(type(event))
    assert kinds.count(Restarted) == 1
    result = assembler.result
    assert result is not None
    assert (result.text, result.reasoning, result.citations) == ("fine", (SIGNED,), (SOURCE,))
    assert [attempt.error_class for attempt in result.attempts] == [ErrorClass.STALLED, None]
    doors.harness.assert_settled()


async def test_thoughts_of_an_attempt_that_failed_end_no_stream_over_http(doors: Doors) -> None:
    """Another provider simply begins, with no error; only its thoughts are sent back, in both dialects."""
    doors.play(VOID, STREAM)
    chunks: Any = await doors.http.chat.completions.create(model="auto", messages=ASK, stream=True)
    deltas = [chunk.choices[0].delta async for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "fine"
    details = [d for delta in deltas for d in (delta.model_extra or {}).get("reasoning_details", ())]
    assert [(d["text"], d["signature"], d["format"]) for d in details] == [("hm", "S", "anthropic")]
    async with doors.http.responses.stream(
        model="auto", input="Describe a mug.", include=ENCRYPTED
    ) as stream:
        final = await stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message"]
    assert final.output_text == "fine"
    doors.harness.assert_settled()


async def test_fields_of_which_nothing_is_made_are_named_in_the_head(doors: Doors) -> None:
    """Of a whole answer and of a stream, and of no other."""
    doors.play(ANSWER, ANSWER)
    raw = doors.http.chat.completions.with_raw_response
    plain = await raw.create(model="auto", messages=ASK)
    assert "x-pointsman-ignored" not in plain.headers
    whole = await raw.create(model="auto", messages=ASK, store=True, verbosity="low")
    assert whole.headers["x-pointsman-ignored"] == "store, verbosity"
    doors.play(STREAM, STREAM)
    streamed = await raw.create(model="auto", messages=ASK, service_tier="flex", stream=True)
    assert streamed.headers["x-pointsman-ignored"] == "service_tier"
    async for _ in streamed.parse():
        pass


async def test_options_that_the_provider_could_not_be_told_are_named(doors: Doors) -> None:
    """By the one that answers, in the terms of each door, whole and in the head of a stream; not by one that
    failed."""
    dropped = ("seed", "reasoning_summary")
    doors.play([("top_p",), *VOID], [dropped, "fine"])
    events = [event async for event in doors.grpc.stream("Describe a mug.")]
    heads = [event.head.ignored for event in events if isinstance(event, Delta) and event.head]
    # Thoughts were the first of the stream, and have its head.
    assert heads == [("top_p",)]
    assert isinstance(events[-1], Completed)
    assert events[-1].result.ignored == dropped
    doors.play([fail(ErrorClass.STALLED)], [dropped, "fine"])
    raw = doors.http.responses.with_raw_response
    streamed = await raw.create(model="auto", input=ASK, stream=True)
    assert streamed.headers["x-pointsman-ignored"] == "seed, reasoning.summary"
    async for _ in streamed.parse():
        pass
    whole = Completion("fine", FinishReason.STOP, Usage(10, 5), ignored=dropped)
    doors.play(fail(ErrorClass.STALLED), whole)
    assert (await doors.grpc.generate("Describe a mug.", seed=7)).ignored == dropped
    answered = await raw.create(model="auto", input=ASK, store=True)
    assert answered.headers["x-pointsman-ignored"] == "store, seed, reasoning.summary"
