"""Looks at the ledger every five minutes, on one replica at a time, and records what it finds out of the ordinary.

What is ordinary is computed once an hour from four weeks of hours; every five minutes the last quarter of an hour,
hour, six hours and day are compared with it. A replica that holds the lease goes on with it; one that dies is
followed within two rounds. A round that finds PostgreSQL away, or whose clock is not PostgreSQL's, is left out:
alerts stand until more is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Final

from libs.clock import Clock
from libs.errors import DeadlineExceeded, Unavailable
from libs.telemetry import Metrics, get_logger
from services.analytics.alerts.alert import DETECTED, Alert, AlertKind, Mover, Subject
from services.analytics.alerts.anomaly import (
    DAY_HOURS,
    HISTORY_HOURS,
    HOUR,
    LOOK,
    WIDTHS,
    Baseline,
    Width,
    median,
)
from services.analytics.alerts.detect import (
    Condition,
    Finding,
    Watched,
    changes,
    find_drop,
    find_errors,
    find_spend,
    is_raised,
    once,
)
from services.analytics.alerts.explain import explain
from services.analytics.alerts.lease import Leases
from services.analytics.alerts.sentence import sentence
from services.analytics.alerts.shares import BURN_PAIRS, ERROR_WINDOW, Count, UsualShare, usual_share
from services.analytics.alerts.store import AlertFilter, AlertStore
from services.analytics.alerts.store_clock import StoreClock, check_clock
from services.analytics.alerts.usage_series import DIMENSIONS, UsageSeries, Use

#: Seconds between two rounds; how long after its end a span is looked at, so that its records have come; how long a
#: lease is held.
ROUND, SETTLED, LEASE = 300.0, 60.0, 600.0
LEASE_NAME: Final = "alert detection"
#: Seconds for which alerts that are over are kept, and back to which they are looked at.
KEPT, LOOKED_BACK = 90 * 86_400.0, 7 * 86_400.0
#: Alerts that are read, and those that are explained in one round: each takes five questions.
MOST_ALERTS, MOST_EXPLAINED = 2000, 20
#: Days whose same span tells what was expected of each value of a dimension.
_EXPLAINED_BY_DAYS: Final = 7
_DAY: Final = DAY_HOURS * HOUR

log = get_logger(__name__)


class Detection:
    """The rounds of this replica."""

    def __init__(
        self,
        series: UsageSeries,
        store: AlertStore,
        leases: Leases,
        store_clock: StoreClock,
        clock: Clock,
        metrics: Metrics,
        *,
        holder: str,
        objective: float,
    ) -> None:
        """`holder`: unique per process life; `objective`: the share of requests that shall be answered, below 1."""
        self._series = series
        self._store = store
        self._leases = leases
        self._store_clock = store_clock
        self._clock = clock
        self._holder = holder
        self._objective = objective
        #: The hour that the baselines end with, and what is ordinary after it, by subject.
        self._hour = 0.0
        self._baselines: dict[Subject, list[tuple[Width, Baseline]]] = {}
        self._usual: dict[Subject, UsualShare] = {}
        #: The last record of each condition that this process has kept: a reader's database may not have it yet.
        self._kept: dict[Condition, Alert] = {}
        self._changes = metrics.counter(
            "analytics_alerts",
            "Alerts that were detected, by what became of them: raised or cleared",
            ("kind", "word"),
        )
        self._rounds = metrics.counter(
            "analytics_alert_rounds",
            "Rounds of detection by result: done, or failed as the ledger was away or its clock differs",
            ("result",),
        )

    async def run(self) -> None:
        """Makes rounds until cancelled."""
        while True:
            try:
                await check_clock(self._clock, self._store_clock)
                now = self._clock.now()
                if await self._leases.hold(LEASE_NAME, self._holder, now, LEASE):
                    await self.look()
                    await self._store.forget(now - KEPT)
                    self._rounds.labels("done").inc()
            except (Unavailable, DeadlineExceeded) as error:
                self._rounds.labels("failed").inc()
                log.warning("alerts_not_detected", error=error.message)
            await asyncio.sleep(ROUND)

    async def look(self) -> None:
        """Makes one round. Raises Unavailable, DeadlineExceeded."""
        now = self._clock.now()
        until = (now - SETTLED) // ROUND * ROUND
        await self._learn(until // HOUR * HOUR)
        last = await self._last(now)
        findings = once(
            [
                *await self._spend(until, last, now),
                *await self._errors(until, last, now),
                *await self._drops(until, last, now),
            ],
            last,
            now,
        )
        raised = [finding for finding in findings if is_raised(finding, last, now)]
        movers = {
            finding.condition: await self._movers(finding, until) for finding in raised[:MOST_EXPLAINED]
        }
        found = changes(findings, last, movers, now)
        if found:
            await self._store.record(found)
        for alert in found:
            self._tell(alert, last)

    async def _learn(self, hour: float) -> None:
        """Computes what is ordinary in the hour that begins at `hour`, once."""
        if hour == self._hour:
            return
        bounds = [hour + (i - HISTORY_HOURS) * HOUR for i in range(HISTORY_HOURS + 1)]
        baselines = {}
        for dimension in (None, "tenant"):
            for value, hours in (await self._series.attempts(dimension, bounds)).items():
                costs = [use.cost for use in hours]
                baselines[_subject(dimension, value)] = [(width, Baseline(costs, width)) for width in WIDTHS]
        providers = await self._series.attempts("provider", bounds[-14 * DAY_HOURS - 1 :])
        self._usual = {
            _subject("provider", value): usual_share([use.count for use in hours])
            for value, hours in providers.items()
        }
        self._baselines, self._hour = baselines, hour

    async def _last(self, now: float) -> dict[Condition, Alert]:
        """Returns the last alert of each condition that is detected here."""
        listed = await self._store.find(AlertFilter(kinds=DETECTED), now, now - LOOKED_BACK, MOST_ALERTS)
        found = {
            condition: alert for condition, alert in self._kept.items() if alert.as_of > now - LOOKED_BACK
        }
        for alert in [kept.alert for kept in listed]:
            condition = alert.kind, alert.subject
            known = found.get(condition)
            if known is None or (alert.as_of, alert.raised) > (known.as_of, known.raised):
                found[condition] = alert
        self._kept = found
        return found

    async def _spend(self, until: float, last: Mapping[Condition, Alert], now: float) -> list[Finding]:
        """Returns the anomalies of the spend of all traffic and of each tenant."""
        ends = {width: [until - look * LOOK for look in range(width.looks)] for width in WIDTHS}
        bounds = sorted(
            {bound for width in WIDTHS for end in ends[width] for bound in (end - width.seconds, end)}
        )
        part = (until - self._hour) / HOUR
        found = []
        for dimension in (None, "tenant"):
            for value, spans in (await self._series.attempts(dimension, bounds)).items():
                subject = _subject(dimension, value)
                by = [0, *accumulate(use.cost for use in spans)]
                cost_until = dict(zip(bounds, by, strict=True))
                watched = Watched(
                    subject,
                    [
                        (
                            width,
                            baseline,
                            [cost_until[end] - cost_until[end - width.seconds] for end in ends[width]],
                        )
                        for width, baseline in self._baselines.get(subject, ())
                    ],
                )
                stands = _stands(last, AlertKind.SPEND_ANOMALY, subject, now)
                standing = last[AlertKind.SPEND_ANOMALY, subject].span if stands else None
                finding = find_spend(watched, part, standing)
                # Other tasks run in between.
                await asyncio.sleep(0)
                if finding is not None:
                    found.append(finding)
        return found

    async def _errors(self, until: float, last: Mapping[Condition, Alert], now: float) -> list[Finding]:
        """Returns the anomalies of failed attempts by provider."""
        found = []
        for value, (use,) in (await self._series.attempts("provider", [until - ERROR_WINDOW, until])).items():
            subject = _subject("provider", value)
            usual = self._usual.get(subject) or usual_share(())
            standing = _stands(last, AlertKind.ERROR_ANOMALY, subject, now)
            finding = find_errors(subject, use.count, usual, standing=standing)
            if finding is not None:
                found.append(finding)
        return found

    async def _drops(self, until: float, last: Mapping[Condition, Alert], now: float) -> list[Finding]:
        """Returns the drops in reliability that all callers saw, and those of each tenant."""
        lengths = {length for pair in BURN_PAIRS for length in (pair.long, pair.short)}
        bounds = sorted({until - length for length in lengths} | {until})
        found = []
        for dimension in (None, "tenant"):
            for value, spans in (await self._series.requests(dimension, bounds)).items():

                def of(length: float, spans: Sequence[Count] = spans) -> Count:
                    counted = spans[bounds.index(until - length) :]
                    return Count(sum(c.ended for c in counted), sum(c.failed for c in counted))

                subject = _subject(dimension, value)
                standing = _stands(last, AlertKind.RELIABILITY_DROP, subject, now)
                counts = [(of(pair.long), of(pair.short)) for pair in BURN_PAIRS]
                finding = find_drop(subject, counts, self._objective, standing=standing)
                if finding is not None:
                    found.append(finding)
        return found

    async def _movers(self, finding: Finding, until: float) -> tuple[Mover, ...]:
        """Returns what moved: amounts of the finding's span beside the same span of earlier days."""
        if finding.kind is AlertKind.RELIABILITY_DROP:
            return ()
        amount: Callable[[Use], float] = attrgetter("cost")
        dimensions: tuple[str, ...] = DIMENSIONS
        if finding.kind is AlertKind.ERROR_ANOMALY:
            amount, dimensions = attrgetter("count.failed"), ("error_class", *DIMENSIONS)
        ends = [until - day * _DAY for day in range(_EXPLAINED_BY_DAYS, -1, -1)]
        bounds = sorted({bound for end in ends for bound in (end - finding.span, end)})
        known = {name for name, _ in finding.subject}
        now_by, expected_by = {}, {}
        for dimension in dimensions:
            if dimension in known:
                continue
            sums = await self._series.attempts(dimension, bounds, finding.subject)
            spans = {
                value: [amount(uses[bounds.index(end - finding.span)]) for end in ends]
                for value, uses in sums.items()
            }
            now_by[dimension] = {value: amounts[-1] for value, amounts in spans.items()}
            expected_by[dimension] = {value: median(amounts[:-1]) for value, amounts in spans.items()}
        return explain(now_by, expected_by)

    def _tell(self, alert: Alert, last: Mapping[Condition, Alert]) -> None:
        """Logs and counts an alert that is raised or over."""
        condition = alert.kind, alert.subject
        before, self._kept[condition] = last.get(condition), alert
        stood = before is not None and before.cleared is None
        if stood == (alert.cleared is None):
            return
        word = "cleared" if stood else "raised"
        self._changes.labels(alert.kind.value, word).inc()
        level = log.info if stood else log.warning
        level(f"alert_{word}", kind=alert.kind.value, subject=dict(alert.subject), sentence=sentence(alert))


def _subject(dimension: str | None, value: str) -> Subject:
    return () if dimension is None else ((dimension, value),)


def _stands(last: Mapping[Condition, Alert], kind: AlertKind, subject: Subject, now: float) -> bool:
    alert = last.get((kind, subject))
    return alert is not None and alert.stands(now)
