"""The sixteen faults of the public failover benchmark (failoverbench), with its times, against the whole stack:
through gRPC, and over HTTP with OpenAI's official client."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from dev.catalog import PUBLISHED_HASH, PUBLISHED_KEY
from libs.client import Completed
from libs.client.request import Options
from libs.types import ErrorClass
from tests.support.edges import Answer, Edge, Grpc, Http, Refused
from tests.support.stack import RunningStack, running_stack

PROMPT = "Write a product description for the Fjord kettle: brushed steel, 0.9 litres, pour-over spout."
#: The answer of every provider: 60 tokens; primaries take more time for each than fallbacks, milliseconds.
TOKENS, PRIMARY_MS, FALLBACK_MS = 60, 5, 2

FAULTS: dict[str, list[dict[str, Any]]] = {
    "s01": [{"kind": "status", "preset": "rate_limited", "retry_after": 2, "when": {"first": 1}}],
    "s02": [{"kind": "status", "preset": "rate_limited"}],
    "s03": [{"kind": "status", "preset": "server_error", "when": {"first": 1}}],
    "s04": [{"kind": "status", "preset": "overloaded"}],
    "s05": [{"kind": "reset", "when": {"first": 1}}],
    "s06": [{"kind": "silence", "seconds": 120}],
    "s07": [{"kind": "slow_first_token", "seconds": 20}],
    "s08": [{"kind": "cut", "after_tokens": 40}],
    "s08b": [{"kind": "cut", "after_tokens": 40, "when": {"first": 1}}],
    "s09": [{"kind": "stall", "after_tokens": 20, "seconds": 30}],
    "s10": [{"kind": "malformed", "at_token": 10}],
    "s11": [{"kind": "no_terminator"}],
    "s12": [{"kind": "status", "preset": "context_length"}],
    "s13": [{"kind": "status", "preset": "content_filter"}],
    "s13b": [{"kind": "content_filter", "after_tokens": 30}],
    "s14": [{"kind": "cut", "after_tokens": 40}],
    "s15": [{"kind": "status", "preset": "overloaded", "when": {"until_seconds": 60}}],
    "s16": [{"kind": "status", "preset": "overloaded"}],
}
EDGES = ("grpc", "http")
#: Seconds between the requests of a flap.
FLAP_INTERVALS = (0.7, 4.0)
#: Each scenario has primaries of its own, so that no circuit is shared: `<scenario>-<edge>-<number>`.
COPIES = 4
PRIMARIES = [f"{s}-{edge}-{n}" for s in FAULTS for edge in EDGES for n in range(COPIES)]
FALLBACKS: dict[str, tuple[str, list[str]]] = {
    #: Goes on from a prefill.
    "continues": ("anthropic", ["prefill"]),
    #: Cannot, and gives the same answer.
    "repeats": ("gemini", []),
    #: Cannot, and gives another.
    "differs": ("openai", []),
    #: The catalog believes that it can, and it refuses.
    "refuses": ("anthropic", ["prefill"]),
    "untouched": ("anthropic", ["prefill"]),
}
_URL = "${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}"
_KEY_FILE = "key"


def _provider(name: str, kind: str, key_file: str = "") -> dict[str, Any]:
    url = f"{_URL}/{name}/v1" if kind == "openai" else f"{_URL}/{name}"
    key = {"api_key_file": key_file} if key_file else {"api_key_env": ""}
    return {"kind": kind, "base_url": url, "timeouts": {"first_byte": 2, "idle": 1.5, "total": 5}, **key}


def _model(window: int, capabilities: list[str]) -> dict[str, Any]:
    return {
        "context_window": window,
        "max_output_tokens": 4096,
        "capabilities": [*capabilities, "streaming", "system", "stop"],
        "price": {"input": 1, "output": 2},
    }


def _catalog() -> str:
    providers = {name: _provider(name, "openai") for name in PRIMARIES}
    providers |= {name: _provider(name, kind, _KEY_FILE) for name, (kind, _) in FALLBACKS.items()}
    models = {f"{name}/m": _model(100_000, []) for name in PRIMARIES}
    models |= {f"{name}/m": _model(400_000, more) for name, (_, more) in FALLBACKS.items()}
    catalog = {
        "version": 1,
        "domain": "failover",
        "providers": providers,
        "models": models,
        "policies": {
            "default": {"tiers": [["continues/m"]]},
            "patient": {"tiers": [["continues/m"]], "max_retry_after": 5},
        },
        "content_types": {
            "general": {"max_output_tokens": 200},
            "patient": {"max_output_tokens": 200, "policy": "patient"},
        },
        "tenants": {"demo": {"key_sha256": [PUBLISHED_HASH]}},
    }
    # JSON is YAML.
    return json.dumps(catalog)


@dataclass
class Bench:
    """The stack, and what was asked of it."""

    stack: RunningStack
    edges: dict[str, Edge]
    #: The whole answer, as any provider gives it.
    expected: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(1))
    #: By edge and seconds between calls.
    flaps: dict[tuple[str, float], asyncio.Task[Flap]] = field(default_factory=dict)

    async def ask(
        self, edge: str, models: list[str], *, stream: bool = True, timeout: float = 60.0
    ) -> Answer:
        """One answer, remembered for the ledger. Raises Refused."""
        request_id = f"failover-{models[0].partition('/')[0]}-{next(self.numbers)}"
        found = await self.edges[edge].ask(PROMPT, models, request_id, stream=stream, timeout=timeout)
        self.answers[request_id] = found
        return found

    async def requests(self, name: str) -> int:
        """Generations that a virtual provider has seen."""
        return int((await self.stack.simulator.counters(name))["requests"])


@pytest.fixture(scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """One stack for all; the flap, which takes a minute and a half, runs beside the other scenarios."""
    directory = tmp_path_factory.mktemp("failover")
    (directory / _KEY_FILE).write_text("simulated")
    async with AsyncExitStack() as opened:
        stack = await opened.enter_async_context(running_stack(directory, _catalog()))
        for name in [*PRIMARIES, *FALLBACKS]:
            faults = FAULTS.get(name.partition("-")[0], [])
            if name == "refuses":
                faults = [{"kind": "prefill_rejection"}]
            pace = FALLBACK_MS if name in FALLBACKS else PRIMARY_MS
            await stack.simulator.set(
                name, tokens=TOKENS, ms_per_token=pace, faults=faults, own_answer=name == "differs"
            )
        client = await opened.enter_async_context(stack.client())
        official = await opened.enter_async_context(
            openai.AsyncOpenAI(
                base_url=f"http://{stack.addresses['router http']}/v1", api_key=PUBLISHED_KEY, max_retries=0
            )
        )
        bench = Bench(stack, {"grpc": Grpc(client), "http": Http(official)})
        bench.expected = (await bench.ask("grpc", ["continues/m"], stream=False)).text
        bench.flaps = {
            (edge, interval): asyncio.create_task(flap(bench, edge, number))
            for edge in EDGES
            for number, interval in enumerate(FLAP_INTERVALS)
        }
        yield bench
        for task in bench.flaps.values():
            task.cancel()


@pytest.fixture(params=EDGES)
def edge(request: pytest.FixtureRequest) -> str:
    return str(request.param)


both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def primary(scenario: str, edge: str, number: int | bool = 0) -> str:
    """A primary that nobody else uses."""
    return f"{scenario}-{edge}-{int(number)}"


@both
async def test_s01_a_429_with_retry_after_goes_to_the_fallback(bench: Bench, edge: str, stream: bool) -> None:
    """Nobody waits two seconds where another provider can answer at once."""
    name = primary("s01", edge, stream)
    answer = await bench.ask(edge, [f"{name}/m", "continues/m"], stream=stream)
    assert (answer.text, answer.model) == (bench.expected, "continues/m")
    assert answer.failed == (f"{name}/m: rate_limited",)


async def test_s01_a_429_with_retry_after_is_waited_out_alone(bench: Bench, edge: str) -> None:
    """Without a fallback the same provider is asked again when it said, within the policy's bound."""
    name = primary("s01", edge, 2)
    answer = await bench.ask(edge, [f"{name}/m"])
    assert (answer.text, answer.model, answer.attempts) == (bench.expected, f"{name}/m", 2)
    first, second = (await bench.stack.simulator.report(name))["attempts"]
    assert second["since"] - first["since"] >= 2


