"""The times at which faults strike, the limits' admission and the answers' text, without a socket."""

from __future__ import annotations

import msgspec
import pytest

from dev.simulator.behaviour import Behaviour, Limits, parse_behaviour, parse_scenario
from dev.simulator.limits import Limiter
from dev.simulator.provider import VirtualProvider
from dev.simulator.schema import example
from dev.simulator.text import normalise, pieces, write
from tests.support.simulator import ROOT


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> float:
        return self.seconds


def provider(when: str, clock: Clock) -> VirtualProvider:
    behaviour = parse_behaviour(b'{"faults":[{"kind":"reset","when":%b}]}' % when.encode())
    return VirtualProvider("p", behaviour, clock)


def struck(when: str, count: int, *, model: str = "m", stream: bool = False) -> list[bool]:
    one = provider(when, Clock())
    return [bool(one.plan("generate", model, stream).faults) for _ in range(count)]


def test_first_skip_and_every_count_requests() -> None:
    """First N, all but the first N, every k-th, and combinations."""
    assert struck('{"first":2}', 4) == [True, True, False, False]
    assert struck('{"skip":1,"first":1}', 4) == [False, True, False, False]
    assert struck('{"every":3}', 6) == [False, False, True, False, False, True]


def test_share_is_deterministic_and_close_to_the_share() -> None:
    """The same seed strikes the same requests; another seed others."""
    third = struck('{"share":0.3333,"seed":1}', 3000)
    assert third == struck('{"share":0.3333,"seed":1}', 3000)
    assert third != struck('{"share":0.3333,"seed":2}', 3000)
    assert 900 < sum(third) < 1100


def test_conditions_select_model_and_streaming() -> None:
    """Requests that a condition excludes are not counted."""
    assert struck('{"model":"big-*"}', 1) == [False]
    assert struck('{"model":"big-*"}', 1, model="big-1") == [True]
    assert struck('{"streaming":true}', 1) == [False]
    assert struck('{"streaming":true}', 1, stream=True) == [True]
    one = provider('{"model":"big","first":1}', Clock())
    assert not one.plan("generate", "small", False).faults
    assert one.plan("generate", "big", False).faults


def test_endpoint_separates_generation_from_model_lists() -> None:
    """By default a fault leaves the model list alone."""
    one = provider("{}", Clock())
    assert not one.plan("models", "", False).faults
    both = provider('{"endpoint":"any"}', Clock())
    assert both.plan("models", "", False).faults
    assert both.plan("generate", "m", False).faults


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ('{"from_seconds":10,"until_seconds":20}', {0: False, 10: True, 19: True, 20: False}),
        ('{"down_seconds":60}', {0: True, 59: True, 60: False, 500: False}),
        ('{"down_seconds":10,"up_seconds":5}', {0: True, 9: True, 10: False, 14: False, 15: True, 25: False}),
    ],
)
def test_times_and_flapping(when: str, expected: dict[int, bool]) -> None:
    """Windows and flapping count from the moment the behaviour was set; a reset starts them again."""
    clock = Clock()
    one = provider(when, clock)
    start = clock.seconds
    for second, strikes in expected.items():
        clock.seconds = start + second
        assert bool(one.plan("generate", "m", False).faults) is strikes, second
    one.reset()
    assert bool(one.plan("generate", "m", False).faults) is expected[0]


def test_of_two_faults_of_a_kind_the_first_wins_and_kinds_combine() -> None:
    """One of a kind per request; the others join."""
    behaviour = parse_behaviour(
        b'{"faults":[{"kind":"cut","after_tokens":1},{"kind":"cut","after_tokens":2},{"kind":"brownout"}]}'
    )
    one = VirtualProvider("p", behaviour, Clock())
    found = one.plan("generate", "m", False).faults
    assert sorted(type(fault).__name__ for fault in found.values()) == ["Brownout", "Cut"]
    assert one.counters.faults == {"cut": 1, "brownout": 1}


@pytest.mark.parametrize(
    "body",
    [
        b'{"latency":1}',
        b'{"latency_ms":-1}',
        b'{"faults":[{"kind":"explode"}]}',
        b'{"faults":[{"kind":"cut","after":1}]}',
        b'{"faults":[{"kind":"reset","when":{"share":2}}]}',
        b'{"limits":{"rpm":0}}',
        b"{",
    ],
)
def test_a_wrong_behaviour_is_refused(body: bytes) -> None:
    """Unknown names, values out of bounds and broken JSON are errors, never ignored."""
    with pytest.raises(msgspec.DecodeError):
        parse_behaviour(body)


