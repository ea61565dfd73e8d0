"""Every environment variable of the router."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from libs.breaker_variables import BreakerVariables
from libs.intake import CALL_BYTES
from libs.settings import Certificates, OptionalAddress, ServiceSettings, key_of, names_of

#: Bytes that requests being served may hold, as they came, of all tenants and of one. Decoded, as text and written
#: for a provider they take three times that, and up to sixteen times where a text has one emoji (four bytes for each
#: of its characters) and else control characters (six bytes of JSON for each). A request counts `CALL_BYTES` besides,
#: and takes nine times that. So the least fits into a pod of 512 MiB whatever the texts are; 392 MiB were measured
#: for 24 MiB of the worst. A pod with more memory may hold more.
LEAST_BYTES = 20 * 1024 * 1024
#: One tenant's share, in fifths: the largest request fits into that of the least.
SHARE_OF_ONE = 3
#: A name with a top-level domain, so no IP address and no name of a network's own.
_HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])")
MOST_BODY = SHARE_OF_ONE * LEAST_BYTES // 5 - CALL_BYTES


class RouterSettings(BreakerVariables, ServiceSettings):
    """`POINTSMAN_ROUTER_*`."""

    model_config = SettingsConfigDict(
        env_prefix="POINTSMAN_ROUTER_", extra="ignore", frozen=True, populate_by_name=True
    )

    #: The two doors, gRPC and HTTP; empty: that one is shut.
    listen: OptionalAddress = "127.0.0.1:7700"
    http_listen: OptionalAddress = "127.0.0.1:7780"
    #: PEM files for HTTPS; none: plain HTTP, as behind an ingress that ends TLS.
    http_certificate: Certificates = None
    http_key: Annotated[Path | None, *key_of("http_certificate")] = Field(None, validate_default=True)
    #: The largest body of an HTTP request in bytes; a larger one is refused with 413.
    http_max_body: int = Field(10_000_000, ge=1024, le=MOST_BODY)
    #: A stream that has said nothing for so many seconds says that it lives; 0: it stays silent.
    heartbeat: float = Field(10.0, ge=0, le=3600)
    #: Host names, by commas, from which images and files are fetched where a request gives their address.
    fetch_hosts: str = ""
    #: Bytes of requests being served, of all tenants; one may hold three fifths. What is beyond is refused at once.
    bytes_in_flight: int = Field(LEAST_BYTES, ge=LEAST_BYTES)
    #: `host:port`, or `dns:///service:port` to balance over all replicas.
    health_target: str = "127.0.0.1:7701"
    ratelimit_target: str = "127.0.0.1:7702"
    analytics_target: str = "127.0.0.1:7703"
    #: Usage records wait here until the ledger holds them: one directory a process, on a disk that outlives it.
    spool_dir: Path = Path(".data/router/spool")
    spool_max_bytes: int = Field(512 * 1024 * 1024, ge=1024 * 1024)
    #: Share of each rate limit that this replica may admit by itself while the limiter is gone, 0 to 1.
    local_share: float = Field(0.25, ge=0, le=1)
    #: The start waits so long for the limiter before it serves without it, seconds.
    limiter_wait: float = Field(10.0, ge=0, le=600)
    #: Capacity that comes back within this many seconds is waited for in a queue, where the policy allows it.
    queue_within: float = Field(5.0, ge=0, le=60)
    #: Nobody waits longer than this, seconds.
    queue_longest: float = Field(30.0, gt=0, le=600)
    #: The most requests that wait, in all and of one tenant.
    queue_most: int = Field(1000, ge=0, le=100_000)
    queue_most_of_tenant: int = Field(250, ge=0, le=100_000)
    #: Attempts in vain beyond the first, as a share of the requests of the last minute; probes need the rest of 0.1.
    retry_ratio: float = Field(0.08, ge=0, le=10)
    #: Attempts in vain a minute that are allowed whatever the traffic, as long as something answers.
    retry_minimum: int = Field(50, ge=0)

    @property
    def hosts_to_fetch_from(self) -> frozenset[str]:
        """Returns the names in `fetch_hosts`."""
        return names_of(self.fetch_hosts)

    @field_validator("fetch_hosts")
    @classmethod
    def _hosts_are_names(cls, fetch_hosts: str) -> str:
        for host in names_of(fetch_hosts):
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no host's name in lower case, such as images.example.com")
        return fetch_hosts

    @field_validator("http_listen")
    @classmethod
    def _some_door_is_open(cls, http_listen: str, info: ValidationInfo) -> str:
        if not http_listen and info.data.get("listen") == "":
            raise ValueError("POINTSMAN_ROUTER_LISTEN is empty too: nothing could be asked")
        return http_listen