@both
async def test_s01_a_429_with_retry_after_is_waited_out_where_the_policy_says_so(
    bench: Bench, stream: bool
) -> None:
    """A policy with `max_retry_after` stays with its provider, though another could answer at once: one more call, no
    sooner than the provider asked for, and the fallback is not called."""
    name = primary("s01", "grpc" if stream else "http", 3)
    options: Options = {
        "request_id": f"failover-{name}",
        "models": [f"{name}/m", "continues/m"],
        "content_type": "patient",
    }
    async with bench.stack.client(PUBLISHED_KEY) as client:
        if stream:
            events = [event async for event in client.stream(PROMPT, timeout=30, **options)]
            assert isinstance(events[-1], Completed)
            result = events[-1].result
        else:
            result = await client.generate(PROMPT, timeout=30, **options)
    assert [(a.provider, a.error_class) for a in result.attempts] == [
        (name, ErrorClass.RATE_LIMITED),
        (name, None),
    ]
    first, second = (await bench.stack.simulator.report(name))["attempts"]
    assert second["since"] - first["since"] >= 2


@both
async def test_s02_a_429_without_retry_after_is_not_hammered(bench: Bench, edge: str, stream: bool) -> None:
    """Each request asks the limited provider once at most and is answered by the fallback."""
    name = primary("s02", edge, stream)
    for _ in range(3):
        answer = await bench.ask(edge, [f"{name}/m", "continues/m"], stream=stream)
        assert (answer.text, answer.model) == (bench.expected, "continues/m")
    assert await bench.requests(name) <= 3


