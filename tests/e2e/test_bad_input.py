"""Whatever a caller sends: the right status with details, nothing charged, nothing crashed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from pointsman.health.v1 import health_pb2, health_pb2_grpc
from pointsman.ratelimit.v1 import ratelimit_pb2, ratelimit_pb2_grpc
from pointsman.router.v1 import router_pb2 as pb
from pointsman.router.v1 import router_pb2_grpc
from pointsman.types.v1 import types_pb2

from libs.errors import InvalidArgument, PointsmanError
from libs.rpc.channel import connect, metadata
from libs.rpc.server import TOLD
from libs.rpc.status import from_rpc_error
from services.router.bootstrap import REQUEST_BOUNDS
from tests.e2e.catalogs import TENANT_KEY
from tests.e2e.conftest import Shared
from tests.support.http2 import call
from tests.support.stack import RunningStack

SERVICES = ("router", "health", "ratelimit", "analytics", "valkey", "postgres")
PROVIDERS = ("openai", "anthropic", "gemini")
GENERATE = "/pointsman.router.v1.Router/Generate"
METHODS = ("Generate", "StreamGenerate", "SelectProvider", "EstimateCost")

pytestmark = pytest.mark.usefixtures("untouched")
Change = Callable[[pb.Generation], object]


def good() -> pb.Generation:
    """A request that would be served."""
    return pb.Generation(messages=[pb.Message(role=pb.ROLE_USER, text="Describe a blue mug.")])


def user(text: str) -> pb.Message:
    return pb.Message(role=pb.ROLE_USER, text=text)


@pytest.fixture
async def untouched(shared: Shared) -> AsyncIterator[None]:
    """After the test: no provider was called, the ledger is as it was, every process is the same, and it serves."""
    stack = shared.stack
    pids = {name: stack.process(name).pid for name in SERVICES}
    rows = await settled_rows(stack)
    yield
    assert sum(r["counters"]["requests"] for r in (await stack.simulator.all()).values()) == 0
    async with shared.client() as client:
        result = await client.generate("Describe a blue mug.", timeout=20)
    assert result.text
    await stack.settled_ledger(result.request_id, lambda found: len(found) == 1)
    assert len(await stack.ledger()) == rows + 1
    assert {name: stack.process(name).pid for name in SERVICES} == pids


async def settled_rows(stack: RunningStack) -> int:
    """Returns the number of rows in the ledger once the router has sent all it had: it sends them in order."""
    async with stack.client(TENANT_KEY) as client:
        result = await client.generate("Describe a mug.", timeout=20)
    rows = await stack.settled_ledger(result.request_id, lambda found: len(found) == 1)
    assert rows
    for name in PROVIDERS:
        await stack.simulator.reset(name)
    return len(await stack.ledger())


async def refused(
    stack: RunningStack, method: str, generation: pb.Generation, key: str = TENANT_KEY, timeout: float = 20.0
) -> PointsmanError:
    """Returns the error that a method of the router answers to a generation. Fails where it accepts it."""
    async with connect(stack.addresses["router"]) as channel:
        stub = router_pb2_grpc.RouterStub(channel)
        request = getattr(pb, f"{method}Request")(generation=generation)
        answer = getattr(stub, method)(request, timeout=timeout, metadata=metadata(key))
        try:
            if method == "StreamGenerate":
                async for _ in answer:
                    pass
            else:
                await answer
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
    raise AssertionError(f"{method} accepted {str(generation)[:200]}")


@dataclass(frozen=True, slots=True)
class Bad:
    """A change that spoils a request, and the field that must be named."""

    name: str
    change: Change
    field: str


def setting(**fields: Any) -> Change:
    """Sets scalar fields; a message is merged."""
    return lambda generation: generation.MergeFrom(pb.Generation(**fields))


def saying(*messages: pb.Message) -> Change:
    """Another conversation."""

    def change(generation: pb.Generation) -> None:
        del generation.messages[:]
        generation.messages.extend(messages)

    return change


def shaped(schema: str, name: str = "") -> Change:
    """A wish for JSON."""
    kind = pb.ResponseFormat.KIND_JSON_SCHEMA
    return setting(response_format=pb.ResponseFormat(kind=kind, schema_json=schema, schema_name=name))


def offering(*tools: pb.Tool, choice: str = "") -> Change:
    """Tools."""
    return setting(tools=tools, tool_choice=choice)


NAN, INF = float("nan"), float("inf")
CALL = pb.ToolCall(id="c1", name="look_up", arguments_json='{"sku": 1}')
BAD = [
    Bad("no message", saying(), "generation.messages"),
    Bad("an empty prompt", saying(user("")), "generation.messages[0].text"),
    Bad("a blank prompt", saying(user(" \n\t\u00a0\u3000")), "generation.messages[0].text"),
    Bad("10 MB", saying(user("word " * 2_000_000)), "generation.messages"),
    Bad("10 MB in two parts", saying(user("é" * 2_500_000), user("é" * 2_500_000)), "generation.messages"),
    Bad("1001 messages", saying(*[user("hi")] * 1001), "generation.messages"),
    Bad("no role", saying(pb.Message(text="hi")), "generation.messages[0].role"),
    Bad("a role from the future", saying(pb.Message(role=99, text="hi")), "generation.messages[0].role"),  # type: ignore[arg-type]
    Bad(
        "a tool's answer to nothing",
        saying(user("hi"), pb.Message(role=pb.ROLE_TOOL, text="42")),
        "generation.messages[1].tool_call_id",
    ),
    Bad(
        "a user who calls tools",
        saying(pb.Message(role=pb.ROLE_USER, text="hi", tool_calls=[CALL])),
        "generation.messages[0].tool_calls",
    ),
    Bad("an unknown content type", setting(content_type="poem"), "generation.content_type"),
    Bad("a content type with NUL", setting(content_type="general\0"), "generation.content_type"),
    Bad("a negative output limit", setting(max_output_tokens=-1), "generation.max_output_tokens"),
    Bad("an output limit of zero", setting(max_output_tokens=0), "generation.max_output_tokens"),
    Bad("a huge output limit", setting(max_output_tokens=2**31 - 1), "generation.max_output_tokens"),
    Bad("negative attempts", setting(max_attempts=-1), "generation.max_attempts"),
    Bad("no attempts", setting(max_attempts=0), "generation.max_attempts"),
    Bad("too many attempts", setting(max_attempts=11), "generation.max_attempts"),
    Bad("a cost of zero", setting(max_cost=types_pb2.Money()), "generation.max_cost"),
    Bad("a negative cost", setting(max_cost=types_pb2.Money(micro_usd=-5)), "generation.max_cost"),
    Bad("temperature NaN", setting(temperature=NAN), "generation.temperature"),
    Bad("temperature infinite", setting(temperature=INF), "generation.temperature"),
    Bad("temperature negative", setting(temperature=-0.1), "generation.temperature"),
    Bad("top_p zero", setting(top_p=0.0), "generation.top_p"),
    Bad("top_p NaN", setting(top_p=NAN), "generation.top_p"),
    Bad("presence penalty", setting(presence_penalty=2.5), "generation.presence_penalty"),
    Bad("frequency penalty NaN", setting(frequency_penalty=NAN), "generation.frequency_penalty"),
    Bad("nine stop sequences", setting(stop_sequences=list("abcdefghi")), "generation.stop_sequences"),
    Bad("an empty stop sequence", setting(stop_sequences=["a", ""]), "generation.stop_sequences"),
    Bad("17 labels", setting(labels={str(i): "x" for i in range(17)}), "generation.labels"),
    Bad("NUL in a label", setting(labels={"team": "a\0b"}), "generation.labels"),
    Bad("NUL in a label's name", setting(labels={"te\0am": "ab"}), "generation.labels"),
    Bad("a label without a name", setting(labels={"": "x"}), "generation.labels"),
    Bad("a long label", setting(labels={"team": "x" * 129}), "generation.labels"),
    Bad("NUL in the request id", setting(request_id="a\0b"), "generation.request_id"),
    Bad("a long request id", setting(request_id="x" * 129), "generation.request_id"),
    Bad("NUL in the campaign", setting(campaign="\0"), "generation.campaign"),
    Bad("an unknown model", setting(models=["openai/gpt-99"]), "generation.models[0]"),
    Bad("an empty model name", setting(models=["openai/gpt-4.1-mini", ""]), "generation.models[1]"),
    Bad("21 models", setting(models=["openai/gpt-4.1-mini"] * 21), "generation.models"),
    Bad("a schema that is not JSON", shaped("{oops"), "generation.response_format.schema_json"),
    Bad("a schema that is a list", shaped("[]"), "generation.response_format.schema_json"),
    Bad("a schema without end", shaped('{"a":' * 100_000), "generation.response_format.schema_json"),
    Bad("no schema", shaped(""), "generation.response_format.schema_json"),
    Bad("a long schema name", shaped("{}", "n" * 65), "generation.response_format.schema_name"),
    Bad("a tool without a name", offering(pb.Tool()), "generation.tools[0].name"),
    Bad(
        "a tool's parameters that are not JSON",
        offering(pb.Tool(name="f", parameters_json="no")),
        "generation.tools[0].parameters_json",
    ),
    Bad("129 tools", offering(*[pb.Tool(name=f"f{i}") for i in range(129)]), "generation.tools"),
    Bad("the same tool twice", offering(pb.Tool(name="f"), pb.Tool(name="f")), "generation.tools[1].name"),
    Bad("an unknown tool", offering(pb.Tool(name="f"), choice="g"), "generation.tool_choice"),
    Bad("a choice without tools", offering(choice="required"), "generation.tool_choice"),
]


BEARER = (b"authorization", f"Bearer {TENANT_KEY}".encode())
#: Header name, value, the statuses that will do.
METADATA = [
    # The only header that this project reads as text.
    (b"authorization", b"Bearer \xff\xfe\x80", {3}),
    (b"authorization", b"\xc3\x28", {3}),
    (b"authorization", b"Bearer " + b"k" * 9000, {3, 8}),
    # Refused by gRPC itself.
    (b"x-no\xffte", b"v", {13}),
    (b"grpc-timeout", b"\xff\xffS", {13}),
    (b"grpc-timeout", b"-5S", {13}),
    (b"x-note-bin", b"!!!", {13}),
    # Not looked at: as good as absent, also for traces.
    (b"x-note", b"\xff\xfe\x80", {0}),
    (b"x-note", b"a\x00b\r\nc", {0, 13}),
    (b"traceparent", b"\xff\xfe\x80", {0}),
    (b"traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", {0}),
    (b"tracestate", b"\xff=\xfe", {0}),
]


async def test_every_wrong_field_is_named(shared: Shared) -> None:
    """INVALID_ARGUMENT with ErrorInfo and a BadRequest that names the field, whichever method is called."""
    wrong = []
    for bad in BAD:
        for method in METHODS:
            generation = good()
            bad.change(generation)
            try:
                error = await refused(shared.stack, method, generation)
            except AssertionError:
                wrong.append(f"{bad.name}: {method} accepted it")
                continue
            named = [v.field for v in error.violations] if isinstance(error, InvalidArgument) else []
            if bad.field not in named or error.reason.startswith("TRANSPORT"):
                wrong.append(f"{bad.name}: {method} says {type(error).__name__} {error.reason} {named}")
    print(f"{len(BAD)} bad requests to {len(METHODS)} methods")
    assert not wrong, "\n".join(wrong)


async def test_all_faults_are_named_at_once(shared: Shared) -> None:
    """A caller need not find them one by one."""
    generation = pb.Generation(max_output_tokens=-1, temperature=NAN, content_type="poem", labels={"": "x"})
    error = await refused(shared.stack, "Generate", generation)
    assert isinstance(error, InvalidArgument)
    assert {v.field.removeprefix("generation.") for v in error.violations} >= {
        "messages",
        "max_output_tokens",
        "temperature",
        "content_type",
        "labels",
    }


async def test_a_caller_without_a_known_key_is_told_so(shared: Shared) -> None:
    """UNAUTHENTICATED, and which of the two it is; a header of another kind is a wrong request."""
    stack = shared.stack
    for method in METHODS:
        assert (await refused(stack, method, good(), key="")).reason == "KEY_REQUIRED"
        assert (await refused(stack, method, good(), key="tk-nobody")).reason == "KEY_UNKNOWN"
    message = pb.GenerateRequest(generation=good()).SerializeToString()
    for value in ("Basic dXNlcjpwdw==", "Bearer", "Bearer ", f"Bearer {'k' * 600}", TENANT_KEY):
        header = (b"authorization", value.encode())
        answer = await call(stack.addresses["router"], GENERATE, message, [header])
        assert (answer.code, answer.reason) == (3, "BAD_AUTHORIZATION"), (value, answer)


async def test_a_deadline_in_the_past_is_not_worked_on(shared: Shared) -> None:
    """DEADLINE_EXCEEDED, whether the client, the transport or the router notices."""
    for timeout in (-1.0, 0.0, 1e-9):
        error = await refused(shared.stack, "Generate", good(), timeout=timeout)
        assert type(error).__name__ == "DeadlineExceeded"
    message = pb.GenerateRequest(generation=good()).SerializeToString()
    for value in (b"0S", b"0n", b"1n"):
        answer = await call(
            shared.stack.addresses["router"], GENERATE, message, [BEARER, (b"grpc-timeout", value)]
        )
        assert answer.code == 4, answer


async def test_metadata_that_is_not_text_hurts_nobody(shared: Shared) -> None:
    """Sent as raw HTTP/2, since gRPC's own client refuses to. Dry run: nothing is charged where it is accepted."""
    message = pb.SelectProviderRequest(generation=good()).SerializeToString()
    path = "/pointsman.router.v1.Router/SelectProvider"
    wrong = []
    for name, value, codes in METADATA:
        headers = [(name, value)] + ([BEARER] if name != b"authorization" else [])
        answer = await call(shared.stack.addresses["router"], path, message, headers)
        details = answer.reason == "BAD_AUTHORIZATION" or answer.code != 3
        if answer.code not in codes or not details:
            wrong.append(f"{name!r}: {value[:20]!r}: {answer}")
    assert not wrong, "\n".join(wrong)


