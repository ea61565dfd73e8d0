"""Every environment variable of this service: the names here in capitals, after `POINTSMAN_HEALTH_`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from libs.resilience.evidence import BreakerSettings
from libs.settings import Address, ServiceSettings

_BREAKER = BreakerSettings()


def _redis_url(value: SecretStr) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must be a URL like redis://user:password@host:6379/0")
    return value


class HealthSettings(ServiceSettings):
    """Durations in seconds."""

    model_config = SettingsConfigDict(env_prefix="POINTSMAN_HEALTH_")

    listen: Address = "127.0.0.1:7701"
    #: The store that replicas share; `rediss://` for TLS.
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)]
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
    #: Failures in a row that open the circuit of a target that otherwise hardly fails; the failure rate that does.
    consecutive_failures: int = Field(_BREAKER.consecutive_failures, ge=1, le=1000)
    failure_rate: float = Field(_BREAKER.failure_rate, gt=0, le=1)
    #: Duration of the first opening, and of the longest.
    open_seconds: float = Field(_BREAKER.open_seconds, gt=0, le=3600)
    open_cap: float = Field(_BREAKER.open_cap, gt=0, le=3600)
    #: After recovery traffic grows over this time.
    ramp_seconds: float = Field(_BREAKER.ramp_seconds, gt=0, le=60)

    def breaker(self) -> BreakerSettings:
        """Returns the settings of the breaker."""
        return BreakerSettings(
            consecutive_failures=self.consecutive_failures,
            failure_rate=self.failure_rate,
            open_seconds=self.open_seconds,
            open_cap=max(self.open_cap, self.open_seconds),
            ramp_seconds=self.ramp_seconds,
        )