@both
async def test_s03_a_single_500_is_tried_once_more(bench: Bench, edge: str, stream: bool) -> None:
    """The same provider answers at the second try; the fallback is not needed."""
    name = primary("s03", edge, stream)
    answer = await bench.ask(edge, [f"{name}/m", "continues/m"], stream=stream)
    assert (answer.text, answer.model) == (bench.expected, f"{name}/m")
    assert answer.failed == (f"{name}/m: server_error",)


@both
async def test_s04_a_503_for_ever_costs_few_attempts(bench: Bench, edge: str, stream: bool) -> None:
    """Every request is answered by the fallback, and soon the dead provider is not even asked."""
    name = primary("s04", edge, stream)
    answers = [await bench.ask(edge, [f"{name}/m", "continues/m"], stream=stream) for _ in range(8)]
    assert {(a.text, a.model) for a in answers} == {(bench.expected, "continues/m")}
    assert answers[-1].attempts == 1
    assert await bench.requests(name) <= 4


async def test_s04_without_a_fallback_the_caller_is_told_when_to_come_back(bench: Bench, edge: str) -> None:
    """UNAVAILABLE with RetryInfo; 503 with Retry-After."""
    name = primary("s04", edge, 2)
    with pytest.raises(Refused) as caught:
        await bench.ask(edge, [f"{name}/m"])
    assert caught.value.status in ("Unavailable", "503")
    assert caught.value.reason == "PROVIDERS_FAILED"
    assert caught.value.retry_after is not None


@both
async def test_s05_a_reset_before_the_headers_is_tried_once_more(
    bench: Bench, edge: str, stream: bool
) -> None:
    """As a single 500."""
    name = primary("s05", edge, stream)
    answer = await bench.ask(edge, [f"{name}/m", "continues/m"], stream=stream)
    assert (answer.text, answer.model) == (bench.expected, f"{name}/m")
    assert answer.failed == (f"{name}/m: transport",)


@both
async def test_s06_no_response_for_two_minutes_goes_to_the_fallback(
    bench: Bench, edge: str, stream: bool
) -> None:
    """Given up at our limit, not at the provider's; a silent route is not tried twice."""
    name = primary("s06", edge, stream)
    answer = await bench.ask(edge, [f"{name}/m", "continues/m"], stream=stream)
    assert (answer.text, answer.model) == (bench.expected, "continues/m")
    assert answer.failed == (f"{name}/m: timeout",)
    assert await bench.requests(name) == 1


async def test_s07_a_first_token_after_twenty_seconds_is_not_waited_for(bench: Bench, edge: str) -> None:
    """Headers at once and then nothing is silence too."""
    name = primary("s07", edge)
    answer = await bench.ask(edge, [f"{name}/m", "continues/m"])
    assert (answer.text, answer.model) == (bench.expected, "continues/m")
    assert answer.failed == (f"{name}/m: timeout",)