async def test_bytes_that_are_no_message_are_a_wrong_request(shared: Shared) -> None:
    """INVALID_ARGUMENT with details, not the runtime's UNKNOWN with a class name."""
    sound = pb.GenerateRequest(generation=good()).SerializeToString()
    for message in (sound.replace(b"blue", b"\xff\xfe\xfd\xfc"), b"\x0a\xff", b"\xff" * 64):
        for method in METHODS:
            path = f"/pointsman.router.v1.Router/{method}"
            answer = await call(shared.stack.addresses["router"], path, message, [BEARER])
            assert (answer.code, answer.reason) == (3, "BAD_MESSAGE"), answer
            assert b"google" not in answer.headers["grpc-message"]


async def test_a_prompt_beyond_what_the_transport_takes_is_refused(shared: Shared) -> None:
    """40 MB, and what is just beyond the router's own bound, whatever else its server serves: gRPC refuses it before
    it is held in memory."""
    for size in (REQUEST_BOUNDS.message_bytes + TOLD, 40_000_000):
        generation = good()
        generation.messages[0].text = "word " * (size // 5)
        error = await refused(shared.stack, "Generate", generation)
        assert type(error).__name__ == "ResourceExhausted"


LIMIT = ratelimit_pb2.Limit(
    scope="tenant:demo",
    unit=ratelimit_pb2.UNIT_REQUESTS,
    period=ratelimit_pb2.PERIOD_MINUTE,
    limit=-1,
)
FUTURE = Timestamp(seconds=2**62)


async def test_the_services_inside_refuse_nonsense_too(shared: Shared) -> None:
    """Negative limits and amounts, unknown providers, impossible times: INVALID_ARGUMENT or NOT_FOUND with details.
    Without the service token, nothing at all."""
    token = shared.stack.addresses["service_token"]
    async with AsyncExitStack() as stack:
        channels = {
            name: await stack.enter_async_context(connect(shared.stack.addresses[name]))
            for name in ("ratelimit", "health", "analytics")
        }
        limiter = ratelimit_pb2_grpc.RateLimiterStub(channels["ratelimit"])
        health = health_pb2_grpc.ProviderHealthStub(channels["health"])
        analytics = analytics_pb2_grpc.AnalyticsStub(channels["analytics"])
        amounts = ratelimit_pb2.Amounts
        reserve = ratelimit_pb2.ReserveRequest
        calls: list[tuple[Any, Any]] = [
            (limiter.SetLimit, ratelimit_pb2.SetLimitRequest(limit=LIMIT, actor="test")),
            (limiter.SetLimit, ratelimit_pb2.SetLimitRequest()),
            (limiter.Reserve, reserve()),
            (
                limiter.Reserve,
                reserve(
                    reservation_id="r", holder_id="h", scopes=["tenant:demo"], amounts=amounts(requests=-1)
                ),
            ),
            (
                limiter.Reserve,
                reserve(reservation_id="r", holder_id="h", scopes=["no\0"], amounts=amounts(requests=1)),
            ),
            (limiter.Settle, ratelimit_pb2.SettleRequest(reservation_id="nobody's", holder_id="h")),
            (limiter.ListQuotas, ratelimit_pb2.ListQuotasRequest(page_size=-1)),
            (limiter.ListQuotas, ratelimit_pb2.ListQuotasRequest(page_token="\0nonsense")),
            (limiter.ForecastExhaustion, ratelimit_pb2.ForecastExhaustionRequest()),
            (health.SetProviderMode, health_pb2.SetProviderModeRequest(provider="nobody")),
            (health.TestProvider, health_pb2.TestProviderRequest(provider="nobody")),
            (
                health.TriggerFailover,
                health_pb2.TriggerFailoverRequest(provider="openai", duration={"seconds": -5}),
            ),
            (health.AcquireProbe, health_pb2.AcquireProbeRequest()),
            (analytics.GetCosts, analytics_pb2.GetCostsRequest(query={"time_zone": "Middle/Earth"})),
            (analytics.GetCosts, analytics_pb2.GetCostsRequest(query={"from_time": FUTURE})),
            (analytics.GetPerformance, analytics_pb2.GetPerformanceRequest(query={"group_by": [99]})),
            (analytics.GetForecast, analytics_pb2.GetForecastRequest(time_zone="Middle/Earth")),
            (analytics.GetForecast, analytics_pb2.GetForecastRequest(until=FUTURE)),
            (analytics.GetForecast, analytics_pb2.GetForecastRequest(what_if={"growth": -1})),
            (analytics.GetForecast, analytics_pb2.GetForecastRequest(limits=[{"scope": "tenant"}])),
            (analytics.GetReliability, analytics_pb2.GetReliabilityRequest(query={"interval": 99})),
        ]
        wrong = []
        for method, request in calls:
            for key, allowed in (
                (token, {"INVALID_ARGUMENT", "NOT_FOUND"}),
                ("", {"UNAUTHENTICATED"}),
                ("no", {"UNAUTHENTICATED"}),
            ):
                try:
                    await method(request, timeout=10, metadata=metadata(key))
                except grpc.aio.AioRpcError as error:
                    found = from_rpc_error(error)
                    if error.code().name in allowed and not found.reason.startswith("TRANSPORT"):
                        continue
                    said = f"{error.code().name} {found.reason} {found.message}"
                else:
                    said = "OK"
                wrong.append(f"{type(request).__name__} {request!s} key {bool(key)}: {said}")
    assert not wrong, "\n".join(wrong)
