"""Addresses of the public internet alone, for calls whose address somebody else has chosen
(https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

#: All unicast addresses of IPv6 that have been given out
#: (https://www.iana.org/assignments/ipv6-address-space/ipv6-address-space.xhtml). Outside of it lie, beside private
#: ones that Python knows, those that hold one of IPv4 inside (::/96, ::ffff:0:0:0/96, 64:ff9b::/96) and fec0::/10.
_UNICAST = IPv6Network("2000::/3")


def is_public(address: str) -> bool:
    """Returns True if an IP address belongs to the public internet."""
    found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found not in _UNICAST or found.sixtofour or found.teredo:
            return False
    return found.is_global and not found.is_multicast


def is_internal_literal(host: str) -> bool:
    """Returns True if a URL's host is written as an address, in any notation of digits that a system's resolver
    reads, and not a public one. aiohttp asks no resolver for such a host."""
    if ":" not in host and not host.replace(".", "").isdigit():
        return False
    try:
        return not is_public(host)
    except ValueError:
        # 127.1, 0177.0.0.1 and 2130706433 are all the same host, this one.
        return True


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses alone."""

    def __init__(self, resolver: AbstractResolver, is_allowed: Callable[[str], bool] = is_public) -> None:
        self._resolver = resolver
        self._is_allowed = is_allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Returns the addresses that may be called. Raises OSError where there is none."""
        found = [
            result
            for result in await self._resolver.resolve(host, port, family)
            if self._is_allowed(result["host"])
        ]
        if not found:
            raise OSError("the name has no public address")
        return found

    async def close(self) -> None:
        """Ends the resolver."""
        await self._resolver.close()