@pytest.mark.parametrize("fallback", ["continues", "repeats"])
@pytest.mark.parametrize(
    ("scenario", "why"), [("s08", "transport"), ("s09", "stalled"), ("s10", "malformed")]
)
async def test_s08_s09_s10_a_broken_stream_is_finished_by_another(
    bench: Bench, edge: str, scenario: str, why: str, fallback: str
) -> None:
    """Cut after 40 of 60 tokens, stalled after 20, or with a malformed chunk: the text is whole, nothing twice,
    nothing missing, whether the fallback goes on from a prefill or says it all again."""
    name = primary(scenario, edge, fallback == "repeats")
    answer = await bench.ask(edge, [f"{name}/m", f"{fallback}/m"])
    assert (answer.text, answer.finish) == (bench.expected, "stop")
    assert (answer.model, answer.restarts) == (f"{fallback}/m", 0)
    assert answer.failed == (f"{name}/m: {why}",)


async def test_s08_another_answer_begins_anew_and_says_so(bench: Bench, edge: str) -> None:
    """A fallback's different answer is announced by `restarted` over gRPC; OpenAI's wire cannot say that, so there it
    is an error and never half of one text after half of the other."""
    name = primary("s08", edge, 2)
    if edge == "grpc":
        answer = await bench.ask(edge, [f"{name}/m", "differs/m"])
        assert answer.restarts == 1
        assert answer.text == (await bench.ask(edge, ["differs/m"])).text != bench.expected
    else:
        with pytest.raises(Refused) as caught:
            await bench.ask(edge, [f"{name}/m", "differs/m"])
        assert (caught.value.reason, caught.value.status) == ("STREAM_RESTARTED", "stream")


async def test_s08_a_cut_stream_without_fallback_is_never_a_success(bench: Bench, edge: str) -> None:
    """The caller gets an error after the part, not an end."""
    name = primary("s08", edge, 3)
    with pytest.raises(Refused) as caught:
        await bench.ask(edge, [f"{name}/m"])
    assert caught.value.reason == "ATTEMPTS_EXHAUSTED"


@pytest.mark.parametrize(
    ("models", "failed"),
    [
        (("s08b-{}-0",), ("s08b-{}-0/m: transport",)),
        (("s08b-{}-1", "s03-{}-2"), ("s08b-{}-1/m: transport", "s03-{}-2/m: server_error")),
        (("s08b-{}-2", "s08b-{}-3"), ("s08b-{}-2/m: transport", "s08b-{}-3/m: transport")),
    ],
)
async def test_regression_after_content_failing_over_goes_on(
    bench: Bench, edge: str, models: tuple[str, ...], failed: tuple[str, ...]
) -> None:
    """Named regression: a primary cut after 40 words and a fallback that answered 500 once ended the request after 2
    of 4 attempts. So did a cut with nobody else, and a fallback cut in its turn."""
    answer = await bench.ask(edge, [f"{name.format(edge)}/m" for name in models])
    assert (answer.text, answer.finish, answer.restarts) == (bench.expected, "stop", 0)
    assert answer.failed == tuple(each.format(edge) for each in failed)


async def test_s11_a_missing_done_is_no_failure(bench: Bench, edge: str) -> None:
    """The finish reason came, so the answer is whole: one attempt."""
    name = primary("s11", edge)
    answer = await bench.ask(edge, [f"{name}/m", "continues/m"])
    assert (answer.text, answer.finish, answer.attempts) == (bench.expected, "stop", 1)


@both
async def test_s12_too_long_a_context_goes_to_a_larger_window(bench: Bench, edge: str, stream: bool) -> None:
    """And where no permitted window is larger, the caller is told what is wrong."""
    name = primary("s12", edge, stream)
    answer = await bench.ask(edge, [f"{name}/m", "continues/m"], stream=stream)
    assert (answer.text, answer.model) == (bench.expected, "continues/m")
    with pytest.raises(Refused) as caught:
        await bench.ask(edge, [f"{name}/m"], stream=stream)
    assert caught.value.reason == "CONTEXT_TOO_LONG"
    assert caught.value.status in ("FailedPrecondition", "400")


@both
async def test_s13_a_content_refusal_is_passed_on_and_not_routed_around(
    bench: Bench, edge: str, stream: bool
) -> None:
    """A refusal reaches the caller, as an error or as the answer's finish reason, and nobody else is asked."""
    name = primary("s13", edge, stream)
    with pytest.raises(Refused) as caught:
        await bench.ask(edge, [f"{name}/m", "untouched/m"], stream=stream)
    assert caught.value.reason == "CONTENT_REFUSED"
    answer = await bench.ask(edge, [f"{primary('s13b', edge, stream)}/m", "untouched/m"], stream=stream)
    assert (answer.finish, answer.attempts) == ("content_filter", 1)
    assert bench.expected.startswith(answer.text)
    assert await bench.requests("untouched") == 0


