"""The command line as a process of its own, against a router on a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from pointsman.health.v1 import health_pb2, health_pb2_grpc
from pointsman.ratelimit.v1 import ratelimit_pb2, ratelimit_pb2_grpc
from pointsman.router.v1 import router_pb2 as pb
from pointsman.types.v1 import types_pb2

from libs.errors import QuotaViolation, ResourceExhausted
from libs.rpc.convert import duration_to_proto
from libs.rpc.server import Registration
from tests.support.names import limit_key
from tests.support.pictures import pdf, png
from tests.support.process import spawn
from tests.support.router import KEY, FakeRouter, fake_router, result, selection, serve

ROOT = Path(__file__).parents[2]
CODE = "from cli.app import main; raise SystemExit(main())"
#: Runs several commands in one process, and prints the exit status and the output of each: a process takes as long to
#: start as ten commands run.
SEVERAL = """
import contextlib, io, json, sys
from cli.app import main
ended = []
for arguments in json.loads(sys.argv[1]):
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    ended.append([code, *(text.buffer.getvalue().decode() for text in (out, err))])
print(json.dumps(ended))
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a command: its exit status and its output."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON value and nothing else."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The one JSON object on standard error."""
        shown = json.loads(self.err)
        assert shown["exit_code"] == self.code
        error: dict[str, Any] = shown["error"]
        return error


async def start(
    cwd: Path, *arguments: str, code: str = CODE, **environment: str
) -> asyncio.subprocess.Process:
    """The command, with no settings but these."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("POINTSMAN_", "OTEL_", "GRPC_"))}
    return await spawn(
        sys.executable,
        "-c",
        code,
        *arguments,
        cwd=cwd,
        env=clean | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}"} | environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process, stdin: bytes = b"") -> Ended:
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def several(cwd: Path, *commands: Sequence[str], **environment: str) -> list[Ended]:
    """The ends of commands that ran one after the other in one process, with nothing on standard input."""
    ended = await end(await start(cwd, json.dumps(commands), code=SEVERAL, **environment))
    assert ended.code == 0, ended.err
    return [Ended(*each) for each in ended.json]


class Shell:
    """Runs commands in a directory against one router."""

    def __init__(self, cwd: Path, router: FakeRouter) -> None:
        self.cwd = cwd
        self.environment = {"POINTSMAN_ROUTER": router.address, "POINTSMAN_KEY": KEY}

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> Ended:
        return await end(await start(self.cwd, *arguments, **self.environment), stdin)

    def write(self, name: str, *rows: object) -> Path:
        path = self.cwd / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.cwd / name).read_bytes().splitlines()]


@pytest.fixture
async def router() -> AsyncIterator[FakeRouter]:
    async with fake_router() as running:
        yield running


@pytest.fixture
def shell(tmp_path: Path, router: FakeRouter) -> Shell:
    return Shell(tmp_path, router)


async def test_one_prompt_for_a_person(shell: Shell, router: FakeRouter) -> None:
    """Text, provider, reason, attempts, latency, tokens and cost; options arrive at the router."""
    ended = await shell(
        "generate", "a mug", "--content-type", "blog", "--max-cost", "0.01", "--model", "alpha/small"
    )
    assert ended.code == 0, ended.err
    for text in (
        "About: a mug",
        "alpha / small",
        "cost — cheapest of 2",
        "250 ms",
        "10 in, 20 out",
        "$0.000050",
    ):
        assert text in ended.out
    (request,) = router.requests
    assert (request.content_type, request.max_cost.micro_usd, list(request.models)) == (
        "blog",
        10_000,
        ["alpha/small"],
    )


async def test_images_and_files_go_with_the_prompt(shell: Shell, router: FakeRouter, tmp_path: Path) -> None:
    """Files by their bytes, addresses as they are, the prompt after them; what cannot be read is not sent."""
    (tmp_path / "mug.png").write_bytes(png())
    (tmp_path / "a b.pdf").write_bytes(pdf())
    address = "https://a.example/b.jpg"
    options = ("--image", "mug.png", "--image", address, "--file", "a b.pdf")
    for command in ("generate", "select"):
        ended = await shell(command, "a mug", *options)
        assert ended.code == 0, ended.err
        first, second, third, fourth = router.requests[-1].messages[0].parts
        assert (first.image.data, second.image.url, fourth.text) == (png(), address, "a mug")
        assert (third.file.data, third.file.name) == (pdf(), "a b.pdf")
    (tmp_path / "empty.png").write_bytes(b"")
    for missing in ("none.png", "empty.png", "."):
        ended = await shell("generate", "a mug", "--image", missing)
        assert (ended.code, missing in ended.err) == (2, True)
    assert len(router.requests) == 2


