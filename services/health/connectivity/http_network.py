"""The network: the system's resolver, sockets, TLS and httpx."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from libs.connectivity import Cause, CertificateDetail
from services.health.connectivity.network import MOST_ADDRESSES, Address, Answer, Certificate, StepFailed

#: Seconds after which the next address is tried beside the one that has not answered (RFC 8305, section 5).
_NEXT_ADDRESS = 0.25
# OpenSSL's X509_V_ERR_*: x509_vfy.h.
_EXPIRED = frozenset({9, 10})
_ANOTHER_HOST = frozenset({62, 63, 64})
#: X509_V_FLAG_NO_CHECK_TIME, for which Python has no name.
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)


class TcpConnection:
    """Satisfies `Connection`. `trust` says whose certificates are trusted."""

    def __init__(self, own: socket.socket, address: Address, trust: ssl.SSLContext) -> None:
        self._socket = own
        self.address = address
        self._trust = trust
        self._transport: asyncio.Transport | None = None

    async def secure(self, host: str) -> Certificate:
        try:
            own = await self._handshake(self._socket, self._trust, host)
        except ssl.SSLCertVerificationError as error:
            code = error.verify_code
            if code in _EXPIRED:
                cause = Cause.CERTIFICATE_EXPIRED
            else:
                another = code in _ANOTHER_HOST
                cause = Cause.CERTIFICATE_FOR_ANOTHER_HOST if another else Cause.CERTIFICATE_UNTRUSTED
            raise StepFailed(cause, await self._read_untrusted(host)) from error
        except TimeoutError:
            raise
        except OSError as error:  # ssl.SSLError is one
            raise StepFailed(Cause.TLS_FAILED) from error
        shown = own.getpeercert() or {}
        ends = ssl.cert_time_to_seconds(str(shown["notAfter"]))
        begins = ssl.cert_time_to_seconds(str(shown["notBefore"]))
        return Certificate(float(begins), float(ends), _issuer(shown), own.version() or "")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._socket.close()

    async def _handshake(self, own: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLObject:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            asyncio.Protocol, sock=own, ssl=context, server_hostname=host
        )
        self._transport = transport
        found: ssl.SSLObject = transport.get_extra_info("ssl_object")
        return found

    async def _read_untrusted(self, host: str) -> CertificateDetail:
        """Returns the certificate that was not trusted. Python reads the fields of a trusted one alone, so it is
        asked for again, and then trusted itself for one more handshake, over which nothing is sent."""
        anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anything.check_hostname = False
        anything.verify_mode = ssl.CERT_NONE
        itself = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        itself.check_hostname = False
        itself.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        try:
            itself.load_verify_locations(cadata=await self._again(anything, host, binary=True))
            shown = await self._again(itself, host, binary=False)
            return CertificateDetail(float(ssl.cert_time_to_seconds(str(shown["notAfter"]))), _issuer(shown))
        except (OSError, KeyError, ValueError):
            return CertificateDetail(None)

    async def _again(self, context: ssl.SSLContext, host: str, *, binary: bool) -> Any:
        own = await _open(self.address)
        try:
            made = await self._handshake(own, context, host)
            return made.getpeercert(binary_form=binary)
        finally:
            self.close()
            own.close()


class HttpNetwork:
    """Satisfies `Network`. `client` must follow no redirects; `trust` is the one that it was made with."""

    def __init__(self, client: httpx.AsyncClient, trust: ssl.SSLContext) -> None:
        self._client = client
        self._trust = trust

    async def resolve(self, host: str, port: int) -> tuple[Address, ...]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise StepFailed(Cause.NAME_UNKNOWN) from error
        addresses = dict.fromkeys(Address(str(place[0]), int(place[1])) for *_, place in found)
        if not addresses:
            raise StepFailed(Cause.NAME_UNKNOWN)
        return tuple(addresses)[:MOST_ADDRESSES]

    async def connect(self, addresses: Sequence[Address]) -> TcpConnection:
        tasks = [
            asyncio.create_task(_open(address, position * _NEXT_ADDRESS))
            for position, address in enumerate(addresses)
        ]
        by_task = dict(zip(tasks, addresses, strict=True))
        waiting, error = set(tasks), OSError()
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    failure = task.exception()
                    if failure is None:
                        del by_task[task]
                        return TcpConnection(task.result(), _address_of(task.result()), self._trust)
                    if not isinstance(failure, OSError):
                        raise failure
                    error = failure
        finally:
            await _drop(by_task)
        if isinstance(error, TimeoutError):
            raise StepFailed(Cause.TIMED_OUT) from error
        refused = isinstance(error, ConnectionRefusedError)
        raise StepFailed(Cause.CONNECTION_REFUSED if refused else Cause.UNREACHABLE) from error

    async def get(self, url: str, headers: Mapping[str, str], most: int) -> Answer:
        body = bytearray()
        # Not packed: what is unpacked from a few bytes may be far above the bound.
        asked = {**headers, "accept-encoding": "identity"}
        try:
            async with self._client.stream("GET", url, headers=asked) as response:
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > most:
                        return Answer(response.status_code, None)
                return Answer(response.status_code, bytes(body))
        except httpx.TimeoutException as error:
            raise StepFailed(Cause.TIMED_OUT) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise StepFailed(Cause.CONNECTION_LOST) from error


async def _open(address: Address, delay: float = 0.0) -> socket.socket:
    await asyncio.sleep(delay)
    family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
    own = socket.socket(family, socket.SOCK_STREAM)
    try:
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, (address.ip, address.port))
    except BaseException:
        own.close()
        raise
    return own


def _address_of(own: socket.socket) -> Address:
    place = own.getpeername()
    return Address(str(place[0]), int(place[1]))


async def _drop(tasks: Mapping[asyncio.Task[socket.socket], Address]) -> None:
    """Ends the attempts that are not needed, and closes what they have opened."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, socket.socket):
            result.close()


def _issuer(shown: Mapping[str, Any]) -> str:
    """Returns the issuer's organisation, else its common name."""
    names = {key: value for part in shown.get("issuer", ()) for key, value in part}
    return str(names.get("organizationName") or names.get("commonName") or "")[:200]
