"""Sends webhooks over HTTP.

Addresses are the operator's, but a name of theirs may come to lead into the operator's own network: of what it
resolves to, only public addresses are connected to, unless its host is allowed by name. Redirects are not followed.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from libs.clock import Clock
from libs.http.public_addresses import PublicResolver
from services.analytics.alerts.webhooks import Answer, SendError

#: Seconds for one try, connecting included.
TIMEOUT = 15.0


class HttpWebhook:
    """Satisfies `webhooks.Sender`. To be entered and left once."""

    def __init__(
        self,
        allowed_hosts: Collection[str],
        clock: Clock,
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`allowed_hosts`: those that may have internal addresses. `resolver`: None: the system's. `tls`: None: as
        the system trusts."""
        self._allowed = frozenset(allowed_hosts)
        self._clock = clock
        self._resolver = resolver
        self._tls = tls
        self._public: aiohttp.ClientSession
        self._internal: aiohttp.ClientSession

    async def __aenter__(self) -> HttpWebhook:
        resolver = self._resolver or aiohttp.ThreadedResolver()
        self._public = self._session(PublicResolver(resolver))
        self._internal = self._session(resolver)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._public.close()
        await self._internal.close()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """See `Sender.send`."""
        session = self._internal if URL(url).raw_host in self._allowed else self._public
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                asked = response.headers.get("retry-after", "")
                return Answer(response.status, retry_after(asked, self._clock.now()))
        except aiohttp.ClientConnectorDNSError:
            raise SendError("its name leads to no address that may be called") from None
        except TimeoutError:
            raise SendError("it is silent") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The text may repeat the address, which may hold a secret of its own.
            raise SendError(f"it cannot be reached ({type(error).__name__})") from None

    def _session(self, resolver: AbstractResolver) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=resolver, ssl=self._tls or True, limit=16, use_dns_cache=False, force_close=True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(TIMEOUT),
            headers={"user-agent": "pointsman"},
        )


def retry_after(text: str, now: float) -> float | None:
    """Returns the seconds of a Retry-After header at `now` (epoch seconds), a number or a date (RFC 9110, 10.2.3);
    None: there is none."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return None if at.tzinfo is None else max(0.0, at.timestamp() - now)
