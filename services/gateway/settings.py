"""Every environment variable of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from libs.settings import Address, Certificates, ServiceSettings, key_of


class GatewaySettings(ServiceSettings):
    """`POINTSMAN_GATEWAY_*`. The shared `POINTSMAN_TLS_*` are for the way to the router, which is encrypted where the
    CA is set."""

    model_config = SettingsConfigDict(
        env_prefix="POINTSMAN_GATEWAY_", extra="ignore", frozen=True, populate_by_name=True
    )

    listen: Address = "127.0.0.1:7780"
    #: `host:port`, or `dns:///service:port` to balance over all replicas.
    router_target: str = Field("127.0.0.1:7700", min_length=1)
    #: PEM files for HTTPS; none: plain HTTP, as behind an ingress that ends TLS.
    http_certificate: Certificates = None
    http_key: Annotated[Path | None, *key_of("http_certificate")] = Field(None, validate_default=True)
    #: The largest request body in bytes; a larger one is refused with 413.
    max_body: int = Field(10_000_000, ge=1024, le=1_000_000_000)
