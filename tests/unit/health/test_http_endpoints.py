"""Probing providers' free endpoints, without a network."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from libs.catalog.kinds import KINDS
from libs.catalog.model import Provider
from libs.catalog.routes import ProviderEndpoint, ProviderKey
from libs.catalog.secrets import Keys
from libs.types import ErrorClass
from services.health.adapters.http_endpoints import HttpEndpoints
from services.health.domain.evidence import ProbeResult
from tests.support.clock import ManualClock

SECRET = "sk-very-secret"


async def probe(provider: Provider, answer: Callable[[httpx.Request], httpx.Response]) -> ProbeResult:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        return await HttpEndpoints(client, Keys({"KEY": SECRET}), ManualClock()).probe(provider)


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_every_kind_is_asked_something_free(kind: str) -> None:
    """A GET without a body, and the key only in the header that the vendor reads."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"data": []})

    result = await probe(Provider("p", kind, "https://vendor.test/base", api_key_env="KEY"), answer)
    assert result.error is None
    (request,) = seen
    assert (request.method, request.content) == ("GET", b"")
    assert SECRET not in str(request.url)
    assert request.url.path.startswith("/base/")
    assert "completions" not in request.url.path
    carrying = [name for name, value in request.headers.items() if SECRET in value]
    assert len(carrying) <= 1
    assert set(carrying) <= {"authorization", "x-api-key", "x-goog-api-key", "api-key"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, None),
        (301, None),
        (400, None),
        (401, ErrorClass.AUTHENTICATION),
        (403, None),
        (404, None),
        (429, None),
        (500, ErrorClass.SERVER_ERROR),
        (503, ErrorClass.OVERLOADED),
        (529, ErrorClass.OVERLOADED),
    ],
)
async def test_what_a_status_says(status: int, error: ErrorClass | None) -> None:
    """Any answer shows that the provider can be reached; only a few say that something is wrong."""
    provider = Provider("p", "openai", "https://vendor.test/v1", api_key_env="KEY")
    assert (await probe(provider, lambda _: httpx.Response(status))).error is error


async def test_what_does_not_answer() -> None:
    """Refused, timed out and impossible addresses are results, not exceptions, and name no key."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    def hang(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    def garble(request: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError(f"illegal status line: Bearer {SECRET}", request=request)

    provider = Provider("p", "openai", "https://vendor.test/v1", api_key_env="KEY")
    answers = ((refuse, ErrorClass.TRANSPORT), (hang, ErrorClass.TIMEOUT), (garble, ErrorClass.TRANSPORT))
    for answer, error in answers:
        result = await probe(provider, answer)
        assert result.error is error
        assert result.message
        assert SECRET not in result.message


async def test_a_key_that_only_routers_have_is_no_fault_of_the_provider() -> None:
    """Without the key it is asked all the same: a 401 then shows that it is there, and the operator is told why."""
    provider = Provider("p", "openai", "https://vendor.test/v1", api_key_env="OTHER_KEY")
    result = await probe(
        provider, lambda request: httpx.Response(500 if "authorization" in request.headers else 401)
    )
    assert result.error is None
    assert "OTHER_KEY" in result.message
    assert (await probe(provider, lambda _: httpx.Response(500))).error is ErrorClass.SERVER_ERROR
    keyless = Provider("p", "ollama", "http://127.0.0.1:1/v1")
    answered = await probe(
        keyless, lambda request: httpx.Response(200 if "authorization" not in request.headers else 500)
    )
    assert answered.error is None


@pytest.mark.parametrize(
    ("eu", "us", "error", "asked"),
    [
        (200, 200, None, 1),
        (503, 200, None, 2),
        (401, 200, None, 2),
        (503, 500, ErrorClass.SERVER_ERROR, 2),
        (401, 503, ErrorClass.AUTHENTICATION, 2),
    ],
)
async def test_one_of_several_that_works_is_enough(
    eu: int, us: int, error: ErrorClass | None, asked: int
) -> None:
    """A refused key or a failed endpoint of several is no fault of the provider, each is asked once."""
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(eu if request.url.host == "eu.test" else us)

    pool = Provider(
        "p",
        "openai_compatible",
        "http://eu.test",
        keys=(ProviderKey("KEY"), ProviderKey("OTHER")),
        endpoints=(ProviderEndpoint("http://eu.test"), ProviderEndpoint("http://us.test")),
    )
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        keys = Keys({"KEY": SECRET, "OTHER": "sk-other"})
        result = await HttpEndpoints(client, keys, ManualClock()).probe(pool)
    assert result.error is error
    assert hosts == ["eu.test", "us.test"][:asked]
