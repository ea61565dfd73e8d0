"""The store of alerts, as the door, the detection and the webhooks need it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from services.analytics.alerts.alert import Acknowledged, Alert, AlertKind, KeptAlert, Severity, Silence

#: The most silences in force or to come.
MAX_SILENCES = 1000


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """A choice of alerts. Empty, and None, take all."""

    kinds: frozenset[AlertKind] = frozenset()
    severity: Severity | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    acknowledged: bool | None = None
    silenced: bool | None = None

    def takes(self, kept: KeptAlert) -> bool:
        """Returns True if the alert is chosen."""
        severities = list(Severity)
        alert = kept.alert
        return (
            (not self.kinds or alert.kind in self.kinds)
            and (self.severity is None or severities.index(alert.severity) >= severities.index(self.severity))
            and self.labels.items() <= alert.labels.items()
            and self.acknowledged in (None, kept.acknowledged is not None)
            and self.silenced in (None, kept.silenced)
        )


@dataclass(frozen=True, slots=True)
class Place:
    """The last alert of a page: the next one begins behind it. `raised`: epoch microseconds."""

    standing: bool
    raised: int
    alert_id: str


class AlertStore(Protocol):
    """Alerts and silences. All methods raise Unavailable while the store is gone. `now`: epoch seconds."""

    async def record(self, alerts: Sequence[Alert]) -> None:
        """Keeps the latest record (`as_of`) of each alert, and its earliest raising. Where it is raised again, its
        turn grows; where it is worse (a higher threshold or severity), its acknowledgement ends too. Durable when it
        returns."""
        ...

    async def find(
        self, choice: AlertFilter, now: float, since: float | None, most: int, after: Place | None = None
    ) -> list[KeptAlert]:
        """Returns the alerts that stand at `now`, and those raised from `since` on (None: no others): those that
        stand first, then the latest raised, from behind `after` on."""
        ...

    async def get(self, alert_ids: Collection[str], now: float) -> list[KeptAlert]:
        """Returns those of these alerts that are known."""
        ...

    async def acknowledge(self, alert_id: str, word: Acknowledged, now: float) -> KeptAlert:
        """Notes who looks after it; the first word stands. Raises NotFound."""
        ...

    async def silence(self, silence: Silence, now: float) -> None:
        """Keeps a new silence. Raises FailedPrecondition (TOO_MANY_SILENCES)."""
        ...

    async def silences(self, now: float) -> list[Silence]:
        """Returns those in force or to come; those that end first before the others."""
        ...

    async def delete_silence(self, silence_id: str, now: float) -> None:
        """Ends it. Raises NotFound where it is over or unknown."""
        ...

    async def forget(self, before: float) -> None:
        """Deletes alerts that were over, and silences that ended, before that instant."""
        ...


class Word(StrEnum):
    """The news of an alert that is announced."""

    RAISED = "raised"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Announcement:
    """One word on one alert for one destination."""

    kept: KeptAlert
    destination: str
    word: Word


@dataclass(frozen=True, slots=True)
class Delivery:
    """An announcement on its way. `body` is the same at every try, and so is the id. `tries`: those before."""

    delivery_id: str
    destination: str
    body: bytes
    tries: int


class Deliveries(Protocol):
    """Deliveries to destinations. All methods raise Unavailable while the store is gone. `now`: epoch
    seconds."""

    async def unannounced(self, destinations: Sequence[str], now: float, most: int) -> list[Announcement]:
        """Returns what no delivery was made of: alerts that stand, are not silenced and not acknowledged, and the end
        of those whose raising was announced to the same destination."""
        ...

    async def add(self, made: Sequence[tuple[Announcement, bytes]], now: float) -> None:
        """Makes deliveries, due at once. One that another replica has made stays as it is."""
        ...

    async def claim(self, destination: str, now: float, lease: float) -> Delivery | None:
        """Returns the delivery that is due longest and is not of the raising of a silenced alert, and keeps it from
        others for `lease` seconds. None: there is none."""
        ...

    async def end(self, delivery_id: str, now: float) -> None:
        """Notes that the destination has taken it, or that it is not tried any more."""
        ...

    async def retry(self, delivery_id: str, at: float) -> None:
        """Notes a try that failed; the next is due at `at` (epoch seconds)."""
        ...
