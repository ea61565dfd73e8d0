"""Every environment variable of this service: the names here in capitals, after `POINTSMAN_ANALYTICS_`."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from libs.settings import Address, ServiceSettings, names_of
from libs.zones import load_zone
from services.analytics.alerts.webhook import Destination, read_destinations

_HOST = re.compile(r"[a-z0-9.:-]{1,253}")


def _dsn(value: SecretStr) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in ("postgresql", "postgres"):
        raise ValueError("must be a URL like postgresql://user:password@host:5432/database")
    return value


def _zone(value: str) -> str:
    if load_zone(value) is None:
        raise ValueError("must be an IANA time zone name like Europe/Berlin")
    return value


class AnalyticsSettings(ServiceSettings):
    """Durations in seconds."""

    model_config = SettingsConfigDict(env_prefix="POINTSMAN_ANALYTICS_")

    listen: Address = "127.0.0.1:7703"
    #: The ledger's database; `?sslmode=verify-full&sslrootcert=…` for TLS; several hosts where one may take over.
    postgres_dsn: Annotated[SecretStr, AfterValidator(_dsn)]
    #: The database that questions go to, a replica. Unset: the same.
    postgres_reader_dsn: Annotated[SecretStr, AfterValidator(_dsn)] | None = None
    #: Connections that run queries, besides the three that write.
    postgres_readers: int = Field(4, ge=1, le=100)
    #: Time after which a commit is given up and the router keeps the batch.
    write_timeout: float = Field(10.0, gt=0, le=600)
    #: The owner's zone: sums are kept by its days and months, so that questions about these are quick. A change is
    #: taken over in the background.
    time_zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    #: Time after which a query is refused.
    read_timeout: float = Field(20.0, gt=0, le=600)
    #: Days for which attempts and requests are kept one by one. Unset: for ever.
    retention_days: float | None = Field(None, ge=35, le=36_500)
    #: The share of requests that shall be answered; alerts tell when it is missed.
    objective: float = Field(0.99, ge=0.5, le=0.9999)
    #: Hosts, by commas, that webhooks may have though their addresses are internal.
    webhook_hosts: str = ""
    #: Where alerts are sent: JSON, address and secret by name.
    webhooks: SecretStr = SecretStr("")

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Returns the hosts in `webhook_hosts`."""
        return names_of(self.webhook_hosts)

    @cached_property
    def destinations(self) -> tuple[Destination, ...]:
        """Returns the webhooks."""
        return read_destinations(self.webhooks.get_secret_value(), self.allowed_hosts)

    @field_validator("webhook_hosts")
    @classmethod
    def _hosts_are_names(cls, webhook_hosts: str) -> str:
        for host in names_of(webhook_hosts):
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no host in lower case, such as hooks.internal or 10.0.0.7")
        return webhook_hosts

    @field_validator("webhooks")
    @classmethod
    def _webhooks_can_be_called(cls, webhooks: SecretStr, info: ValidationInfo) -> SecretStr:
        read_destinations(webhooks.get_secret_value(), names_of(info.data.get("webhook_hosts", "")))
        return webhooks
