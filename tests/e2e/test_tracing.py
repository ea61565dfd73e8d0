"""One trace from the caller through the router to every provider attempt, logs that can be found by it, and no key
and no prompt in any of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from pointsman.ratelimit.v1 import ratelimit_pb2, ratelimit_pb2_grpc
from pointsman.router.v1 import router_pb2 as pb

from libs.client import Client
from libs.errors import PointsmanError
from libs.rpc.channel import connect, metadata
from tests.e2e.catalogs import ANTHROPIC_SECRET, OPENAI_SECRET, TENANT_KEY
from tests.e2e.conftest import Shared
from tests.support.http2 import call
from tests.support.load import one
from tests.support.otlp import Span

SERVER, CLIENT = 2, 3


@contextmanager
def caller(*, sampled: bool = True) -> Iterator[SpanContext]:
    """A span of the calling program, current for the length of the block."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    context = SpanContext(secrets.randbits(128) | 1, secrets.randbits(64) | 1, False, flags)
    token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(context)))
    try:
        yield context
    finally:
        otel_context.detach(token)


def overloaded(times: int = 1) -> list[dict[str, object]]:
    return [{"kind": "status", "preset": "overloaded", "when": {"first": times}}]


async def first_choice(client: Client) -> str:
    """The provider that a call would go to now: what earlier tests did to one may have put it behind another."""
    return (await client.select("Describe a lamp.", timeout=20)).selection.provider


def attempts_of(spans: list[Span]) -> list[Span]:
    """The provider attempts of a trace, in order."""
    return [span for span in spans if span.kind == CLIENT and span.name.startswith("chat ")]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_failover_is_one_trace(shared: Shared, streamed: bool) -> None:
    """The router's span is the caller's child, each attempt the router's; a failed attempt says how it failed, and
    the ledger's rows name the trace."""
    faults: list[dict[str, object]] = [{"kind": "cut", "after_tokens": 10}] if streamed else overloaded()
    with caller() as mine:
        async with shared.client() as client:
            await shared.stack.simulator.set(await first_choice(client), faults=faults)
            result = await one(client, "Describe a lamp.", f"traced-{streamed}", streamed=streamed)
    trace_id = f"{mine.trace_id:032x}"
    method = "StreamGenerate" if streamed else "Generate"
    spans = await shared.collector.wait_for(
        trace_id, lambda found: any(span.name.endswith(f"/{method}") for span in found) and len(found) >= 3
    )
    server = next(span for span in spans if span.name.endswith(f"/{method}"))
    assert server.kind == SERVER
    assert server.service == "pointsman-router"
    assert server.name == f"pointsman.router.v1.Router/{method}"
    assert server.parent_id == f"{mine.span_id:016x}"
    assert server.attributes["rpc.system.name"] == "grpc"
    assert server.attributes["rpc.method"] == server.name
    assert server.attributes["rpc.response.status_code"] == "OK"
    assert server.attributes["pointsman.request.id"] == result.request_id
    assert server.attributes["pointsman.tenant"] == "demo"
    assert server.attributes["gen_ai.usage.output_tokens"] == result.usage.output_tokens
    assert server.attributes["pointsman.cost.micro_usd"] == result.cost_micro_usd
    assert not server.failed

    attempts = attempts_of(spans)
    assert [span.parent_id for span in attempts] == [server.span_id] * len(result.attempts)
    assert len(attempts) == len(result.attempts) >= 2
    for number, (span, attempt) in enumerate(zip(attempts, result.attempts, strict=True), 1):
        assert span.name == f"chat {attempt.model}"
        assert span.attributes["gen_ai.operation.name"] == "chat"
        assert span.attributes["gen_ai.provider.name"] == attempt.provider
        assert span.attributes["gen_ai.request.model"] == attempt.model
        assert span.attributes["pointsman.attempt.number"] == number
        assert span.attributes.get("error.type") == attempt.error_class
        assert span.failed == (attempt.error_class is not None)
        assert server.start <= span.start <= span.end <= server.end
    rows = await shared.stack.settled_ledger(result.request_id, lambda found: len(found) == len(attempts))
    assert {row["trace_id"] for row in rows} == {trace_id}


