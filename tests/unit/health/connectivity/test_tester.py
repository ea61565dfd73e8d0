"""The steps of a test: their order, their verdicts, what stops them and what bounds them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from libs.catalog.catalog import Catalog
from libs.catalog.kinds import KINDS
from libs.catalog.model import Provider
from libs.catalog.routes import ProviderEndpoint, ProviderKey
from libs.catalog.secrets import Keys
from libs.connectivity import (
    AddressesDetail,
    Cause,
    CertificateDetail,
    HttpDetail,
    ModelFinding,
    ModelsDetail,
    ModelState,
    Step,
    StepName,
    StepVerdict,
)
from libs.errors import NotFound
from libs.types import ErrorClass
from services.health.connectivity.network import Answer, Certificate
from services.health.connectivity.tester import ProviderTester
from services.health.connectivity.verdicts import SOON
from services.health.domain.evidence import ProbeResult, best_result
from tests.support.clock import ManualClock
from tests.support.health import make_catalog
from tests.support.provider_network import YEAR, FakeNetwork, untrusted

SECRET = "sk-very-secret"
DAY = 86_400.0


class Bench:
    """A tester on a fake network, for one provider with two models."""

    def __init__(
        self, kind: str = "openai", *, key: str = SECRET, env: str = "KEY", scheme: str = "https"
    ) -> None:
        self.network = FakeNetwork(key=key)
        self.clock = ManualClock()
        self.evidence: list[ProbeResult] = []
        provider = Provider("acme", kind, f"{scheme}://acme.test", api_key_env=env)
        self.catalog: Catalog = replace(
            make_catalog({"acme": ("large", "small")}), providers={"acme": provider}
        )
        self.serve("large", "small")
        keys = Keys({"KEY": SECRET, "WRONG_KEY": "sk-wrong"})
        self.tester = ProviderTester(
            self.network, keys, lambda: self.catalog, self.evidence.append, self.clock, timeout=0.05
        )

    def serve(self, *names: str, **fields: Any) -> None:
        """Lists these models, each with the fields."""
        rows = [{"id": name, **fields} for name in names]
        self.network.answers["/models"] = Answer(200, json.dumps({"data": rows}).encode())

    async def steps(self) -> tuple[Step, ...]:
        (tested,) = await self.tester.test("acme")
        assert [step.name for step in tested.steps] == list(StepName)
        assert SECRET not in repr(tested)
        assert SECRET not in repr(self.evidence)
        return tested.steps


def ends(steps: tuple[Step, ...]) -> list[tuple[StepVerdict | None, Cause | None]]:
    return [(step.verdict, step.cause) for step in steps]


PASSED = (StepVerdict.PASSED, None)
AFTER = (StepVerdict.SKIPPED, Cause.EARLIER_STEP_FAILED)


async def test_all_is_well() -> None:
    """Every step passes with what it found, the connection is closed, and the judge hears of a good probe."""
    bench = Bench()
    steps = await bench.steps()
    assert ends(steps) == [PASSED] * 5
    assert steps[0].detail == AddressesDetail(("127.0.0.1",))
    assert steps[2].detail == CertificateDetail(100 * YEAR, "Fake Trust", "TLSv1.3")
    assert steps[3].detail == HttpDetail(200)
    assert steps[4].detail == ModelsDetail(2, 2)
    assert all(connection.closed for connection in bench.network.connections)
    assert [found.error for found in bench.evidence] == [None]


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_every_kind_is_asked_for_nothing_that_costs(kind: str) -> None:
    """Whatever the kind, only paths without a completion are asked for, and every step comes to an end."""
    bench = Bench(kind)
    assert len(await bench.steps()) == 5
    assert bench.network.gotten
    assert not any("completion" in path or "generate" in path for path in bench.network.gotten)


@pytest.mark.parametrize(("silent", "position"), [("resolve", 0), ("connect", 1), ("get", 3)])
async def test_a_step_without_end_is_ended_and_what_follows_is_skipped(silent: str, position: int) -> None:
    """Each is bounded by itself; later ones say that they did not run; it is evidence of a timeout."""
    bench = Bench()
    bench.network.silent = silent
    steps = await bench.steps()
    assert ends(steps)[position] == (StepVerdict.FAILED, Cause.TIMED_OUT)
    assert ends(steps)[:position] == [PASSED] * position
    assert ends(steps)[position + 1 :] == [AFTER] * (4 - position)
    assert [found.error for found in bench.evidence] == [ErrorClass.TIMEOUT]


async def test_names_ports_and_certificates_have_causes_of_their_own() -> None:
    """Nothing is sent to a server whose certificate is not trusted; its end is told."""
    bench = Bench()
    bench.network.names = {}
    assert ends(await bench.steps()) == [(StepVerdict.FAILED, Cause.NAME_UNKNOWN), *[AFTER] * 4]
    bench.network.names, bench.network.refusing = None, True
    assert ends(await bench.steps())[1] == (StepVerdict.FAILED, Cause.CONNECTION_REFUSED)
    bench.network.refusing = False
    bench.network.certificate = untrusted(Cause.CERTIFICATE_EXPIRED, -DAY)
    steps = await bench.steps()
    assert ends(steps)[2:] == [(StepVerdict.FAILED, Cause.CERTIFICATE_EXPIRED), AFTER, AFTER]
    assert steps[2].detail == CertificateDetail(-DAY, "Nobody")
    assert not bench.network.gotten
    assert {found.error for found in bench.evidence} == {ErrorClass.TRANSPORT}


@pytest.mark.parametrize(
    ("life", "left", "soon"),
    [
        (365 * DAY, SOON - 1, True),
        (365 * DAY, SOON + 1, False),
        (6 * DAY, 3 * DAY, False),
        (6 * DAY, DAY, True),
    ],
)
async def test_a_certificate_that_should_have_been_renewed(life: float, left: float, soon: bool) -> None:
    """Two weeks before its end, or in the last third of a short life, it is a warning and later steps run."""
    bench = Bench()
    end = bench.clock.now() + left
    bench.network.certificate = Certificate(end - life, end, "Fake Trust", "TLSv1.3")
    expected = (StepVerdict.WARNING, Cause.CERTIFICATE_ENDS_SOON) if soon else PASSED
    assert ends(await bench.steps())[2:] == [expected, PASSED, PASSED]


async def test_what_is_found_of_a_key() -> None:
    """A wrong key fails; one that is not set here, or that everybody could do without, is a warning; where none is
    needed, or no endpoint takes it, nothing is proven either way."""
    assert ends(await Bench(env="WRONG_KEY").steps())[3:] == [(StepVerdict.FAILED, Cause.KEY_REFUSED), AFTER]
    missing = Bench(env="ELSEWHERE")
    assert ends(await missing.steps())[3:] == [
        (StepVerdict.WARNING, Cause.KEY_NOT_SET),
        (StepVerdict.SKIPPED, Cause.KEY_NOT_SET),
    ]
    assert [found.error for found in missing.evidence] == [None]
    assert ends(await Bench(key="").steps())[3:] == [(StepVerdict.WARNING, Cause.KEY_NOT_PROVEN), PASSED]
    none_needed = Bench("vllm", key="", env="", scheme="http")
    assert ends(await none_needed.steps())[2:] == [
        (StepVerdict.SKIPPED, Cause.NOT_OFFERED),
        (StepVerdict.SKIPPED, Cause.NO_KEY_NEEDED),
        PASSED,
    ]
    assert ends(await Bench("bedrock").steps())[3:] == [(StepVerdict.SKIPPED, Cause.NOT_OFFERED)] * 2


GOOGLE = b'{"error":{"code":400,"details":[{"reason":"API_KEY_INVALID"}]}}'


@pytest.mark.parametrize(
    ("answer", "verdict", "cause", "error"),
    [
        (Answer(401, b""), StepVerdict.FAILED, Cause.KEY_REFUSED, ErrorClass.AUTHENTICATION),
        (Answer(400, GOOGLE), StepVerdict.FAILED, Cause.KEY_REFUSED, ErrorClass.AUTHENTICATION),
        (Answer(400, b"[" * 5000), StepVerdict.WARNING, Cause.UNEXPECTED_ANSWER, None),
        (Answer(403, None), StepVerdict.WARNING, Cause.LIST_FORBIDDEN, None),
        (Answer(404, b'{"error":[]}'), StepVerdict.WARNING, Cause.UNEXPECTED_ANSWER, None),
        (Answer(429, b""), StepVerdict.WARNING, Cause.RATE_LIMITED, None),
        (Answer(500, b""), StepVerdict.FAILED, Cause.SERVER_FAULT, ErrorClass.SERVER_ERROR),
        (Answer(529, b""), StepVerdict.FAILED, Cause.SERVER_FAULT, ErrorClass.OVERLOADED),
    ],
)
async def test_what_a_status_says_of_a_key(
    answer: Answer, verdict: StepVerdict, cause: Cause, error: ErrorClass | None
) -> None:
    """Only a refusal and a fault of the server are failures, and evidence."""
    bench = Bench()
    bench.network.answers["/models"] = answer
    steps = await bench.steps()
    assert ends(steps)[3] == (verdict, cause)
    assert steps[3].detail == HttpDetail(answer.status)
    assert [found.error for found in bench.evidence] == [error]


async def test_a_model_that_the_vendor_does_not_have_is_named() -> None:
    """One that no list has is looked for by its name, as an alias is; what is then not there fails the step, and is
    no evidence against the provider."""
    bench = Bench()
    bench.serve("large")
    steps = await bench.steps()
    missing = ModelFinding("small", "small", ModelState.MISSING)
    assert ends(steps)[4] == (StepVerdict.FAILED, Cause.MODELS_MISSING)
    assert steps[4].detail == ModelsDetail(1, 2, (missing,))
    assert [found.error for found in bench.evidence] == [None]
    bench.network.answers["/models/small"] = Answer(200, b'{"id":"small-20260101"}')
    assert ends(await bench.steps())[4] == PASSED


async def test_who_does_not_say_whether_there_is_a_model_is_not_taken_at_a_word() -> None:
    """A fault or a limit while models are looked for by name is that, and no model is called missing."""
    bench = Bench()
    bench.serve("large")
    for status, end in (
        (500, (StepVerdict.FAILED, Cause.SERVER_FAULT)),
        (429, (StepVerdict.WARNING, Cause.RATE_LIMITED)),
    ):
        bench.network.answers["/models/small"] = Answer(status, b"")
        assert ends(await bench.steps())[4] == end


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"deprecation": "2027-01-01T00:00:00Z"}, 1_798_761_600.0),
        ({"is_deprecated": True}, None),
        ({"active": False}, None),
    ],
)
async def test_a_model_on_its_way_out_is_named(fields: dict[str, Any], end: float | None) -> None:
    """As Mistral, Cohere and Groq say it: a warning, with the end where the vendor names one."""
    bench = Bench()
    bench.serve("large", "small", **fields)
    steps = await bench.steps()
    assert ends(steps)[4] == (StepVerdict.WARNING, Cause.MODELS_RETIRING)
    assert isinstance(steps[4].detail, ModelsDetail)
    assert {found.ends for found in steps[4].detail.findings} == {end}


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[" * 100_000, b'{"data":7}', b"\xff", b'"list"', b"", b'{"data":' + b" " * 9_000_000],
)
async def test_a_list_that_is_none(body: bytes) -> None:
    """Nesting, sizes and shapes that no vendor sends are an unexpected answer, not an exception."""
    bench = Bench()
    bench.network.answers["/models"] = Answer(200, body)
    assert ends(await bench.steps())[4] == (StepVerdict.WARNING, Cause.UNEXPECTED_ANSWER)


async def test_entries_that_are_none_are_left_out() -> None:
    """A list with rubbish among its entries is read for the others."""
    bench = Bench()
    rows = [
        7,
        None,
        {"id": 5},
        {"name": "models/large"},
        {"id": "small", "deprecation": "soon"},
        {"id": "small"},
    ]
    bench.network.answers["/models"] = Answer(200, json.dumps(rows).encode())
    steps = await bench.steps()
    assert steps[4].detail == ModelsDetail(3, 2)


async def test_who_gives_up_leaves_no_connection() -> None:
    """A caller who goes away in the middle of a test closes it."""
    bench = Bench()
    bench.network.silent = "get"
    running = asyncio.create_task(bench.tester.test("acme"))
    while not bench.network.connections:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bench.network.connections[0].closed


async def test_every_key_and_every_endpoint_is_tested_once() -> None:
    """Two keys at three addresses: three tests, each key with the models that it may call."""
    bench = Bench()
    provider = Provider(
        "acme",
        "openai",
        "https://a.test",
        keys=(ProviderKey(env="KEY"), ProviderKey(env="WRONG_KEY", models=frozenset({"large"}))),
        endpoints=tuple(ProviderEndpoint(f"https://{name}.test") for name in "abc"),
    )
    bench.catalog = replace(bench.catalog, providers={"acme": provider})
    tests = await bench.tester.test("acme")
    assert [(tested.base_url, tested.key_name) for tested in tests] == [
        ("https://a.test", "KEY"),
        ("https://b.test", "WRONG_KEY"),
        ("https://c.test", "KEY"),
    ]
    assert [ends(tested.steps)[3] for tested in tests] == [
        PASSED,
        (StepVerdict.FAILED, Cause.KEY_REFUSED),
        PASSED,
    ]
    assert tests[0].steps[4].detail == ModelsDetail(2, 2)
    assert [result.error for result in bench.evidence] == [None]


def test_a_refused_key_speaks_for_the_provider_before_an_address_that_is_gone() -> None:
    """Of results that are all failures the one stands that shows most: the provider can be reached."""
    gone = ProbeResult("acme", 0.1, ErrorClass.TRANSPORT)
    refused = ProbeResult("acme", 0.1, ErrorClass.AUTHENTICATION)
    works = ProbeResult("acme", 0.1)
    assert best_result([gone, refused]) is refused
    assert best_result([gone, refused, works]) is works
    assert best_result([gone]) is gone


async def test_a_provider_that_is_not_in_the_catalog() -> None:
    """It is not found, before anything is asked."""
    bench = Bench()
    with pytest.raises(NotFound):
        await bench.tester.test("nobody" * 100)
    assert not bench.network.gotten
