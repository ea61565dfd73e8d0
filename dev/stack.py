"""The plan of a stack: its processes, their addresses and environments. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_PORT_BASE = 7700
#: The offset of every address from the port base. Metrics endpoints are 100 above their service; a second word names
#: another address of the same service.
OFFSETS = {
    "router": 0,
    "health": 1,
    "ratelimit": 2,
    "analytics": 3,
    "valkey": 50,
    "postgres": 51,
    "router http": 80,
    "simulator": 90,
    "router metrics": 100,
    "health metrics": 101,
    "ratelimit metrics": 102,
    "analytics metrics": 103,
}
#: Ports above its base that a stack may take.
SPAN = max(OFFSETS.values())
#: Services that answer grpc.health.v1, in the order people read them; each is `python -m services.<name>`.
GRPC_SERVICES = ("health", "ratelimit", "analytics", "router")
#: Seconds a service may go on answering after SIGTERM: everything must be gone within five.
DRAIN_SECONDS = "1.0"


def assign_ports(base: int, free: Callable[[], int]) -> dict[str, int]:
    """Assigns a port to every name; base 0 takes free ones. Raises ValueError where the base leaves no room."""
    if base and not 1024 <= base <= 65535 - SPAN:
        raise ValueError(f"the port base must be 0 or from 1024 to {65535 - SPAN}, not {base}")
    return {name: base + offset if base else free() for name, offset in OFFSETS.items()}


@dataclass(frozen=True, slots=True)
class Plan:
    """The addresses and environments of the processes. `provider_keys` names the environment variables that hold
    providers' keys."""

    root: Path
    data: Path
    ports: Mapping[str, int]
    catalog: Path
    redis_url: str
    postgres_dsn: str
    service_token: str
    provider_keys: frozenset[str] = frozenset()

    def address(self, name: str) -> str:
        """host:port."""
        return f"127.0.0.1:{self.ports[name]}"

    def environment(self, name: str, environ: Mapping[str, str]) -> dict[str, str]:
        """Returns the environment of one process: the caller's, with ours on top. Only the router and health, which
        call providers, see the providers' keys."""
        env = {
            "POINTSMAN_LOG_LEVEL": "info",
            "POINTSMAN_TRACE_SAMPLE_RATIO": "1",
            f"POINTSMAN_{name.upper()}_DRAIN_SECONDS": DRAIN_SECONDS,
            # Valkey here has one disk and no replica: there is no other life of it to wait for after a start.
            "POINTSMAN_RATELIMIT_STORE_TRUSTED": "true",
        }
        withheld = frozenset() if name in {"router", "health"} else self.provider_keys
        env |= {key: value for key, value in environ.items() if key not in withheld}
        path = [str(self.root), str(self.root / "gen"), environ.get("PYTHONPATH", "")]
        env |= {
            "PYTHONPATH": ":".join(part for part in path if part),
            "POINTSMAN_CONFIG": str(self.catalog),
            "POINTSMAN_SERVICE_TOKEN": self.service_token,
            "POINTSMAN_SIMULATOR_URL": f"http://{self.address('simulator')}",
            f"POINTSMAN_{name.upper()}_LISTEN": self.address(name),
        }
        if f"{name} metrics" in self.ports:
            env[f"POINTSMAN_{name.upper()}_METRICS_LISTEN"] = self.address(f"{name} metrics")
        return env | self._dependencies(name)

    def _dependencies(self, name: str) -> dict[str, str]:
        match name:
            case "health":
                return {
                    "POINTSMAN_HEALTH_REDIS_URL": self.redis_url,
                    "POINTSMAN_HEALTH_ANALYTICS_TARGET": self.address("analytics"),
                }
            case "ratelimit":
                # One Valkey beside its only disk: nothing is lost when it restarts.
                return {
                    "POINTSMAN_RATELIMIT_REDIS_URL": self.redis_url,
                    "POINTSMAN_RATELIMIT_ANALYTICS_TARGET": self.address("analytics"),
                    "POINTSMAN_RATELIMIT_STORE_TRUSTED": "true",
                }
            case "analytics":
                return {"POINTSMAN_ANALYTICS_POSTGRES_DSN": self.postgres_dsn}
            case "router":
                targets = {
                    f"POINTSMAN_ROUTER_{peer.upper()}_TARGET": self.address(peer)
                    for peer in ("health", "ratelimit", "analytics")
                }
                return targets | {
                    "POINTSMAN_ROUTER_HTTP_LISTEN": self.address("router http"),
                    "POINTSMAN_ROUTER_SPOOL_DIR": str(self.data / "spool"),
                }
            case _:
                return {}