async def test_rows_with_images(shell: Shell, router: FakeRouter, tmp_path: Path) -> None:
    """The named field of each row; a picture that is not there is found before anything is sent."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "mug.png").write_bytes(png())
    shell.write(
        "in.jsonl",
        {"name": "Mug", "picture": "pictures/mug.png"},
        {"prompt": "x", "picture": "https://a.example/b.jpg"},
    )
    batch = ("generate", "-i", "in.jsonl", "-o", "out.jsonl", "--image-field", "picture")
    ended = await shell(*batch, "--content-type", "alt_text")
    assert ended.code == 0, ended.err
    sent = {r.messages[0].parts[0].image.data or r.messages[0].parts[0].image.url for r in router.requests}
    assert sent == {png(), "https://a.example/b.jpg"}
    shell.write(
        "in.jsonl", {"prompt": "a", "picture": "none.png"}, {"prompt": "b"}, {"prompt": "c", "picture": 7}
    )
    ended = await shell(*batch)
    assert ended.code == 2
    assert all(f"line {line}:" in ended.err for line in (1, 2, 3))
    assert len(router.requests) == 2


async def test_one_prompt_as_json_from_standard_input(shell: Shell) -> None:
    """One object; its keys are a promise."""
    ended = await shell("generate", "--json", stdin="ein Häferl".encode())
    assert ended.code == 0, ended.err
    assert ended.json["text"] == "About: ein Häferl"
    assert ended.json["selection"]["provider"] == "alpha"
    assert set(ended.json) == {
        "request_id",
        "text",
        "selection",
        "attempts",
        "finish_reason",
        "tool_calls",
        "usage",
        "cost_micro_usd",
        "latency",
        "time_to_first_token",
        "degradation",
        "budgets",
        "limits",
        "cached",
        "reasoning",
        "refusal",
        "citations",
        "ignored",
    }


async def test_a_restarted_stream(shell: Shell, router: FakeRouter) -> None:
    """For a person the break is marked; as JSON the completed event holds the valid text alone."""

    async def stream(generation: pb.Generation) -> AsyncIterator[pb.StreamGenerateResponse]:
        yield pb.StreamGenerateResponse(selected=pb.Selected(request_id="r", selection=selection()))
        yield pb.StreamGenerateResponse(delta=pb.Delta(text="half"))
        yield pb.StreamGenerateResponse(
            restarted=pb.Restarted(from_provider="alpha", selection=selection("beta"))
        )
        yield pb.StreamGenerateResponse(delta=pb.Delta(text="whole"))
        yield pb.StreamGenerateResponse(completed=pb.Completed(result=result("r", "", failed=("alpha",))))

    router.stream = stream
    shown, parsed = await asyncio.gather(
        shell("generate", "x", "--stream"), shell("generate", "x", "--stream", "--json")
    )
    assert shown.code == 0
    assert "alpha failed; beta begins anew" in shown.out
    events = [json.loads(line) for line in parsed.out.splitlines()]
    assert [e["event"] for e in events] == ["selected", "delta", "restarted", "delta", "completed"]
    assert events[-1]["result"]["text"] == "whole"


async def test_a_failed_call(shell: Shell, router: FakeRouter) -> None:
    """Exit status 1, nothing on stdout, every detail on stderr, as words and as JSON."""

    async def answer(generation: pb.Generation) -> pb.Result:
        raise ResourceExhausted(
            "no room",
            [QuotaViolation(limit_key("tenant:acme requests minute"), "5 of 5")],
            reason="LIMIT",
            retry_after=12.0,
        )

    router.answer = answer
    shown, parsed = await asyncio.gather(shell("generate", "x"), shell("generate", "x", "--json"))
    assert (shown.code, shown.out, parsed.code, parsed.out) == (1, "", 1, "")
    for text in ("no room", "LIMIT", "12 s", "tenant:acme requests minute: 5 of 5"):
        assert text in shown.err
    assert (parsed.error["type"], parsed.error["reason"], parsed.error["retry_after"]) == (
        "ResourceExhausted",
        "LIMIT",
        12.0,
    )


async def test_ctrl_c_cancels_the_call(shell: Shell, router: FakeRouter) -> None:
    """Exit status 130 without a traceback, and the router's work ends."""

    async def answer(generation: pb.Generation) -> pb.Result:
        await asyncio.Event().wait()
        raise AssertionError

    router.answer = answer
    process = await start(shell.cwd, "generate", "x", **shell.environment)
    await router.until(lambda r: len(r.requests) == 1)
    process.send_signal(signal.SIGINT)
    ended = await end(process)
    assert ended.code == 130
    assert "Traceback" not in ended.err
    await router.until(lambda r: len(r.cancelled) == 1)


