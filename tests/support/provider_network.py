"""A network that answers as told. Satisfies `Network`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from libs.connectivity import Cause, CertificateDetail
from services.health.connectivity.network import Address, Answer, Certificate, StepFailed

YEAR = 365 * 86_400.0


@dataclass
class FakeConnection:
    """Shows the certificate that it was given, or fails as told."""

    address: Address
    certificate: Certificate | StepFailed
    closed: bool = False

    async def secure(self, host: str) -> Certificate:
        if isinstance(self.certificate, StepFailed):
            raise self.certificate
        return self.certificate

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeNetwork:
    """`names` None: every name has one address. `refusing`: nothing listens; `silent`: nothing ever comes of a step
    of that name ("resolve", "connect", "secure", "get"). `answers`: by path and query, else an empty list of models;
    with the key that each takes, empty: any. `gotten`: every path and query asked for, in order."""

    names: Mapping[str, tuple[Address, ...]] | None = None
    refusing: bool = False
    silent: str = ""
    certificate: Certificate | StepFailed = field(
        default_factory=lambda: Certificate(0.0, 100 * YEAR, "Fake Trust", "TLSv1.3")
    )
    answers: dict[str, Answer] = field(default_factory=dict)
    key: str = ""
    gotten: list[str] = field(default_factory=list)
    connections: list[FakeConnection] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> tuple[Address, ...]:
        await self._wait("resolve")
        if self.names is None:
            return (Address("127.0.0.1", port),)
        if host not in self.names:
            raise StepFailed(Cause.NAME_UNKNOWN)
        return self.names[host]

    async def connect(self, addresses: Sequence[Address]) -> FakeConnection:
        await self._wait("connect")
        if self.refusing:
            raise StepFailed(Cause.CONNECTION_REFUSED)
        self.connections.append(FakeConnection(addresses[0], self.certificate))
        return self.connections[-1]

    async def get(self, url: str, headers: Mapping[str, str], most: int) -> Answer:
        await self._wait("get")
        path = "/" + url.split("/", 3)[3]
        self.gotten.append(path)
        if self.key and not any(self.key in value for value in headers.values()):
            return Answer(401, b"{}")
        answer = self.answers.get(path, Answer(404, b"{}") if self.answers else Answer(200, b'{"data":[]}'))
        long = answer.body is not None and len(answer.body) > most
        return Answer(answer.status, None) if long else answer

    async def _wait(self, step: str) -> None:
        if step == self.silent:
            await asyncio.Event().wait()


def untrusted(cause: Cause, ends: float) -> StepFailed:
    """Returns the failure of a handshake with a certificate that ends then."""
    return StepFailed(cause, CertificateDetail(ends, "Nobody"))
