"""Fetches images and files from hosts that the operator allows.

An address comes from a caller, so it must lead nowhere else: https alone, an allowed host by its very name and at the
usual port, no redirects, no credentials, and of what the name resolves to no address inside any network
(https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html). The
connection goes to the addresses that were looked at, so that a name cannot change between the look and the call. The
bytes are bounded as they come, whatever their length claims.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from types import TracebackType

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from libs.http.public_addresses import PublicResolver
from services.router.api.accept import MAX_PROMPT_BYTES
from services.router.api.fetched import FetchError

#: Bytes that one address may hold: more than any image or file may have.
MOST_BYTES = MAX_PROMPT_BYTES
#: Seconds to open a connection, and between two pieces.
_SILENCE = 5.0


class HttpFetcher:
    """Satisfies `fetched.Fetcher`. To be entered and left once."""

    def __init__(
        self,
        hosts: frozenset[str],
        *,
        port: int = 443,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """`hosts`: names in lower case. `tls`: None: as the system trusts. `resolver`: None: the system's, of public
        addresses alone."""
        self._hosts = hosts
        self._port = port
        self._tls = tls
        self._resolver = resolver
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> HttpFetcher:
        resolver = self._resolver or PublicResolver(aiohttp.ThreadedResolver())
        connector = aiohttp.TCPConnector(
            resolver=resolver, ssl=self._tls or True, limit=32, limit_per_host=16, use_dns_cache=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(None, sock_connect=_SILENCE, sock_read=_SILENCE),
            headers={"user-agent": "pointsman", "accept-encoding": "identity"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    def allows(self, url: str) -> bool:
        """See `Fetcher.allows`."""
        return self._read(url) is not None

    async def fetch(self, url: str, count: Callable[[int], None]) -> bytes:
        """See `Fetcher.fetch`."""
        address = self._read(url)
        if address is None:
            raise FetchError("its host is not allowed")
        try:
            async with self._session.get(address, allow_redirects=False) as response:
                if response.status != 200:
                    raise FetchError(f"its host answered with status {response.status}")
                return await _read_body(response, count)
        except aiohttp.ClientConnectorDNSError:
            raise FetchError("its host's name does not lead to a public address") from None
        except TimeoutError:
            raise FetchError("its host is silent") from None
        except (aiohttp.ClientError, OSError, ValueError):
            # Their text may repeat the address, or hold what an attacker's host has sent.
            raise FetchError("its host could not be reached") from None

    def _read(self, url: str) -> URL | None:
        """Returns the address as it will be called; None where it must not be. The same reading decides and calls."""
        try:
            address = URL(url)
            port = address.port
        except ValueError:
            return None
        named = address.scheme == "https" and address.raw_host in self._hosts and port == self._port
        return address.with_fragment(None) if named and address.user is None else None


async def _read_body(response: aiohttp.ClientResponse, count: Callable[[int], None]) -> bytes:
    """Returns the body, its bytes counted as they come. Raises FetchError where there are too many."""
    too_many = FetchError(f"it holds more than {MOST_BYTES} bytes")
    if (response.content_length or 0) > MOST_BYTES:
        raise too_many
    pieces: list[bytes] = []
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > MOST_BYTES:
            raise too_many
        count(len(piece))
        pieces.append(piece)
    return b"".join(pieces)