async def test_select(shell: Shell) -> None:
    """The dry run, for a person and as JSON."""
    shown, parsed = await asyncio.gather(shell("select", "x"), shell("select", "x", "--json"))
    assert (shown.code, parsed.code) == (0, 0)
    assert "circuit" in shown.out
    assert parsed.json["selection"]["provider"] == "alpha"
    assert [a["excluded_because"] for a in parsed.json["alternatives"]] == ["", "circuit open"]


async def test_products_to_descriptions(shell: Shell, router: FakeRouter) -> None:
    """Product and prompt rows, one line each; the closing figures add up; a second run has nothing to do."""

    async def answer(generation: pb.Generation) -> pb.Result:
        failed = ("beta",) if "Mug" in generation.messages[0].text else ()
        return result(generation.request_id, "Fine.", failed)

    router.answer = answer
    shell.write(
        "in.jsonl", {"id": "a", "name": {"en-US": "Mug"}}, {"id": "a", "prompt": "hello"}, {"prompt": "x"}
    )
    ended = await shell("generate", "-i", "in.jsonl", "-o", "out.jsonl", "--json")
    assert ended.code == 0, ended.err
    figures = ended.json
    assert (figures["rows"], figures["succeeded"], figures["failed"], figures["failovers"]) == (3, 3, 0, 1)
    assert (figures["cost_micro_usd"], figures["input_tokens"], figures["output_tokens"]) == (150, 30, 60)
    assert figures["providers"]["beta"] == {
        "answered": 0,
        "failed_attempts": 1,
        "input_tokens": 0,
        "output_tokens": 0,
        "cost_micro_usd": 0,
    }
    lines = {line["index"]: line for line in shell.lines("out.jsonl")}
    assert {i: line["id"] for i, line in lines.items()} == {0: "a", 1: "a", 2: "2"}
    assert (lines[0]["attempts"], lines[0]["failed_attempts"][0]["error_class"]) == (2, "server_error")
    assert {r.priority for r in router.requests} == {types_pb2.PRIORITY_BULK}
    assert {r.content_type for r in router.requests} == {"product_description", ""}
    again = await shell("generate", "-i", "in.jsonl", "-o", "out.jsonl")
    assert again.code == 0
    assert "done before" in again.out
    assert len(router.requests) == 3


async def test_rows_that_fail_make_the_command_fail(shell: Shell, router: FakeRouter) -> None:
    """Exit status 1, the reason in the table and in the row; the next run tries them again."""
    full = True

    async def answer(generation: pb.Generation) -> pb.Result:
        if full and generation.messages[0].text == "bad":
            raise ResourceExhausted("never", reason="BUDGET")
        return result(generation.request_id, "x")

    router.answer = answer
    shell.write("in.jsonl", {"prompt": "good"}, {"prompt": "bad"})
    ended = await shell("generate", "-i", "in.jsonl", "-o", "out.jsonl")
    assert ended.code == 1
    assert "BUDGET" in ended.out
    assert {line["index"]: line["ok"] for line in shell.lines("out.jsonl")} == {0: True, 1: False}
    kept = await shell("generate", "-i", "in.jsonl", "-o", "out.jsonl", "--no-retry-failed")
    assert (kept.code, len(router.requests)) == (1, 2)
    full = False
    assert (await shell("generate", "-i", "in.jsonl", "-o", "out.jsonl")).code == 0
    assert sorted((line["index"], line["ok"]) for line in shell.lines("out.jsonl")) == [(0, True), (1, True)]


