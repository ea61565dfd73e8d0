"""Every environment variable of this service: the names here in capitals, after `POINTSMAN_HEALTH_`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from libs.breaker_variables import BreakerVariables
from libs.settings import Address, ServiceSettings
from services.health.domain.degraded import DegradedSettings

_DEGRADED = DegradedSettings()


def _redis_url(value: SecretStr) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must be a URL like redis://user:password@host:6379/0")
    return value


class HealthSettings(BreakerVariables, ServiceSettings):
    """Durations in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="POINTSMAN_HEALTH_", extra="ignore", frozen=True, populate_by_name=True
    )

    listen: Address = "127.0.0.1:7701"
    #: The store that replicas share; `rediss://` for TLS.
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)]
    #: The history of operators' changes, `host:port` or `dns:///service:port` of analytics. Empty: there is none, and
    #: what stands is kept in the shared store alone.
    analytics_target: str = ""
    #: True: what is refused for ten minutes without an answer is blocked by rule.
    blacklist: bool = True
    #: Time between two exchanges with the other replicas.
    share_interval: float = Field(0.5, gt=0, le=60)
    #: A watcher gets an update at least this often.
    heartbeat: float = Field(3.0, gt=0, le=5)
    #: True: free endpoints are probed in the background.
    probe: bool = True
    #: Time between probes of a provider without traffic, and of one whose circuit is not closed.
    probe_idle_interval: float = Field(30.0, ge=1, le=3600)
    probe_broken_interval: float = Field(5.0, ge=1, le=3600)
    probe_timeout: float = Field(5.0, gt=0, le=60)
    #: The share of failed calls that degrades no target, and the share of its calls that a degraded one still gets.
    degraded_rate: float = Field(_DEGRADED.rate, gt=0, lt=1)
    degraded_share: float = Field(_DEGRADED.share, gt=0, le=1)

    def degraded(self) -> DegradedSettings:
        """Returns the settings of degraded targets."""
        return DegradedSettings(self.degraded_rate, self.degraded_share)
