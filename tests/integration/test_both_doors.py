"""One use case behind both doors of the router: what the one says the other says too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import openai
import pytest
from openai import AsyncOpenAI
from pointsman.router.v1 import router_pb2_grpc

from libs.catalog.catalog import Catalog
from libs.client import Client
from libs.errors import InvalidArgument, PermissionDenied, Unauthenticated, Unavailable
from libs.rpc.identity import OPERATOR
from libs.rpc.server import Registration
from libs.types import ErrorClass
from services.router.api.entry import Entry
from services.router.api.heartbeat import Heartbeats
from services.router.api.servicer import RouterServicer
from tests.support.http_door import running_door
from tests.support.router import KEY, NAME, serve
from tests.support.routing import Harness, catalog, fail, model, new_id


class Doors:
    """Both, before the same router with fake providers. `catalog` can be changed."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.catalog: Catalog = harness.catalog
        self.entry = Entry(lambda: self.catalog, harness.generate, harness.dry_run, harness.clock, new_id)
        self.grpc: Client
        self.http: AsyncOpenAI


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    harness = Harness(catalog([model("a/m")], [model("b/m")]), {"a/m": ["fine"], "b/m": ["fine"]})
    doors = Doors(harness)
    servicer = RouterServicer(doors.entry, harness.set_aside, Heartbeats(0.0))
    registration = Registration(router_pb2_grpc.add_RouterServicer_to_server, servicer, NAME)
    async with (
        serve(registration) as server,
        running_door(doors.entry) as door,
        Client(f"127.0.0.1:{server.port}", KEY, timeout=20) as doors.grpc,
        door.client() as doors.http,
    ):
        yield doors


async def refusals(doors: Doors, prompt: str = "Describe a mug.") -> tuple[Exception, openai.APIStatusError]:
    """Returns each door's error for a request that is refused."""
    with pytest.raises(Exception) as by_grpc:  # noqa: PT011 - which one is what the test asks
        await doors.grpc.generate(prompt, request_id="g")
    with pytest.raises(openai.APIStatusError) as by_http:
        await doors.http.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": prompt}], extra_headers={"x-request-id": "h"}
        )
    return by_grpc.value, by_http.value


async def test_both_give_the_same_answer_and_account(doors: Doors) -> None:
    """Text, model, attempts and cost; the ledger has one row of each for the same tenant."""
    doors.harness.providers.script["a/m"] = [fail(ErrorClass.OVERLOADED)]
    by_grpc = await doors.grpc.generate("Describe a mug.", request_id="g")
    by_http = await doors.http.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": "Describe a mug."}],
        extra_headers={"x-request-id": "h"},
    )
    account = (by_http.model_extra or {})["pointsman"]
    assert by_http.choices[0].message.content == by_grpc.text == "fine"
    assert (account["provider"], account["attempts"]) == (by_grpc.selection.provider, len(by_grpc.attempts))
    assert account["cost_usd"] == f"{by_grpc.cost_micro_usd / 1_000_000:.6f}"
    prompts = doors.harness.providers.prompts
    assert prompts[0] == prompts[-1]
    rows = [(r.request_id, r.tenant, r.outcome) for r in doors.harness.spool.ended]
    assert [row[1:] for row in rows if row[0] == "g"] == [row[1:] for row in rows if row[0] == "h"]
    doors.harness.assert_settled()


async def test_both_refuse_what_is_wrong(doors: Doors) -> None:
    """Nobody is called for it."""
    by_grpc, by_http = await refusals(doors, " ")
    assert isinstance(by_grpc, InvalidArgument)
    assert (by_http.status_code, by_http.param) == (400, "messages[0].content")
    assert doors.harness.providers.calls == []


async def test_both_say_that_nobody_answers(doors: Doors) -> None:
    """With the same reason."""
    doors.harness.providers.script |= {name: [fail(ErrorClass.OVERLOADED)] for name in ("a/m", "b/m")}
    by_grpc, by_http = await refusals(doors)
    assert isinstance(by_grpc, Unavailable)
    assert (by_http.status_code, by_http.code) == (503, by_grpc.reason.lower())


async def test_both_know_tenants_only(doors: Doors) -> None:
    """Not one that has just been removed, nor an operator, who is none."""
    doors.catalog = replace(doors.harness.catalog, tenants={})
    by_grpc, by_http = await refusals(doors)
    assert isinstance(by_grpc, Unauthenticated)
    assert (by_http.status_code, by_http.code) == (401, "invalid_api_key")
    with pytest.raises(PermissionDenied):
        doors.entry.models(OPERATOR)
