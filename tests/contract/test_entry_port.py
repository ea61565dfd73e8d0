"""The contract on which the HTTP door relies, asked of the router's entry and of the fake that tests put in its
place."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from opentelemetry.trace import SpanKind

from libs.answer import Completed, Delta, Selected
from libs.conversation import Message, Role
from libs.tracing import Span, current
from services.router.api.accept import Draft
from services.router.api.entry import Entry
from services.router.api.http_door import TenantCalls
from services.router.request.generation import Prompt
from tests.support.http_door import FakeEntry
from tests.support.routing import TENANT, Harness, catalog, model, new_id

DRAFT = Draft(Prompt((Message(Role.USER, "mug"),), 0), request_id="r-1")


@pytest.fixture(params=["router", "fake"])
async def entry(request: pytest.FixtureRequest) -> AsyncIterator[TenantCalls]:
    """Each of them, within a call."""
    token = current.set(Span("test", SpanKind.SERVER, None))
    if request.param == "fake":
        yield FakeEntry()
    else:
        h = Harness(catalog([model("alpha/small")]), {"alpha/small": [["About: ", "mug"]]})
        h.providers.script["alpha/small"].insert(0, "About: mug")
        yield Entry(lambda: h.catalog, h.generate, h.dry_run, h.clock, new_id)
        h.assert_settled()
    current.reset(token)


async def test_an_answer_whole_and_as_events(entry: TenantCalls) -> None:
    """The same text; events begin with who was selected and end with the account, which has no text of its own."""
    whole = await entry.generate(TENANT.name, DRAFT, 9.0)
    assert (whole.request_id, whole.text, whole.selection.target) == ("r-1", "About: mug", "alpha/small")
    events = [event async for event in entry.stream(TENANT.name, DRAFT, None)]
    first, *deltas, last = events
    assert isinstance(first, Selected)
    assert isinstance(last, Completed)
    assert "".join(delta.text for delta in deltas if isinstance(delta, Delta)) == whole.text
    assert last.result.text == ""
    assert len(last.result.attempts) == 1


async def test_models_and_content_types(entry: TenantCalls) -> None:
    """Models and content types list those that the caller may name."""
    models, content_types = entry.models(TENANT.name)
    assert models[0].id == "alpha/small"
    assert content_types[0] == "general"


async def test_a_stream_may_be_left(entry: TenantCalls) -> None:
    """In the middle of its answer; nothing of it goes on."""
    await entry.generate(TENANT.name, DRAFT, None)
    stream = entry.stream(TENANT.name, DRAFT, None)
    assert isinstance(await anext(stream), Selected)
    assert isinstance(await anext(stream), Delta)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
