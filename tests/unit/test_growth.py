"""The cost of a request grows with its size and no faster, and a field with too many entries costs nothing.

Every repeated field of every request message of the four services is found by the descriptors, so a new one is tried
as well. The work is counted in bytecodes: that is the same on any machine and whatever else runs there.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from types import FrameType
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from opentelemetry.trace import SpanKind
from pointsman.analytics.v1 import analytics_pb2
from pointsman.health.v1 import health_pb2
from pointsman.ratelimit.v1 import ratelimit_pb2
from pointsman.router.v1 import router_pb2

from libs.errors import InvalidArgument
from libs.ids import TimeOrderedIds
from libs.request_record import encode_request
from libs.rpc.identity import set_caller
from libs.telemetry import Metrics
from libs.tracing import Span, current, parent_of
from services.analytics.alerts.watch import AlertWatch
from services.analytics.api.servicer import AnalyticsServicer
from services.analytics.forecasts.forecaster import Forecaster
from services.analytics.ledger.recorder import Recorder
from services.analytics.summary.feed import SummaryFeed
from services.ratelimit.servicer import RateLimiterServicer
from services.router.api.entry import Entry
from services.router.api.heartbeat import Heartbeats
from services.router.api.servicer import RouterServicer
from tests.support.alerts import MemoryAlerts
from tests.support.changes import MemoryChanges
from tests.support.clock import ManualClock
from tests.support.forecasts import MemoryUseHistory
from tests.support.health import FakeHealthStore, Hub
from tests.support.health import Replica as HealthReplica
from tests.support.ledger import NOW, MemoryLedger
from tests.support.limiter import Replica as LimiterReplica
from tests.support.limits import OracleStore, limit
from tests.support.memory_rollups import MemoryRollups
from tests.support.recommendations import adviser
from tests.support.requests import sent_request
from tests.support.routing import TENANT, Harness, catalog, model

#: More entries than any field may have.
FAR_TOO_MANY = 10_000
#: Fields by name → a value that passes; `{}` is the entry's number. Others are told by their type.
VALUES: dict[str, object] = {
    "scope": "model:acme/{}",
    "scopes": "tenant:acme{}",
    "slice_id": "oracle.record{}.0",
    "holder_id": "router",
    "parameters_json": "{{}}",
    "arguments_json": "{{}}",
    "trace_id": "",
    "page_token": "",
    "time_zone": "UTC",
    "role": router_pb2.ROLE_USER,
    "confidence": 1.0,
    "probability": 1.0,
    "pointsman.analytics.v1.RecordUsageRequest.requests": encode_request(sent_request()),
    "pointsman.analytics.v1.QuotaAlert.unit": "requests",
    "pointsman.analytics.v1.QuotaAlert.period": "day",
    "pointsman.health.v1.TriggerFailoverRequest.provider": "acme",
    "pointsman.health.v1.TriggerFailoverRequest.model": "large",
    "pointsman.health.v1.TriggerFailoverRequest.to_provider": "zeta",
    "pointsman.health.v1.TriggerFailoverRequest.to_model": "one",
    "pointsman.health.v1.TriggerFailoverRequest.tenants": "north",
    "pointsman.health.v1.TriggerFailoverRequest.content_types": "general",
}
USER = router_pb2.Message(role=router_pb2.ROLE_USER, text="hello")


@dataclass(frozen=True, slots=True)
class Case:
    """A repeated field, by its place in the request of a method."""

    method: MethodDescriptor
    path: tuple[FieldDescriptor, ...]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.method.full_name}:{'.'.join(field.name for field in self.path)}"


def find(
    method: MethodDescriptor, message: Descriptor, path: tuple[FieldDescriptor, ...] = ()
) -> Iterator[Case]:
    """The repeated fields of a message and of those in it."""
    for field in message.fields:
        there = (*path, field)
        if field.is_repeated:
            yield Case(method, there)
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from find(method, field.message_type, there)


CASES = [
    case
    for file in (router_pb2, health_pb2, ratelimit_pb2, analytics_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    for case in find(method, method.input_type)
]


def value_of(field: Any, number: int) -> Any:
    """A value that passes, of a field that is no message."""
    known = VALUES.get(field.full_name, VALUES.get(field.name))
    if known is not None:
        return known.format(number) if isinstance(known, str) else known
    return f"x{number}" if field.type == FieldDescriptor.TYPE_STRING else 1


def fill(message: Message, number: int) -> None:
    """Sets every field that is not repeated, so that nothing is refused before the field in question is looked at."""
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated or field.containing_oneof is not None:
            continue
        if field.message_type is None:
            setattr(message, field.name, value_of(field, number))
        elif field.message_type.full_name == "google.protobuf.Timestamp":
            getattr(message, field.name).seconds = int(NOW) - (120 if field.name == "from_time" else 60)
        elif field.message_type.full_name == "google.protobuf.Duration":
            getattr(message, field.name).seconds = 1
        else:
            fill(getattr(message, field.name), number)


def build(case: Case, count: int) -> Message:
    """A request with so many entries in the field."""
    request: Message = GetMessageClass(case.method.input_type)()
    place = request
    if request.DESCRIPTOR.name != "LeaseRequest" and "generation" not in request.DESCRIPTOR.fields_by_name:
        fill(request, 0)
    for field in case.path[:-1]:
        place = getattr(place, field.name)
        if field.is_repeated:
            place = place.add()
            fill(place, 0)
    field = case.path[-1]
    if isinstance(place, router_pb2.Message):
        place.role = router_pb2.ROLE_ASSISTANT
    entries = getattr(place, field.name)
    if field.message_type is None:
        entries.extend([value_of(field, number) for number in range(count)])
    elif field.message_type.GetOptions().map_entry:
        entries.update({f"x{number}": "y" for number in range(count)})
    else:
        for number in range(count):
            fill(entries.add(), number)
    if isinstance(
        request, router_pb2.GenerateRequest | router_pb2.StreamGenerateRequest
    ) and "messages" not in {part.name for part in case.path}:
        request.generation.messages.append(USER)
    return request


class Context:
    """As much of a servicer's context as is looked at."""

    def time_remaining(self) -> float | None:
        return None