@pytest.mark.parametrize("killed", [False, True], ids=["SIGINT", "SIGKILL"])
async def test_a_run_that_is_ended_goes_on_where_it_was(
    shell: Shell, router: FakeRouter, killed: bool
) -> None:
    """After an end, by request or by a kill, the next run leaves every row there once and asks no finished row
    twice."""
    shell.write("in.jsonl", *({"id": "same", "prompt": f"prompt {n}"} for n in range(40)))
    held = asyncio.Event()

    async def answer(generation: pb.Generation) -> pb.Result:
        if int(generation.messages[0].text.split()[1]) >= 20:
            await held.wait()
        return result(generation.request_id, generation.messages[0].text)

    router.answer = answer
    command = ("generate", "-i", "in.jsonl", "-o", "out.jsonl", "--concurrency", "4")
    process = await start(shell.cwd, *command, **shell.environment)
    # All four workers are held, so the twenty rows before them have been answered and written.
    await router.until(lambda r: len(r.requests) == 24)
    process.send_signal(signal.SIGKILL if killed else signal.SIGINT)
    if not killed:
        # The second one drops the four that are held.
        assert process.stderr is not None
        shown = b""
        while b"Ctrl-C again" not in shown:
            shown += await process.stderr.readline()
        process.send_signal(signal.SIGINT)
    ended = await end(process)
    assert ended.code == (-signal.SIGKILL if killed else 130)
    assert killed or "Run the same command again" in ended.err
    assert sorted(line["index"] for line in shell.lines("out.jsonl")) == list(range(20))
    with (shell.cwd / "out.jsonl").open("ab") as file:
        file.write(b'{"index": 20, "ok": tr')
    held.set()
    resumed = await shell(*command)
    assert resumed.code == 0, resumed.err
    assert "20 of 40 rows were done before" in resumed.err
    lines = shell.lines("out.jsonl")
    assert Counter(line["index"] for line in lines) == Counter(range(40))
    assert all(line["ok"] and line["text"] == f"prompt {line['index']}" for line in lines)
    asked = Counter(r.request_id for r in router.requests)
    assert len(asked) == 40
    assert all(asked[line["request_id"]] == 1 for line in lines if line["index"] < 20)


async def test_one_ctrl_c_lets_rows_under_way_finish(shell: Shell, router: FakeRouter) -> None:
    """Answers that were paid for are kept."""
    shell.write("in.jsonl", *({"prompt": f"prompt {n}"} for n in range(10)))
    held = asyncio.Event()

    async def answer(generation: pb.Generation) -> pb.Result:
        await held.wait()
        return result(generation.request_id, "x")

    router.answer = answer
    process = await start(
        shell.cwd, "generate", "-i", "in.jsonl", "-o", "out.jsonl", "--concurrency", "3", **shell.environment
    )
    await router.until(lambda r: len(r.requests) == 3)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    shown = b""
    while b"Stopping" not in shown:
        shown += await process.stderr.readline()
    held.set()
    ended = await end(process)
    assert ended.code == 130
    assert sorted(line["index"] for line in shell.lines("out.jsonl")) == [0, 1, 2]
    assert len(router.requests) == 3


async def test_bad_input_is_refused_before_anything_is_sent(shell: Shell, router: FakeRouter) -> None:
    """Each case is one clear failure with exit status 2, and costs nothing."""
    good = shell.write("good.jsonl", {"prompt": "x"})
    (shell.cwd / "bad.jsonl").write_text('{"prompt": "fine"}\nnot json\n{"prompt": ""}\n')
    (shell.cwd / "other.jsonl").write_text('{"some": "file"}\n')
    many = ("generate", "-i", "good.jsonl", "-o")
    cases = {
        "no rows of it": (("generate", "-i", "none.jsonl", "-o", "o.jsonl"), "No such file"),
        "lines": (("generate", "-i", "bad.jsonl", "-o", "o.jsonl"), "2 lines"),
        "no output": (("generate", "-i", "good.jsonl"), "--output"),
        "output nowhere": ((*many, "none/o.jsonl"), "No such file"),
        "output a directory": ((*many, "."), "regular file"),
        "output is input": ((*many, "good.jsonl"), "same file"),
        "output of another kind": ((*many, "other.jsonl"), "line 1"),
        "template": ((*many, "o.jsonl", "--template", "{"), "--template"),
        "prompt and input": ((*many, "o.jsonl", "prompt"), "--input"),
        "empty prompt": (("generate", "  "), "empty"),
        "empty standard input": (("generate",), "empty"),
        "money": (("generate", "x", "--max-cost", "lots"), "--max-cost"),
        "concurrency": ((*many, "o.jsonl", "--concurrency", "0"), "concurrency"),
        "no such option": (("generate", "--nope"), "--nope"),
        "no such command": (("nope",), "nope"),
    }
    commands = [(*arguments, "--json") for arguments, _ in cases.values()]
    results = await several(shell.cwd, *commands, **shell.environment)
    for (name, (_, expected)), ended in zip(cases.items(), results, strict=True):
        assert (ended.code, ended.out) == (2, ""), name
        assert expected in ended.error["message"], name
    assert results[1].error["problems"] == [
        "line 2: not JSON: Expecting value at column 1",
        "line 3: the prompt is empty",
    ]
    assert router.requests == []
    assert good.read_text() == '{"prompt": "x"}\n'


