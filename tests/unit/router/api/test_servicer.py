"""The service over gRPC with fakes behind it: what its protos say and refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
from pointsman.router.v1 import router_pb2 as pb
from pointsman.router.v1 import router_pb2_grpc
from pointsman.types.v1 import types_pb2

from libs.answer import Delta, Head, LimitState
from libs.errors import InvalidArgument, PointsmanError
from libs.limits import Period, Unit
from libs.rpc.channel import connect, metadata
from libs.rpc.server import Registration
from libs.rpc.status import from_rpc_error
from libs.types import ErrorClass
from services.router.api.entry import Entry
from services.router.api.heartbeat import Heartbeats
from services.router.api.servicer import RouterServicer
from tests.support.router import KEY, NAME, serve
from tests.support.routing import TENANT, Harness, catalog, fail, generation, model, new_id

Call = Callable[..., Awaitable[object]]
Stub = router_pb2_grpc.RouterStub
METHODS = ("Generate", "StreamGenerate", "SelectProvider", "EstimateCost")


@pytest.fixture
def harness() -> Harness:
    return Harness(catalog([model("a/m")], [model("b/m")]), {"a/m": ["fine"], "b/m": ["fine"]})


@pytest.fixture
async def call(harness: Harness) -> AsyncIterator[Call]:
    """Calls a method with a generation; gives the response, of a stream the last."""
    h = harness
    servicer = RouterServicer(
        Entry(lambda: h.catalog, h.generate, h.dry_run, h.clock, new_id), h.set_aside, Heartbeats(0.0)
    )
    registration = Registration(router_pb2_grpc.add_RouterServicer_to_server, servicer, NAME)
    async with serve(registration) as server, connect(f"127.0.0.1:{server.port}") as channel:
        stub = Stub(channel)

        async def called(method: str, **fields: object) -> object:
            said = {"messages": [pb.Message(role=pb.ROLE_USER, text="Describe a mug.")]} | fields
            request = getattr(pb, f"{method}Request")(generation=pb.Generation(**said))  # type: ignore[arg-type]
            answer = getattr(stub, method)(request, metadata=metadata(KEY), timeout=20)
            try:
                if method != "StreamGenerate":
                    return await answer
                return [event async for event in answer][-1]
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None

        yield called


@pytest.mark.parametrize("method", METHODS)
async def test_regression_a_value_without_a_name_is_refused_not_ignored(
    call: Call, harness: Harness, method: str
) -> None:
    """INVALID_ARGUMENT names each enum whose number nobody knows; nobody is called or charged for it."""
    with pytest.raises(InvalidArgument) as caught:
        await call(
            method,
            strategy=99,
            priority=99,
            reasoning_effort=99,
            response_format=pb.ResponseFormat(kind=9),  # type: ignore[arg-type]
        )
    assert {v.field for v in caught.value.violations} == {
        "generation.strategy",
        "generation.priority",
        "generation.reasoning_effort",
        "generation.response_format.kind",
    }
    assert harness.providers.calls == []
    harness.providers.script["a/m"] = [["fine"] if method == "StreamGenerate" else "fine"]
    await call(method, response_format=pb.ResponseFormat())


async def test_regression_an_estimate_is_not_called_exact(call: Call) -> None:
    """EstimateCost says that its tokens are estimated."""
    answer = await call("EstimateCost")
    assert isinstance(answer, pb.EstimateCostResponse)
    assert [e.usage.accuracy for e in answer.estimates] == [types_pb2.USAGE_ACCURACY_ESTIMATED] * 2


STATE = LimitState(Unit.REQUESTS, Period.MINUTE, 60, 41, 19.0)


async def test_an_answer_tells_the_tenants_own_limits(call: Call, harness: Harness) -> None:
    """As the router knows them after it; a stream's first delta has them too, with the attempts so far."""
    harness.admission.states["tenant:acme"] = (
        STATE,
        LimitState(Unit.TOTAL_TOKENS, Period.DAY, 9000, 100, None),
    )
    harness.admission.states["tenant:other"] = (STATE,)
    answer = await call("Generate")
    assert isinstance(answer, pb.GenerateResponse)
    requests, tokens = answer.result.limits
    assert (requests.unit, requests.period, requests.limit, requests.remaining) == (
        "requests",
        "minute",
        60,
        41,
    )
    assert (requests.reset.seconds, tokens.HasField("reset")) == (19, False)


async def test_the_first_delta_of_a_stream_has_the_account_so_far(harness: Harness) -> None:
    """Attempts that failed before it are counted, and no other delta has it. An old answer is told as that."""
    harness.admission.states["tenant:acme"] = (STATE,)
    harness.providers.script |= {"a/m": [fail(ErrorClass.OVERLOADED)], "b/m": [["two ", "words"]]}
    events = [e async for e in harness.generate.stream(harness.catalog, TENANT, generation())]
    heads = [event.head for event in events if isinstance(event, Delta)]
    assert heads == [Head(2, False, (STATE,)), None]
    old = Harness(catalog([model("a/m")], degradation=("stale_cache",)), {"a/m": ["fine"]})
    await old.generate.whole(old.catalog, TENANT, generation())
    old.providers.script["a/m"] = [fail(ErrorClass.OVERLOADED)]
    events = [e async for e in old.generate.stream(old.catalog, TENANT, generation())]
    assert [event.head for event in events if isinstance(event, Delta)] == [Head(1, True, ())]


async def test_a_number_out_of_range_is_told_the_range_in_full(call: Call) -> None:
    """A million is not 1e+06."""
    with pytest.raises(InvalidArgument) as caught:
        await call("Generate", max_output_tokens=2_000_000)
    assert [v.description for v in caught.value.violations] == ["must be from 1 to 1,000,000"]


@pytest.mark.parametrize("error_class", [ErrorClass.INVALID_REQUEST, ErrorClass.CONTENT_REFUSED])
async def test_regression_a_request_that_is_wrong_names_its_attempts_too(
    call: Call, harness: Harness, error_class: ErrorClass
) -> None:
    """ErrorInfo's metadata holds who was asked, whatever the class."""
    harness.providers.script["a/m"] = [fail(error_class, status=400)]
    with pytest.raises(PointsmanError) as caught:
        await call("Generate")
    assert caught.value.metadata["attempts"] == f"a/m={error_class}"
