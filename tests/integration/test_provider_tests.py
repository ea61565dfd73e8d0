"""Tests of providers over real sockets: the simulator, real certificates, and places where nobody answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from libs.catalog.model import Provider
from libs.catalog.secrets import Keys
from libs.clock import Clock, SystemClock
from libs.connectivity import (
    Cause,
    CertificateDetail,
    EndpointTest,
    ModelFinding,
    ModelsDetail,
    ModelState,
    StepVerdict,
)
from services.health.connectivity.http_network import HttpNetwork
from services.health.connectivity.tester import ProviderTester
from services.health.domain.evidence import ProbeResult
from tests.support.clock import ManualClock
from tests.support.health import make_catalog
from tests.support.simulator import Simulator, running_simulator
from tests.support.tls_server import (
    CERTIFICATES,
    EXPIRED_ENDS,
    GOOD_ENDS,
    black_hole,
    closed_port,
    mute_port,
    serving,
    trust,
)

SECRET = "sk-very-secret"
SKIPPED = (StepVerdict.SKIPPED, Cause.EARLIER_STEP_FAILED)
PASSED = (StepVerdict.PASSED, None)
NO_TLS = (StepVerdict.SKIPPED, Cause.NOT_OFFERED)


@pytest.fixture(scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running


async def examine(
    base_url: str,
    kind: str = "openai",
    *,
    timeout: float = 10.0,
    clock: Clock | None = None,
    key: str = SECRET,
) -> EndpointTest:
    """Tests a provider with the models `large` and `small` at that address."""
    catalog = make_catalog({"acme": ("large", "small")})
    provider = Provider("acme", kind, base_url, api_key_env="KEY")
    evidence: list[ProbeResult] = []
    async with httpx.AsyncClient(verify=trust(), trust_env=False, timeout=timeout) as client:
        tester = ProviderTester(
            HttpNetwork(client, trust()),
            Keys({"KEY": key}),
            lambda: replace(catalog, providers={"acme": provider}),
            evidence.append,
            clock or SystemClock(),
            timeout,
        )
        (found,) = await tester.test("acme")
    assert len(found.steps) == 5
    assert key not in repr((found, evidence))
    return found


def ends(found: EndpointTest) -> list[tuple[StepVerdict | None, Cause | None]]:
    return [(step.verdict, step.cause) for step in found.steps]


@pytest.mark.parametrize(
    ("kind", "path"),
    [("openai", "/v1"), ("anthropic", ""), ("gemini", ""), ("cohere", ""), ("mistral", "/v1")],
)
async def test_keys_and_models_at_a_simulated_vendor(simulator: Simulator, kind: str, path: str) -> None:
    """On each wire: a right key passes, a wrong one is refused, and one of the catalog's models that the vendor does
    not have is named; nothing is generated."""
    name = f"test-{kind}"
    base_url = simulator.base(name) + path
    await simulator.set(name, expect_key=SECRET, models=["large", "small"])
    assert ends(await examine(base_url, kind)) == [PASSED, PASSED, NO_TLS, PASSED, PASSED]
    wrong = await examine(base_url, kind, key="sk-wrong-secret")
    assert ends(wrong)[3:] == [(StepVerdict.FAILED, Cause.KEY_REFUSED), SKIPPED]
    await simulator.set(name, expect_key=SECRET, models=["large", "other"])
    found = await examine(base_url, kind)
    assert ends(found)[4] == (StepVerdict.FAILED, Cause.MODELS_MISSING)
    missing = ModelFinding("small", "small", ModelState.MISSING)
    assert found.steps[4].detail == ModelsDetail(2, 2, (missing,))
    assert (await simulator.counters(name))["requests"] == 0


async def test_a_slow_step_is_ended_and_told(simulator: Simulator) -> None:
    """A vendor that hangs is a timeout of that step alone, and what follows is skipped."""
    await simulator.set("hanging", faults=[{"kind": "silence", "when": {"endpoint": "models"}}])
    found = await examine(simulator.base("hanging") + "/v1", timeout=0.3)
    assert ends(found)[3:] == [(StepVerdict.FAILED, Cause.TIMED_OUT), SKIPPED]


async def test_names_and_ports() -> None:
    """An unresolvable name, a closed port, and a black hole each have a verdict of their own."""
    found = await examine("https://no-such-host.invalid/v1")
    assert ends(found) == [(StepVerdict.FAILED, Cause.NAME_UNKNOWN), *[SKIPPED] * 4]
    with closed_port() as port:
        found = await examine(f"http://127.0.0.1:{port}")
    assert ends(found) == [PASSED, (StepVerdict.FAILED, Cause.CONNECTION_REFUSED), *[SKIPPED] * 3]
    with black_hole() as port:
        found = await examine(f"http://127.0.0.1:{port}", timeout=0.3)
    assert ends(found) == [PASSED, (StepVerdict.FAILED, Cause.TIMED_OUT), *[SKIPPED] * 3]


async def test_a_port_that_takes_connections_and_says_nothing() -> None:
    """The connection passes; the handshake, or without TLS the answer, runs out of time."""
    with mute_port() as port:
        found = await examine(f"https://localhost:{port}", timeout=0.3)
        assert ends(found)[1:] == [PASSED, (StepVerdict.FAILED, Cause.TIMED_OUT), SKIPPED, SKIPPED]
        found = await examine(f"http://localhost:{port}", timeout=0.3)
        assert ends(found)[1:] == [PASSED, NO_TLS, (StepVerdict.FAILED, Cause.TIMED_OUT), SKIPPED]


SUPPORT = CERTIFICATES.parent


@pytest.mark.parametrize(
    ("certificate", "key", "cause"),
    [
        (CERTIFICATES / "expired.pem", None, Cause.CERTIFICATE_EXPIRED),
        (CERTIFICATES / "elsewhere.pem", None, Cause.CERTIFICATE_FOR_ANOTHER_HOST),
        (SUPPORT / "localhost_cert.pem", SUPPORT / "localhost_key.pem", Cause.CERTIFICATE_UNTRUSTED),
    ],
)
async def test_a_bad_certificate(certificate: Path, key: Path | None, cause: Cause) -> None:
    """Its end is told, and no key is sent to whoever shows it."""
    async with serving(certificate, key) as port:
        found = await examine(f"https://localhost:{port}")
    assert ends(found)[2:] == [(StepVerdict.FAILED, cause), SKIPPED, SKIPPED]
    detail = found.steps[2].detail
    assert isinstance(detail, CertificateDetail)
    assert detail.ends is not None
    if cause is Cause.CERTIFICATE_EXPIRED:
        assert detail.ends == EXPIRED_ENDS


async def test_a_good_certificate_and_its_last_days() -> None:
    """It passes with its end; five days before that it is a warning, and the other steps run."""
    async with serving(CERTIFICATES / "good.pem") as port:
        url = f"https://localhost:{port}"
        early = await examine(url)
        assert ends(early)[2] == PASSED
        assert isinstance(early.steps[2].detail, CertificateDetail)
        assert early.steps[2].detail.ends == GOOD_ENDS
        late = await examine(url, clock=ManualClock(now=GOOD_ENDS - 5 * 86_400))
    assert ends(late)[2] == (StepVerdict.WARNING, Cause.CERTIFICATE_ENDS_SOON)
    assert ends(late)[3] == (StepVerdict.WARNING, Cause.KEY_NOT_PROVEN)


async def test_what_speaks_no_tls_or_no_http(simulator: Simulator) -> None:
    """Plain HTTP where TLS is expected, and the other way round."""
    plain = simulator.base("plain").replace("http:", "https:")
    assert ends(await examine(plain))[2] == (StepVerdict.FAILED, Cause.TLS_FAILED)
    async with serving(CERTIFICATES / "good.pem") as port:
        assert ends(await examine(f"http://localhost:{port}"))[3] == (
            StepVerdict.FAILED,
            Cause.CONNECTION_LOST,
        )
