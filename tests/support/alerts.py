"""Fakes of the stores of alerts, which share their contracts with those in PostgreSQL, and made alerts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from libs.errors import FailedPrecondition, NotFound
from services.analytics.alerts.alert import (
    Acknowledged,
    Alert,
    AlertKind,
    Expectation,
    KeptAlert,
    Mover,
    Severity,
    Silence,
    is_again,
    is_worse,
)
from services.analytics.alerts.store import (
    MAX_SILENCES,
    AlertFilter,
    Announcement,
    Delivery,
    Place,
    Word,
)
from tests.support.ledger import NOW

SPEND = Alert(
    kind=AlertKind.SPEND_ANOMALY,
    severity=Severity.WARNING,
    subject=(("tenant", "acme"),),
    episode=NOW,
    as_of=NOW,
    raised=NOW,
    cleared=None,
    amount=31_000_000,
    unit="micro_usd",
    span=3600.0,
    expected=Expectation(9_000_000, None, 18_000_000),
    movers=(Mover("model", "openai/gpt-4o", 25_000_000, 3_000_000, 1.0),),
)
#: Begins at a midnight, and ends with its window.
BURN = Alert(
    kind=AlertKind.BURN_FAST,
    severity=Severity.WARNING,
    subject=(("tenant", "acme"), ("unit", "micro_usd"), ("period", "day")),
    episode=NOW - 8 * 3600,
    as_of=NOW,
    raised=NOW,
    cleared=None,
    amount=400,
    unit="micro_usd",
    ends=NOW - 8 * 3600 + 90_000,
    limit=1000,
    burn_rate=15.5,
    probability=0.9,
    p50=60.25,
)


@dataclass
class _Row:
    delivery: Delivery
    due: float
    made: float
    ended: bool = False


class MemoryAlerts:
    """Satisfies `AlertStore`, `Deliveries` and `StoreClock`."""

    async def now(self) -> float:
        return NOW

    def __init__(self) -> None:
        self._kept: dict[str, KeptAlert] = {}
        self._silences: dict[str, Silence] = {}
        self._rows: dict[tuple[str, str, int, Word], _Row] = {}

    async def record(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            kept = self._kept.get(alert.alert_id)
            if kept is None:
                self._kept[alert.alert_id] = KeptAlert(alert)
                continue
            before, turn, word = kept.alert, kept.turn, kept.acknowledged
            last = before
            if alert.as_of > before.as_of:
                last = alert
                if is_again(before, alert):
                    turn += 1
                    word = None if is_worse(before, alert) else word
            last = replace(last, raised=min(alert.raised, before.raised))
            self._kept[alert.alert_id] = KeptAlert(last, turn, word)

    def _seen(self, kept: KeptAlert, now: float) -> KeptAlert:
        return replace(kept, silenced=any(s.matches(kept.alert, now) for s in self._silences.values()))

    async def find(
        self, choice: AlertFilter, now: float, since: float | None, most: int, after: Place | None = None
    ) -> list[KeptAlert]:
        def place(kept: KeptAlert) -> tuple[bool, float, str]:
            return not kept.alert.stands(now), -round(kept.alert.raised * 1e6), kept.alert.alert_id

        found = [self._seen(kept, now) for kept in self._kept.values()]
        chosen = [
            kept
            for kept in found
            if choice.takes(kept)
            and (kept.alert.stands(now) or (since is not None and kept.alert.raised >= since))
            and (after is None or place(kept) > (not after.standing, -after.raised, after.alert_id))
        ]
        return sorted(chosen, key=place)[:most]

    async def get(self, alert_ids: Collection[str], now: float) -> list[KeptAlert]:
        return [self._seen(self._kept[name], now) for name in alert_ids if name in self._kept]

    async def acknowledge(self, alert_id: str, word: Acknowledged, now: float) -> KeptAlert:
        kept = self._kept.get(alert_id)
        if kept is None:
            raise NotFound("none", reason="ALERT_NOT_FOUND")
        self._kept[alert_id] = replace(kept, acknowledged=kept.acknowledged or word)
        return self._seen(self._kept[alert_id], now)

    async def silence(self, silence: Silence, now: float) -> None:
        if len(await self.silences(now)) >= MAX_SILENCES:
            raise FailedPrecondition("too many", reason="TOO_MANY_SILENCES")
        self._silences[silence.silence_id] = silence

    async def silences(self, now: float) -> list[Silence]:
        found = [silence for silence in self._silences.values() if silence.until > now]
        return sorted(found, key=lambda silence: (silence.until, silence.silence_id))

    async def delete_silence(self, silence_id: str, now: float) -> None:
        silence = self._silences.get(silence_id)
        if silence is None or silence.until <= now:
            raise NotFound("none", reason="SILENCE_NOT_FOUND")
        del self._silences[silence_id]

    async def forget(self, before: float) -> None:
        gone = [
            name
            for name, kept in self._kept.items()
            if (kept.alert.cleared is not None and kept.alert.cleared < before)
            or (kept.alert.ends is not None and kept.alert.ends < before)
        ]
        for name in gone:
            del self._kept[name]
        self._rows = {key: row for key, row in self._rows.items() if key[0] not in gone}
        self._silences = {name: s for name, s in self._silences.items() if s.until >= before}

    async def unannounced(self, destinations: Sequence[str], now: float, most: int) -> list[Announcement]:
        found = []
        for kept in sorted(self._kept.values(), key=lambda k: (k.alert.raised, k.alert.alert_id)):
            seen = self._seen(kept, now)
            word = Word.RAISED if kept.alert.stands(now) else Word.CLEARED
            for destination in sorted(destinations):
                name = (kept.alert.alert_id, destination, kept.turn)
                wanted = (
                    not seen.silenced and kept.acknowledged is None
                    if word is Word.RAISED
                    else (*name, Word.RAISED) in self._rows
                )
                if wanted and (*name, word) not in self._rows:
                    found.append(Announcement(kept, destination, word))
        return found[:most]

    async def add(self, made: Sequence[tuple[Announcement, bytes]], now: float) -> None:
        for one, body in made:
            key = (one.kept.alert.alert_id, one.destination, one.kept.turn, one.word)
            delivery = Delivery(f"msg_{len(self._rows)}", one.destination, body, 0)
            self._rows.setdefault(key, _Row(delivery, now, now))

    async def claim(self, destination: str, now: float, lease: float) -> Delivery | None:
        due = [
            row
            for (alert_id, _, _, word), row in self._rows.items()
            if row.delivery.destination == destination and not row.ended and row.due <= now
            if not (word is Word.RAISED and self._seen(self._kept[alert_id], now).silenced)
        ]
        if not due:
            return None
        row = min(due, key=lambda row: (row.due, row.made, row.delivery.delivery_id))
        row.due = now + lease
        return row.delivery

    def _row(self, delivery_id: str) -> _Row:
        return next(row for row in self._rows.values() if row.delivery.delivery_id == delivery_id)

    async def end(self, delivery_id: str, now: float) -> None:
        self._row(delivery_id).ended = True

    async def retry(self, delivery_id: str, at: float) -> None:
        row = self._row(delivery_id)
        row.due, row.delivery = at, replace(row.delivery, tries=row.delivery.tries + 1)
