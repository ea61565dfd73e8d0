"""Alerts on quotas in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from services.analytics.alerts.quota_alert import LONGEST, AlertKind, QuotaAlert
from services.analytics.database.postgres_database import Database

_RECORD = """
    INSERT INTO analytics.quota_alerts AS kept
        (scope, unit, period, kind, window_start, said, raised, cleared, "limit", used, burn_rate, probability, p50)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (scope, unit, period, kind, window_start) DO UPDATE SET
        raised = least(kept.raised, excluded.raised),
        said = greatest(kept.said, excluded.said),
        cleared = CASE WHEN excluded.said > kept.said THEN excluded.cleared ELSE kept.cleared END,
        "limit" = CASE WHEN excluded.said > kept.said THEN excluded."limit" ELSE kept."limit" END,
        used = CASE WHEN excluded.said > kept.said THEN excluded.used ELSE kept.used END,
        burn_rate = CASE WHEN excluded.said > kept.said THEN excluded.burn_rate ELSE kept.burn_rate END,
        probability = CASE WHEN excluded.said > kept.said THEN excluded.probability ELSE kept.probability END,
        p50 = CASE WHEN excluded.said > kept.said THEN excluded.p50 ELSE kept.p50 END
"""
_STANDS = (
    "(cleared IS NULL AND $2 < window_start + CASE period "
    + " ".join(f"WHEN '{period}' THEN interval '{seconds} seconds'" for period, seconds in LONGEST.items())
    + " END)"
)
_LIST = f"""
    SELECT *, {_STANDS} AS stands FROM analytics.quota_alerts
    WHERE ($1 = '' OR scope = $1) AND ({_STANDS} OR raised >= $3)
    ORDER BY stands DESC, raised DESC, scope, unit, period, kind
    LIMIT $4
"""  # noqa: S608  # made of the constants above


class PostgresQuotaAlerts:
    """Satisfies `QuotaAlerts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, alerts: Sequence[QuotaAlert]) -> None:
        """See the port. In the order of their names, so that two writers of the same rows never wait in a circle."""
        rows = [
            (
                *(alert.scope, alert.unit, alert.period, alert.kind.value),
                *(_instant(alert.window_start), _instant(alert.as_of), _instant(alert.raised)),
                None if alert.cleared is None else _instant(alert.cleared),
                *(alert.limit, alert.used, alert.burn_rate, alert.probability, alert.p50),
            )
            for alert in sorted(alerts, key=lambda alert: (alert.key, alert.as_of))
        ]
        async with self._database.writing() as connection, connection.transaction():
            await connection.executemany(_RECORD, rows)

    async def list(self, scope: str, now: float, since: float | None, most: int) -> list[QuotaAlert]:
        """See the port."""
        earliest = datetime.max.replace(tzinfo=UTC) if since is None else _instant(since)
        async with self._database.reading() as connection:
            rows = await connection.fetch(_LIST, scope, _instant(now), earliest, most)
        return [
            QuotaAlert(
                *(row["scope"], row["unit"], row["period"], AlertKind(row["kind"])),
                *(row["window_start"].timestamp(), row["said"].timestamp(), row["raised"].timestamp()),
                None if row["cleared"] is None else row["cleared"].timestamp(),
                *(row["limit"], row["used"], row["burn_rate"], row["probability"], row["p50"]),
            )
            for row in rows
        ]


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
