"""The store of alerts on quotas, as the door needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.analytics.alerts.quota_alert import QuotaAlert


class QuotaAlerts(Protocol):
    """Alerts on quotas. All methods raise Unavailable while the store is gone."""

    async def record(self, alerts: Sequence[QuotaAlert]) -> None:
        """Keeps the latest record (`as_of`) of each alert, and its earliest raising. Durable when it returns."""
        ...

    async def list(self, scope: str, now: float, since: float | None, most: int) -> list[QuotaAlert]:
        """Returns the alerts that stand at `now` (epoch seconds), and those raised from `since` on (None: no others),
        of one scope or (empty) all: those that stand first, then the latest raised."""
        ...
