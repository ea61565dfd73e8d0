"""Every environment variable of this service: the names here in capitals, after `POINTSMAN_RATELIMIT_`."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from libs.settings import Address, ServiceSettings


def _redis_url(value: SecretStr) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must be a URL like redis://:password@host:6379/0")
    return value


class RatelimitSettings(ServiceSettings):
    """Durations in seconds."""

    model_config = SettingsConfigDict(env_prefix="POINTSMAN_RATELIMIT_")

    listen: Address = "127.0.0.1:7702"
    #: The shared counters, Redis 7 or Valkey 7.2 or later; `rediss://` for TLS.
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)]
    #: After this long the store counts as gone for a call.
    redis_timeout: float = Field(1.0, gt=0, le=60)
    #: The ledger, `host:port` or `dns:///service:port`: after the store has lost its data, calendar windows begin
    #: with what it says they have used. Empty: they begin at zero.
    analytics_target: str = ""
    #: Whether the store keeps every write when its process restarts, and a new one has no past. Right where it runs
    #: beside its only disk (a laptop); wrong where a failover can lose writes. Unset: a restart is trusted where the
    #: server syncs every write and has no replicas, a new store is not.
    store_trusted: bool = False
    #: Limits learned from providers: those that are sure are enforced, or only counted, or nothing is learned.
    learned: Literal["enforce", "shadow", "off"] = "enforce"
    #: The share of a limit stated by a provider that is used, above 0 to 1.
    learned_share: float = Field(0.95, gt=0, le=1)
    #: How long a slice lives without renewal.
    lease_ttl: float = Field(8.0, ge=1, le=60)
    #: How long a router may admit everything for a scope that has no limits before it asks again.
    unlimited_ttl: float = Field(5.0, ge=0.1, le=60)
