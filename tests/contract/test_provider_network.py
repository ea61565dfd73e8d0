"""The contract of every Network: the same suite for the fake and for real sockets, names and certificates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from libs.connectivity import Cause
from services.health.connectivity.http_network import HttpNetwork
from services.health.connectivity.network import Address, Answer, Certificate, Network, StepFailed
from tests.support.provider_network import YEAR, FakeNetwork, untrusted
from tests.support.tls_server import CERTIFICATES, EXPIRED_ENDS, GOOD_ENDS, closed_port, serving, trust

BODY = b'{"data":[{"id":"large"}]}'
SUPPORT = CERTIFICATES.parent
SELF_SIGNED = (SUPPORT / "localhost_cert.pem", SUPPORT / "localhost_key.pem")


class Bench(Protocol):
    """A network with a host on it that does as it is told."""

    @property
    def network(self) -> Network:
        """The network."""
        ...

    async def host(self, certificate: str) -> Address:
        """Returns the address of a host with that certificate: good, expired, elsewhere or self_signed."""
        ...

    async def nobody(self) -> Address:
        """Returns an address on which nothing listens."""
        ...


class FakeBench:
    def __init__(self) -> None:
        self.network = FakeNetwork(names={"localhost": (Address("127.0.0.1", 443),)})
        self.network.answers["/v1/models"] = Answer(200, BODY)

    async def host(self, certificate: str) -> Address:
        shown: dict[str, Certificate | StepFailed] = {
            "good": Certificate(GOOD_ENDS - 20 * YEAR, GOOD_ENDS, "Test Trust", "TLSv1.3"),
            "expired": untrusted(Cause.CERTIFICATE_EXPIRED, EXPIRED_ENDS),
            "elsewhere": untrusted(Cause.CERTIFICATE_FOR_ANOTHER_HOST, GOOD_ENDS),
            "self_signed": untrusted(Cause.CERTIFICATE_UNTRUSTED, GOOD_ENDS),
        }
        self.network.certificate = shown[certificate]
        return Address("127.0.0.1", 443)

    async def nobody(self) -> Address:
        self.network.refusing = True
        return Address("127.0.0.1", 1)


class RealBench:
    def __init__(self, stack: AsyncExitStack, client: httpx.AsyncClient) -> None:
        self.network = HttpNetwork(client, trust())
        self._stack = stack

    async def host(self, certificate: str) -> Address:
        own: tuple[Path, Path | None] = (CERTIFICATES / f"{certificate}.pem", None)
        files = SELF_SIGNED if certificate == "self_signed" else own
        return Address("127.0.0.1", await self._stack.enter_async_context(serving(*files, BODY)))

    async def nobody(self) -> Address:
        return Address("127.0.0.1", self._stack.enter_context(closed_port()))


@pytest.fixture(params=["fake", "real"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "fake":
        yield FakeBench()
        return
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(verify=trust(), trust_env=False, timeout=10.0)
        )
        yield RealBench(stack, client)


async def test_a_name_has_addresses(bench: Bench) -> None:
    """A known name has some, each with the port; an unknown one is told from all else."""
    found = await bench.network.resolve("localhost", 443)
    assert {address.port for address in found} == {443}
    assert "127.0.0.1" in {address.ip for address in found}
    with pytest.raises(StepFailed) as caught:
        await bench.network.resolve("no-such-host.invalid", 443)
    assert caught.value.cause is Cause.NAME_UNKNOWN


async def test_a_connection_knows_its_address(bench: Bench) -> None:
    """The address that took it is told; where nothing listens that is the cause."""
    address = await bench.host("good")
    connection = await bench.network.connect([address])
    assert connection.address == address
    connection.close()
    with pytest.raises(StepFailed) as caught:
        await bench.network.connect([await bench.nobody()])
    assert caught.value.cause is Cause.CONNECTION_REFUSED


async def test_a_trusted_certificate_is_read(bench: Bench) -> None:
    """Its end, its issuer and the protocol."""
    connection = await bench.network.connect([await bench.host("good")])
    shown = await connection.secure("localhost")
    connection.close()
    assert (shown.ends, shown.issuer) == (GOOD_ENDS, "Test Trust")
    assert shown.begins < shown.ends
    assert shown.protocol.startswith("TLSv1.")


@pytest.mark.parametrize(
    ("certificate", "cause", "ends"),
    [
        ("expired", Cause.CERTIFICATE_EXPIRED, EXPIRED_ENDS),
        ("elsewhere", Cause.CERTIFICATE_FOR_ANOTHER_HOST, GOOD_ENDS),
        ("self_signed", Cause.CERTIFICATE_UNTRUSTED, None),
    ],
)
async def test_a_certificate_that_is_not_trusted_is_read_all_the_same(
    bench: Bench, certificate: str, cause: Cause, ends: float | None
) -> None:
    """Each cause is told from the others, and the certificate's end is known."""
    connection = await bench.network.connect([await bench.host(certificate)])
    with pytest.raises(StepFailed) as caught:
        await connection.secure("localhost")
    connection.close()
    assert caught.value.cause is cause
    assert caught.value.certificate is not None
    assert caught.value.certificate.ends is not None
    assert ends in (None, caught.value.certificate.ends)


async def test_a_body_is_read_up_to_its_bound(bench: Bench) -> None:
    """A body of the bound's length comes, of a longer one only the status."""
    address = await bench.host("good")
    url = f"https://localhost:{address.port}/v1/models"
    assert await bench.network.get(url, {}, len(BODY)) == Answer(200, BODY)
    assert await bench.network.get(url, {}, len(BODY) - 1) == Answer(200, None)