async def test_without_a_command_the_help_is_shown(tmp_path: Path) -> None:
    """All commands, and nothing that looks like a failure."""
    ended = await end(await start(tmp_path))
    assert ended.code == 2
    assert all(name in ended.out for name in ("generate", "select", "providers", "quotas", "costs"))
    assert ended.err == ""


async def test_no_stack_and_a_stack_that_has_gone(tmp_path: Path) -> None:
    """One sentence that says how to start; with the stack's own file, its address and key are used."""
    async with fake_router() as router:
        (tmp_path / ".data").mkdir()
        state = {"router": router.address, "tenant_key": KEY}
        (tmp_path / ".data" / "stack.json").write_text(json.dumps(state))
        assert (await end(await start(tmp_path, "generate", "x"))).code == 0
        (tmp_path / "elsewhere").mkdir()
        elsewhere = await start(
            tmp_path / "elsewhere", "generate", "x", POINTSMAN_DATA=str(tmp_path / ".data")
        )
        assert (await end(elsewhere)).code == 0
    shown, parsed = await asyncio.gather(
        start(tmp_path, "generate", "x"), start(tmp_path, "generate", "x", "--json")
    )
    gone, gone_json = await asyncio.gather(end(shown), end(parsed))
    assert (gone.code, gone_json.code) == (1, 1)
    assert f"the router service at {router.address} does not answer" in gone.err
    assert "make run" in gone.err
    assert gone_json.error["reason"] == "TRANSPORT_UNAVAILABLE"


async def test_a_key_that_is_refused_ends_a_batch(shell: Shell, router: FakeRouter) -> None:
    """One clear failure, no failed rows, and the next run with the right key does them all."""
    shell.write("in.jsonl", *({"prompt": f"prompt {n}"} for n in range(5)))
    command = ("generate", "-i", "in.jsonl", "-o", "out.jsonl")
    refused = await shell(*command, "--key", "wrong")
    assert (refused.code, shell.lines("out.jsonl")) == (1, [])
    assert "Unknown key" in refused.err
    assert (await shell(*command)).code == 0
    assert len(shell.lines("out.jsonl")) == 5


