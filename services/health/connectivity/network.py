"""The port of the tests: single steps towards a host. Each may wait for ever; its caller bounds it in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.connectivity import Cause, CertificateDetail

#: The most addresses of a name that are tried.
MOST_ADDRESSES = 8


class StepFailed(Exception):
    """A step found out why it cannot succeed."""

    def __init__(self, cause: Cause, certificate: CertificateDetail | None = None) -> None:
        super().__init__(cause.value)
        self.cause = cause
        self.certificate = certificate


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address and a port."""

    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that is trusted and in force. `begins` and `ends` in epoch seconds; `protocol`: TLS's version."""

    begins: float
    ends: float
    issuer: str
    protocol: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of HTTP. `body` None: it is longer than was asked for."""

    status: int
    body: bytes | None


class Connection(Protocol):
    """A TCP connection."""

    @property
    def address(self) -> Address:
        """The peer's address."""
        ...

    async def secure(self, host: str) -> Certificate:
        """Makes it a TLS connection to `host`. Raises StepFailed, with the certificate as far as it could be read
        where it is not trusted. At most once a connection."""
        ...

    def close(self) -> None:
        """Closes it."""
        ...


class Network(Protocol):
    """The way to a provider. Its caller bounds every call in time, and may cancel it."""

    async def resolve(self, host: str, port: int) -> tuple[Address, ...]:
        """Returns the addresses of a name, at least one, at most MOST_ADDRESSES. Raises StepFailed."""
        ...

    async def connect(self, addresses: Sequence[Address]) -> Connection:
        """Returns a connection to the first that takes one. Raises StepFailed with the cause of the last that did
        not."""
        ...

    async def get(self, url: str, headers: Mapping[str, str], most: int) -> Answer:
        """Returns the answer to a GET, with a body of at most `most` bytes. Redirects are not followed. Raises
        StepFailed."""
        ...