def servicer_of(case: Case) -> Any:
    """The service with fakes behind it."""
    clock = ManualClock(now=NOW)
    name = case.method.containing_service.name
    if name == "Router":
        h = Harness(
            catalog([model("a/m")]), {"a/m": ["fine"] if case.method.name == "Generate" else [["fine"]]}
        )
        return RouterServicer(
            Entry(lambda: h.catalog, h.generate, h.dry_run, h.clock, str), h.set_aside, Heartbeats(0.0)
        )
    if name == "ProviderHealth":
        return HealthReplica(clock, FakeHealthStore(Hub(clock), "a")).servicer()
    if name == "RateLimiter":
        store = OracleStore(lambda: round(clock.now() * 1000))
        replica = LimiterReplica(store, [limit("requests", "minute", 10**6)], clock=clock)
        return RateLimiterServicer(replica.reservations, replica.quotas, replica.session)
    alerts, ledger, metrics = MemoryAlerts(), MemoryLedger(), Metrics()

    async def no_alerts(now: float) -> int:
        return 0

    return AnalyticsServicer(
        Recorder(ledger, clock, metrics),
        ledger,
        ledger,
        SummaryFeed(ledger, no_alerts, "UTC", clock, metrics),
        alerts,
        AlertWatch(alerts, clock, Metrics()),
        MemoryLedger(),
        Forecaster(MemoryUseHistory()),
        adviser(clock),
        MemoryRollups(),
        MemoryChanges(),
        clock,
        TimeOrderedIds(Random(1)),
    )


async def call(case: Case, request: Message) -> None:
    """Calls the method, a stream's with this message alone. Raises what it raises."""
    set_caller(TENANT.name)
    current.set(Span("test", SpanKind.SERVER, parent_of("")))
    method = getattr(servicer_of(case), case.method.name)

    async def said() -> AsyncIterator[Message]:
        if case.method.name == "Lease":
            yield ratelimit_pb2.LeaseRequest(open=ratelimit_pb2.LeaseOpen(holder_id="router"))
        yield request

    answer = method(said() if case.method.client_streaming else request, Context())
    if not case.method.server_streaming:
        await answer
        return
    async for response in answer:
        # What an event is refused for is told in the answer to its batch.
        if isinstance(response, analytics_pb2.RecordUsageResponse) and response.rejected:
            assert [told.reason for told in response.rejected] == ["labels must have at most 32 entries"]
            raise InvalidArgument([])


def count_bytecodes(run: Callable[[], Coroutine[Any, Any, None]]) -> tuple[int, bool]:
    """Returns the number of bytecodes executed, and True if the call is refused as INVALID_ARGUMENT."""
    count = 0

    def step(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "opcode"
        return step

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return step

    async def traced() -> bool:
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            await run()
        except InvalidArgument:
            return True
        finally:
            sys.settrace(before)
        return False

    refused = asyncio.run(traced())
    return count, refused


def work(case: Case, count: int) -> tuple[int, bool]:
    """Of a request with so many entries; `build` does not count."""
    request = build(case, count)
    return count_bytecodes(lambda: call(case, request))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_work_grows_no_faster_than_the_request(case: Case) -> None:
    """Twice as many entries cost at most a little more than twice as much."""
    costs = [work(case, 2**power)[0] for power in range(9, 12)]
    for once, twice in pairwise(costs):
        assert twice < 2.1 * once, costs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_too_many_entries_are_refused_before_they_are_read(case: Case) -> None:
    """Far too many entries cost as much as twice as many: they are counted, not converted."""
    once, refused = work(case, FAR_TOO_MANY)
    assert refused
    twice, refused = work(case, 2 * FAR_TOO_MANY)
    assert refused
    assert twice < once + FAR_TOO_MANY // 10, (once, twice)


def names(cases: Sequence[Case]) -> set[str]:
    return {case.path[-1].full_name for case in cases}


def test_the_fields_that_were_attacked_are_among_them() -> None:
    """The descriptors are read right: fields at the top, in lists, in maps and in oneofs are found."""
    assert names(CASES) >= {
        "pointsman.router.v1.Generation.tools",
        "pointsman.router.v1.Message.tool_calls",
        "pointsman.router.v1.Generation.labels",
        "pointsman.ratelimit.v1.LeaseReport.slices",
        "pointsman.analytics.v1.UsageEvent.labels",
        "pointsman.health.v1.OutcomeSummary.failures",
    }