class Operations(
    health_pb2_grpc.ProviderHealthServicer,
    ratelimit_pb2_grpc.RateLimiterServicer,
    analytics_pb2_grpc.AnalyticsServicer,
):
    """One provider that is half-open, three quotas on two pages, one row of costs."""

    def __init__(self) -> None:
        self.query = analytics_pb2.Query()
        self.forecast = analytics_pb2.GetForecastRequest()

    async def ListProviders(
        self, request: health_pb2.ListProvidersRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.ListProvidersResponse:
        state = health_pb2.ProviderHealthState(
            provider="alpha",
            status=health_pb2.PROVIDER_STATUS_DEGRADED,
            circuit=health_pb2.Circuit(state=health_pb2.CIRCUIT_STATE_HALF_OPEN),
            mode=health_pb2.PROVIDER_MODE_AUTOMATIC,
            error_rate=0.5,
            success_rate=0.5,
            calls=10,
            reason="half its calls fail",
            ramp=0.25,
            response_time=duration_to_proto(0.3),
        )
        return health_pb2.ListProvidersResponse(providers=[state])

    async def ListQuotas(
        self, request: ratelimit_pb2.ListQuotasRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ratelimit_pb2.ListQuotasResponse:
        limit = ratelimit_pb2.Limit(
            scope="tenant:acme",
            unit=ratelimit_pb2.UNIT_REQUESTS,
            period=ratelimit_pb2.PERIOD_MINUTE,
            limit=100,
        )
        quota = ratelimit_pb2.Quota(limit=limit, used=95, outstanding=3, remaining=5, burst_capacity=100)
        if request.page_token:
            return ratelimit_pb2.ListQuotasResponse(quotas=[quota])
        return ratelimit_pb2.ListQuotasResponse(quotas=[quota, quota], next_page_token="2")

    async def GetCosts(
        self, request: analytics_pb2.GetCostsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> analytics_pb2.GetCostsResponse:
        self.query = request.query
        row = analytics_pb2.Cost(
            group=analytics_pb2.Group(values=["alpha"], bucket=Timestamp(seconds=1_790_000_000)),
            cost=types_pb2.Money(micro_usd=1_500_000),
            usage=types_pb2.Usage(input_tokens=1000, output_tokens=2000),
            attempts=12,
            requests=10,
            waste={"failed": {"micro_usd": 7}},
            cache_saving={"micro_usd": 9},
        )
        if request.compare:
            row.change.CopyFrom(
                analytics_pb2.CostChange(before={"micro_usd": 2_000_000}, volume=-500_001, mix=1)
            )
        return analytics_pb2.GetCostsResponse(rows=[row], total=row)

    async def GetPerformance(
        self, request: analytics_pb2.GetPerformanceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> analytics_pb2.GetPerformanceResponse:
        self.query = request.query
        row = analytics_pb2.Performance(
            group=analytics_pb2.Group(values=["alpha/large", "blue"]),
            attempts=12,
            successes=11,
            latency={name: duration_to_proto(1.5) for name in ("p50", "p90", "p95", "p99")},
            output_tokens_per_second=81.25,
        )
        basis = analytics_pb2.Basis(computed_from=[analytics_pb2.SOURCE_ATTEMPTS])
        return analytics_pb2.GetPerformanceResponse(rows=[row], basis=basis)

    async def GetReliability(
        self, request: analytics_pb2.GetReliabilityRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> analytics_pb2.GetReliabilityResponse:
        self.query = request.query
        row = analytics_pb2.Reliability(
            group=analytics_pb2.Group(values=["alpha"]),
            attempts=12,
            success_rate=0.75,
            availability=0.99999,
            first_try_rate=0.9,
            errors=[{"error_class": types_pb2.ERROR_CLASS_RATE_LIMITED, "count": 3}],
        )
        return analytics_pb2.GetReliabilityResponse(rows=[row])

    async def GetForecast(
        self, request: analytics_pb2.GetForecastRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> analytics_pb2.GetForecastResponse:
        self.forecast = request
        row = analytics_pb2.ForecastRow(
            used=1_500_000,
            projection=analytics_pb2.ForecastProjection(
                totals=[{"amount": {"p10": 2_000_000, "p50": 3_000_000, "p90": 4_000_000}}],
                backtest={"forecasts": 9, "error": 0.9, "naive_error": 1.0, "coverage": 0.8},
            ),
        )
        limits = [analytics_pb2.LimitForecast(limit=limit, peak=50) for limit in request.limits]
        return analytics_pb2.GetForecastResponse(rows=[row], planned=[row], limits=limits)


Both = Callable[..., Awaitable[tuple[str, Any]]]


async def reports(both: Both, operations: Operations) -> None:
    """The commands of reports: what they ask, show, and write as CSV."""
    shown, parsed = await both("costs", "--compare", "--campaign", "summer")
    assert all(text in shown for text in ("$2.0000", "-$0.500001", "Computed from nothing"))
    assert parsed["rows"][0]["change"] == {"before": 2_000_000, "volume": -500_001, "mix": 1, "price": 0}
    assert operations.query.campaign == "summer"
    shown, parsed = await both("costs", "--waste")
    assert all(text in shown for text in ("$0.000007", "$0.000009"))
    assert (parsed["rows"][0]["waste"]["failed"], parsed["rows"][0]["cache_saving_micro_usd"]) == (7, 9)
    shown, parsed = await both(
        *("performance", "--by", "model", "--by-label", "mug", "--label", "sku=a=b", "--model", "large")
    )
    assert all(text in shown for text in ("alpha/large", "blue", "1.50 s", "81.2", "from attempts; nothing"))
    assert parsed["rows"][0]["latency"] == dict.fromkeys(("p50", "p90", "p95", "p99"), 1.5)
    assert parsed["basis"]["computed_from"] == ["attempts"]
    query = operations.query
    assert (query.group_by_label, dict(query.labels), query.model) == ("mug", {"sku": "a=b"}, "large")
    shown, parsed = await both("reliability", "--provider", "alpha", "--interval", "five_minutes")
    assert all(text in shown for text in ("> 99.99%", "90.00%", "75.00%", "rate limited 3"))
    assert parsed["rows"][0]["errors"] == [{"error_class": "rate_limited", "count": 3}]
    assert operations.query.interval == analytics_pb2.INTERVAL_FIVE_MINUTES


async def test_providers_quotas_and_costs(tmp_path: Path) -> None:
    """The operators' commands, for a person and as JSON, with the service token."""
    operations = Operations()  # type: ignore[abstract]  # nobody calls the other methods
    names = ("health.v1.ProviderHealth", "ratelimit.v1.RateLimiter", "analytics.v1.Analytics")
    adders: tuple[Callable[[Any, grpc.aio.Server], None], ...] = (
        health_pb2_grpc.add_ProviderHealthServicer_to_server,
        ratelimit_pb2_grpc.add_RateLimiterServicer_to_server,
        analytics_pb2_grpc.add_AnalyticsServicer_to_server,
    )
    registrations = [
        Registration(add, operations, f"pointsman.{name}") for add, name in zip(adders, names, strict=True)
    ]
    async with serve(*registrations) as server:
        address = f"127.0.0.1:{server.port}"
        environment = {f"POINTSMAN_{name}": address for name in ("HEALTH", "RATELIMIT", "ANALYTICS")}
        environment["POINTSMAN_SERVICE_TOKEN"] = KEY

        async def both(*arguments: str) -> tuple[str, Any]:
            first, second = await several(tmp_path, arguments, (*arguments, "--json"), **environment)
            assert (first.code, second.code) == (0, 0), first.err + second.err
            return first.out, second.json

        shown, parsed = await both("providers")
        assert "degraded" in shown
        (provider,) = parsed["providers"]
        assert (provider["status"], provider["circuit"], provider["model"]) == ("degraded", "half_open", "")
        shown, parsed = await both("quotas")
        assert "tenant:acme" in shown
        assert [(q["unit"], q["period"], q["remaining"]) for q in parsed["quotas"]] == [
            ("requests", "minute", 5)
        ] * 3
        shown, parsed = await both("costs", "--by", "provider", "--since", "7d", "--interval", "day")
        assert "$1.5000" in shown
        assert (parsed["total"]["cost_micro_usd"], parsed["rows"][0]["group"]) == (1_500_000, ["alpha"])
        assert list(operations.query.group_by) == [analytics_pb2.GROUP_BY_PROVIDER]
        assert operations.query.interval == analytics_pb2.INTERVAL_DAY
        await reports(both, operations)
        shown, parsed = await both(
            *("forecast", "--by", "model", "--limits", "--growth", "1.5", "--without", "beta"),
            *("--price", "alpha/large=0.5", "--replace", "alpha/large=beta/small"),
        )
        assert "$3.0000" in shown
        assert "50%" in shown
        assert parsed["rows"][0]["projection"]["totals"][0]["amount"]["p90"] == 4_000_000
        plan = operations.forecast.what_if
        assert (plan.growth, list(plan.lost_providers)) == (1.5, ["beta"])
        assert (plan.prices[0].model, plan.prices[0].factor) == ("large", 0.5)
        assert (plan.replacements[0].model, plan.replacements[0].new_provider) == ("large", "beta")
        assert [limit.scope for limit in operations.forecast.limits] == ["tenant:acme"] * 3
        mistakes = (
            ("forecast", "--price", "alpha"),
            ("recommendations", "--decide", "snooze", "some-id"),
            ("costs", "--csv", "--json"),
            ("costs", "--compare", "--interval", "day"),
            ("reliability", "--label", "blue"),
        )
        for wrong, bad in zip(mistakes, await several(tmp_path, *mistakes, **environment), strict=True):
            assert bad.code == 2
            assert wrong[1] in bad.err
        written = await end(await start(tmp_path, "costs", "--interval", "day", "--csv", **environment))
        assert written.out.splitlines() == [
            "day,provider,cost,input,output,requests,attempts",
            "2026-09-21,alpha,1.500000,1000,2000,10,12",
        ]
        refused = await end(
            await start(tmp_path, "costs", "--json", **environment | {"POINTSMAN_SERVICE_TOKEN": ""})
        )
        assert (refused.code, refused.error["type"]) == (1, "Unauthenticated")