async def test_s14_a_fallback_that_refuses_the_prefill_says_it_all_again(bench: Bench, edge: str) -> None:
    """Its 400 is about the prefill, not the request: asked without one, it answers, and what was sent already is
    not sent twice."""
    name = primary("s14", edge)
    answer = await bench.ask(edge, [f"{name}/m", "refuses/m"])
    assert (answer.text, answer.model) == (bench.expected, "refuses/m")
    assert answer.failed == (f"{name}/m: transport", "refuses/m: unsupported_here")


@dataclass(frozen=True, slots=True)
class Flap:
    """The effect of a minute's outage. `wasted`: attempts on the primary while it was down; `back`: seconds from its
    return to its first answer."""

    asked: int
    unanswered: int
    wasted: int
    back: float


async def flap(bench: Bench, edge: str, number: int) -> Flap:
    """Requests at an interval, from a provider's minute of outage until it answers again."""
    name = primary("s15", edge, number)
    await bench.stack.simulator.reset(name)
    began, asked, unanswered = time.monotonic(), 0, 0
    while time.monotonic() - began < 60 + 45:
        asked += 1
        try:
            answer = await bench.ask(edge, [f"{name}/m", "continues/m"], stream=bool(asked % 2))
        except Refused:
            unanswered += 1
        else:
            if answer.model == f"{name}/m":
                break
        await asyncio.sleep(FLAP_INTERVALS[number])
    report = await bench.stack.simulator.report(name)
    good = [a for a in report["attempts"] if a["status"] == 200]
    back = good[0]["since"] - 60 if good else float("inf")
    return Flap(asked, unanswered, len(report["attempts"]) - len(good), back)


@pytest.mark.parametrize("interval", FLAP_INTERVALS)
async def test_s15_a_minutes_flap_wastes_little_and_the_primary_comes_back(
    bench: Bench, edge: str, interval: float
) -> None:
    """At most five attempts in vain, no caller without an answer, and the primary is used again within 16 s."""
    found = await bench.flaps[edge, interval]
    print(found)
    assert found.unanswered == 0
    assert found.wasted <= 5
    assert found.back <= 16


@both
async def test_s16_a_failover_is_accounted_for(bench: Bench, edge: str, stream: bool) -> None:
    """The caller is told who answered. The failed attempt costs nothing; the answer costs what the provider that gave
    it says it used."""
    name = primary("s16", edge, stream)
    answer = await bench.ask(edge, [f"{name}/m", "continues/m"], stream=stream)
    assert (answer.model, answer.failed) == ("continues/m", (f"{name}/m: overloaded",))
    request_id = next(key for key, value in bench.answers.items() if value is answer)
    failed, given = await bench.stack.settled_ledger(request_id, lambda rows: len(rows) == 2)
    assert (failed["provider"], failed["outcome"], failed["cost_micro_usd"]) == (name, "failure", 0)
    assert (given["provider"], given["outcome"], given["output_tokens"]) == ("continues", "success", TOKENS)
    assert given["cost_micro_usd"] == answer.cost_micro_usd > 0


async def test_s16_the_ledger_adds_up_over_all_scenarios(bench: Bench) -> None:
    """Every attempt is in the ledger once, and each request's attempts add up to the cost that its caller was
    told."""
    await asyncio.gather(*bench.flaps.values())
    wanted = sum(answer.attempts for answer in bench.answers.values())

    def complete(rows: list[Any]) -> bool:
        return sum(row["request_id"] in bench.answers for row in rows) >= wanted

    rows = await bench.stack.settled_ledger("failover-", complete)
    assert len({row["attempt_id"] for row in rows}) == len(rows)
    for request_id, answer in bench.answers.items():
        mine = [row for row in rows if row["request_id"] == request_id]
        assert len(mine) == answer.attempts, request_id
        assert sum(row["cost_micro_usd"] for row in mine) == answer.cost_micro_usd, request_id
    seen = sum(report["counters"]["requests"] for report in (await bench.stack.simulator.all()).values())
    assert len(rows) == seen