async def test_a_wait_for_the_limiter_is_in_the_trace(shared: Shared) -> None:
    """A request whose scopes nothing is leased for yet waits for the limiter: the wait is a child of the router's
    span, and the limiter's work is a child of the wait."""
    with caller() as mine:
        async with shared.client() as client:
            await client.generate("Describe a lamp.", campaign=f"new-{secrets.token_hex(4)}", timeout=20)
    spans = await shared.collector.wait_for(
        f"{mine.trace_id:032x}",
        lambda found: (
            {"pointsman-router", "pointsman-ratelimit"} <= {span.service for span in found}
            and any(span.name.endswith("/Generate") for span in found)
        ),
    )
    server = next(span for span in spans if span.name.endswith("Router/Generate"))
    wait = next(span for span in spans if span.name == "admission")
    limiter = next(span for span in spans if span.service == "pointsman-ratelimit")
    assert wait.parent_id == server.span_id
    assert (limiter.name, limiter.parent_id) == ("pointsman.ratelimit.v1.RateLimiter/Lease", wait.span_id)


async def test_a_caller_that_does_not_sample_is_followed(shared: Shared) -> None:
    """Its trace id is kept in the ledger, but nothing is exported."""
    async with shared.client() as client:
        with caller(sampled=False) as silent:
            result = await client.generate("Describe a lamp.", request_id="unsampled", timeout=20)
        with caller() as loud:
            await client.generate("Describe a lamp.", request_id="sampled", timeout=20)
    # What came later is there, so what came before would be.
    await shared.collector.wait_for(f"{loud.trace_id:032x}", lambda found: len(found) >= 2)
    assert shared.collector.trace(f"{silent.trace_id:032x}") == []
    rows = await shared.stack.settled_ledger(result.request_id, lambda found: len(found) == 1)
    assert [row["trace_id"] for row in rows] == [f"{silent.trace_id:032x}"]


async def test_a_refused_call_is_a_failed_span(shared: Shared) -> None:
    """Its status and reason are on the router's span, and there is no attempt."""
    with caller() as mine:
        async with shared.client() as client:
            with pytest.raises(PointsmanError):
                await client.generate("Describe a lamp.", content_type="poem", timeout=20)
    spans = await shared.collector.wait_for(f"{mine.trace_id:032x}", lambda found: len(found) >= 1)
    assert [(s.attributes["rpc.response.status_code"], s.attributes["error.type"]) for s in spans] == [
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT")
    ]


async def test_log_lines_of_a_call_name_its_trace(shared: Shared) -> None:
    """Every log is JSON lines; what is logged while serving a call carries the ids of its span."""
    stack = shared.stack
    limit = ratelimit_pb2.Limit(
        scope="tenant:nobody",
        unit=ratelimit_pb2.UNIT_REQUESTS,
        period=ratelimit_pb2.PERIOD_MINUTE,
        limit=5,
    )
    with caller() as mine:
        async with connect(stack.addresses["ratelimit"]) as channel:
            stub = ratelimit_pb2_grpc.RateLimiterStub(channel)
            sent = metadata(stack.addresses["service_token"])
            await stub.SetLimit(
                ratelimit_pb2.SetLimitRequest(limit=limit, actor="test"), timeout=10, metadata=sent
            )
            await stub.SetLimit(
                ratelimit_pb2.SetLimitRequest(limit=limit, remove=True, actor="test"),
                timeout=10,
                metadata=sent,
            )
    trace_id = f"{mine.trace_id:032x}"
    spans = await shared.collector.wait_for(trace_id, lambda found: len(found) == 2)
    said = [line for line in log_lines(stack.data / "logs" / "ratelimit.log") if line["event"] == "limit_set"]
    ours = [line for line in said if line.get("trace_id") == trace_id]
    assert [line["span_id"] for line in ours] == [span.span_id for span in spans]
    assert {span.parent_id for span in spans} == {f"{mine.span_id:016x}"}
    for name in ("router", "health", "ratelimit", "analytics"):
        for line in log_lines(stack.data / "logs" / f"{name}.log"):
            assert {"event", "level", "timestamp", "service"} <= set(line)


def log_lines(path: Path) -> list[dict[str, str]]:
    """A service's log. gRPC's core, which is no Python, writes lines of its own about broken input."""
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if not line.startswith(("E1", "W1", "I1", "E0", "W0", "I0"))]


