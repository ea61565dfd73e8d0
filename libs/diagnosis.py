"""The values of what a service says about itself, which services and their callers share. Durations in seconds,
instants in epoch seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

#: Seconds after which a store that does not answer is taken for unreachable.
STORE_SECONDS = 5.0


class SettingRemark(Enum):
    """A setting that somebody should look at: there is no service token, or the service listens beyond its machine
    without TLS."""

    NO_SERVICE_TOKEN = "no_service_token"  # noqa: S105 -- the name of a remark
    NO_TLS = "no_tls"


class StoreKind(Enum):
    """The kinds of stores."""

    VALKEY = "valkey"
    POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """A store that answered. `version` is the server's own. `schema`: of our tables or functions there, 0: none are;
    None: this store has none. `clock_offset`: how far its clock is ahead of the asker's."""

    version: str
    clock_offset: float
    schema: int | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """A store that a service uses. `name`: its part there. `ask` raises OSError, TimeoutError or Unavailable where it
    does not answer. `schema_wanted`: the version that the service brings; None: there is none."""

    kind: StoreKind
    name: str
    ask: Callable[[], Awaitable[StoreAnswer]]
    schema_wanted: int | None = None


@dataclass(frozen=True, slots=True)
class StoreDiagnosis:
    """The state of a store; `answer` None: it is not reachable. `kind` None: of a later version's service."""

    kind: StoreKind | None
    name: str
    duration: float
    answer: StoreAnswer | None
    schema_wanted: int | None = None

    @property
    def ready(self) -> bool:
        """Returns True if it is reachable and its schema is at least the one wanted: of two versions of a service
        that run beside each other, the newer one's stays."""
        if self.answer is None:
            return False
        return self.schema_wanted is None or (self.answer.schema or 0) >= self.schema_wanted


@dataclass(frozen=True, slots=True)
class ServiceDiagnosis:
    """A process's account of itself. `duration`: from the call's arrival to `now`. `catalog_version` empty: it uses
    none."""

    service: str
    instance_id: str
    now: float
    duration: float
    catalog_version: str
    remarks: tuple[SettingRemark, ...]
    stores: tuple[StoreDiagnosis, ...]