@pytest.mark.parametrize("name", ["demo", "failover"])
def test_the_scenario_files_are_valid(name: str) -> None:
    """The files that come with the simulator load."""
    scenario = parse_scenario((ROOT / "dev" / "simulator" / "scenarios" / f"{name}.json").read_bytes())
    assert scenario.providers


def test_request_limit_refills_continuously() -> None:
    """Three a minute: three at once, then one every twenty seconds; a refusal says the wait and takes nothing."""
    limiter = Limiter(Limits(rpm=3), 0.0)
    assert [limiter.admit(1, 1, 0, 0.0) for _ in range(3)] == [None] * 3
    refusal = limiter.admit(1, 1, 0, 0.0)
    assert refusal is not None
    assert refusal.wait == pytest.approx(20)
    assert limiter.admit(1, 1, 0, 19.9) is not None
    assert limiter.admit(1, 1, 0, 20.1) is None
    assert limiter.quota().requests_left == 0


def test_token_limits_count_input_and_answer() -> None:
    """A request too large for what is left is refused without using its request."""
    limiter = Limiter(Limits(rpm=10, tpm=100), 0.0)
    assert limiter.admit(40, 40, 0, 0.0) is None
    refusal = limiter.admit(40, 40, 0, 0.0)
    assert refusal is not None
    assert (refusal.limit, refusal.requested) == (100, 80)
    assert limiter.quota().requests_left == 9


def test_concurrency_limit() -> None:
    """As many in flight as allowed, no more."""
    limiter = Limiter(Limits(concurrency=2), 0.0)
    assert limiter.admit(1, 1, 1, 0.0) is None
    assert limiter.admit(1, 1, 2, 0.0) is not None


def test_text_is_exact_deterministic_and_about_the_product() -> None:
    """The asked number of tokens; the same for the same prompt; pieces join to the text; words of the prompt."""
    prompt = "Write a product description for: Blue Mug. Attributes: stoneware, dishwasher safe"
    tokens = write(prompt, count=60)
    assert len(tokens) == 60
    assert tokens == write(prompt, count=60)
    assert tokens != write(prompt, count=60, seed=1)
    text = "".join(write(prompt))
    assert "Blue Mug" in text
    assert "dishwasher safe" in text
    assert pieces(text) == write(prompt)
    assert write(prompt, count=0) == ()
    assert 45 <= len(write(prompt)) <= 120


@pytest.mark.parametrize(
    "prompt", ["", "   ", "\x00{}%s{s}", "漆塗りの茶碗、手作り、赤", "a" * 300_000, "{" * 5000]
)
def test_any_prompt_gives_a_text(prompt: str) -> None:
    """No prompt breaks the generator."""
    assert len(write(normalise([prompt]), count=30)) == 30


def test_a_system_prompt_folded_into_the_message_reads_the_same() -> None:
    """An adapter that joins them with blank lines gets the same answer."""
    assert normalise(["You write.", "Blue  mug\n"]) == normalise(["You write.\n\nBlue mug"])


def test_schema_examples_follow_references_bounds_and_nulls() -> None:
    """References, optional unions, arrays, lengths and constants."""
    schema = {
        "type": "object",
        "properties": {
            "size": {"$ref": "#/$defs/size"},
            "note": {"anyOf": [{"type": "null"}, {"type": "string", "maxLength": 5}]},
            "tags": {"type": "array", "minItems": 2, "items": {"type": "string"}},
            "kind": {"const": "mug"},
            "loop": {"$ref": "#"},
        },
        "$defs": {"size": {"type": "integer", "minimum": 4}},
    }
    found = example(schema, "A blue mug. Stoneware.")
    assert (found["size"], found["kind"], len(found["tags"])) == (4, "mug", 2)
    assert len(found["note"]) <= 5


def test_counters_survive_a_reset_with_requests_in_flight() -> None:
    """A request that began before the reset is not counted after it, and concurrency stays right."""
    one = VirtualProvider("p", Behaviour(), Clock())
    attempt = one.begin("openai_chat", b"{}", {})
    one.reset()
    assert one.counters.concurrent == 1
    one.end(attempt)
    assert one.counters.concurrent == 0
    assert one.counters.by_outcome == {}


def test_one_key_of_several_is_struck() -> None:
    """A fault of one key leaves the others, and those without, alone."""
    one = provider('{"key": "revoked"}', Clock())
    assert one.plan("generate", "m", False, key="revoked").faults
    assert not one.plan("generate", "m", False, key="good").faults
    assert not one.plan("generate", "m", False).faults