async def test_no_key_and_no_prompt_is_exported_logged_or_stored(shared: Shared) -> None:
    """Marked prompts and all keys are looked for, as they are, in everything that was exported, in every log and in
    the files of Valkey, PostgreSQL and the spool: after answers, failovers, a provider that repeats key and prompt in
    its error, and refused input of every kind."""
    stack = shared.stack
    mark = f"canary{secrets.token_hex(8)}"
    stranger = f"tk-stranger-{secrets.token_hex(8)}"
    echo = {"error": {"message": f"Incorrect API key provided: {OPENAI_SECRET}. The prompt was {mark}"}}
    async with shared.client() as client:
        await ask_every_way(client, mark)
        refusal = [{"kind": "status", "status": 401, "body": echo}]
        await stack.simulator.set(await first_choice(client), faults=refusal)
        result = await client.generate(f"Describe {mark}.", timeout=20)
        assert result.attempts[0].error_class == "authentication"
        await stack.simulator.set(await first_choice(client), faults=[{"kind": "cut", "after_tokens": 5}])
        await one(client, f"Describe {mark}.", "canary-cut", streamed=True)
        for options in ({"content_type": "poem"}, {"max_attempts": -1}, {"models": ["nobody/none"]}):
            with pytest.raises(PointsmanError):
                await client.generate(f"Describe {mark}.", timeout=20, **options)
        with pytest.raises(PointsmanError):
            await client.generate(f"{mark} " * 500_000, timeout=20)
        await client.generate("the last one", request_id="canary-last", timeout=20)
    async with stack.client(stranger) as client:
        with pytest.raises(PointsmanError):
            await client.generate(f"Describe {mark}.", timeout=20)
    await send_broken(stack.addresses["router"], mark, stranger)
    await stack.settled_ledger("canary-last", lambda found: len(found) >= 1)

    with caller() as mine:
        async with shared.client() as client:
            await client.generate("Describe a lamp.", timeout=20)
    await shared.collector.wait_for(f"{mine.trace_id:032x}", lambda found: len(found) >= 2)
    exported = b"".join(shared.collector.raw)
    needles = [s.encode() for s in (mark, stranger, OPENAI_SECRET, ANTHROPIC_SECRET, TENANT_KEY)]
    assert len(shared.collector.spans) > 10
    assert [needle for needle in needles if needle in exported] == []
    found = {
        str(path.relative_to(stack.data.parent)): needle.decode()
        for path in kept_files(stack.data)
        for needle in needles
        if needle in path.read_bytes()
    }
    assert found == {}
    rows = "\n".join(str(dict(row)) for row in await stack.ledger())
    assert [needle for needle in needles if needle.decode() in rows] == []


async def ask_every_way(client: Client, mark: str) -> None:
    """Answers, whole and streamed, and dry runs."""
    await client.generate(f"Describe {mark}.", system=f"Never say {mark}.", timeout=20)
    await one(client, f"Describe {mark}.", f"canary-{secrets.token_hex(4)}", streamed=True)
    await client.select(f"Describe {mark}.", timeout=20)
    await client.estimate(f"Describe {mark}.", timeout=20)


async def send_broken(address: str, mark: str, stranger: str) -> None:
    """Bytes that are no message and headers that are no text, with what must not be kept in them."""
    message = pb.GenerateRequest(
        generation=pb.Generation(messages=[pb.Message(role=pb.ROLE_USER, text=mark)])
    ).SerializeToString()
    for headers, body in (
        (
            [(b"authorization", f"Bearer {TENANT_KEY}".encode())],
            message.replace(mark[:2].encode(), b"\xff\xfe"),
        ),
        ([(b"authorization", b"Bearer \xff" + stranger.encode())], message),
        ([(b"authorization", b"Basic " + stranger.encode())], message),
        ([(b"x-note-bin", b"!" + stranger.encode())], message),
    ):
        with suppress(ConnectionError):
            await call(address, "/pointsman.router.v1.Router/Generate", body, headers)


def kept_files(data: Path) -> list[Path]:
    """Everything that the stack keeps, and what it printed; not the files whose purpose is to hold a key."""
    private = {"stack.json", "tenant_key", "service_token", "password", "anthropic.key"}
    return [path for path in data.parent.rglob("*") if path.is_file() and path.name not in private]
