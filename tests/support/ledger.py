"""The ledger in memory, and attempts to put into it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from libs.errors import FailedPrecondition, Unavailable
from libs.types import Usage, UsageAccuracy
from services.analytics.ledger.account import Account, accounts_of
from services.analytics.ledger.attempt import Attempt, Outcome, best_by_id
from services.analytics.ledger.ledger import Recorded
from services.analytics.ledger.request import RequestRecord
from services.analytics.reports.query import GroupBy, Interval, Query
from services.analytics.reports.report import (
    MAX_ROWS,
    CostReport,
    CostRow,
    Group,
    PerformanceRow,
    Quantiles,
    ReliabilityRow,
)

#: 2027-01-15T08:00:00Z, where ManualClock begins.
NOW = 1_800_000_000.0

_BASE = Attempt(
    attempt_id="a1",
    request_id="r1",
    attempt_number=1,
    tenant="acme",
    provider="openai",
    model="gpt-4o",
    started=NOW - 60,
    outcome=Outcome.SUCCESS,
    latency=1.0,
)


def an_attempt(attempt_id: str = "a1", **fields: Any) -> Attempt:
    """A valid attempt, one minute old; its request has the same number unless told."""
    fields.setdefault("request_id", f"r{attempt_id.removeprefix('a')}")
    return replace(_BASE, attempt_id=attempt_id, **fields)


class MemoryLedger:
    """Satisfies the ports `Ledger`, `RequestLookup` and `Reports`. `gone` makes it UNAVAILABLE."""

    def __init__(self) -> None:
        self.rows: dict[str, Attempt] = {}
        self.requests: dict[str, RequestRecord] = {}
        self.gone = False
        self.commits: list[int] = []

    async def record(self, attempts: Sequence[Attempt], requests: Sequence[RequestRecord] = ()) -> Recorded:
        self._check()
        known = len(self.requests)
        self.requests = {**{request.record_id: request for request in reversed(requests)}, **self.requests}
        inserted = replaced = 0
        for attempt in best_by_id(attempts).values():
            kept = self.rows.get(attempt.attempt_id)
            if kept is None:
                inserted += 1
            elif attempt.rank > kept.rank:
                replaced += 1
            else:
                continue
            self.rows[attempt.attempt_id] = attempt
        self.commits.append(len(attempts))
        new = len(self.requests) - known
        return Recorded(inserted, replaced, len(attempts) - inserted - replaced, requests=new)

    async def costs(self, query: Query) -> CostReport:
        self._check()
        found = self._matching(query)
        rows = [_cost(group, rows) for group, rows in _grouped(query, found, lambda a: a.started)]
        return CostReport(tuple(rows), _cost(Group(), found))

    async def performance(self, query: Query) -> tuple[PerformanceRow, ...]:
        self._check()
        return tuple(
            _performance(group, rows)
            for group, rows in _grouped(query, self._matching(query), lambda a: a.started)
        )

    async def reliability(self, query: Query) -> tuple[ReliabilityRow, ...]:
        self._check()
        found = self._matching(query)
        begin: dict[tuple[tuple[str, ...], str], float] = {}
        for attempt in found:
            key = (_values(query, attempt), attempt.request_id)
            begin[key] = min(begin.get(key, math.inf), attempt.started)
        return tuple(
            _reliability(group, rows)
            for group, rows in _grouped(query, found, lambda a: begin[_values(query, a), a.request_id])
        )

    async def by_request(self, request_id: str, tenant: str) -> list[Account]:
        self._check()
        return accounts_of(
            [r for r in self.requests.values() if r.request_id == request_id and tenant in ("", r.tenant)],
            [a for a in self.rows.values() if a.request_id == request_id and tenant in ("", a.tenant)],
        )

    async def by_attempt(self, attempt_id: str) -> list[Account]:
        self._check()
        attempt = self.rows.get(attempt_id)
        found = [] if attempt is None else await self.by_request(attempt.request_id, attempt.tenant)
        return [account for account in found if attempt in account.attempts]

    def _check(self) -> None:
        if self.gone:
            raise Unavailable("The ledger is gone", reason="LEDGER_UNAVAILABLE", retry_after=1.0)

    def _matching(self, query: Query) -> list[Attempt]:
        def wanted(a: Attempt) -> bool:
            return (
                query.since <= a.started < query.until
                and query.tenant in (None, a.tenant)
                and query.provider in (None, a.provider)
                and query.model in (None, a.model, f"{a.provider}/{a.model}")
                and query.content_type in (None, a.content_type)
                and query.campaign in (None, a.campaign)
            )

        return [attempt for attempt in self.rows.values() if wanted(attempt)]


def _values(query: Query, attempt: Attempt) -> tuple[str, ...]:
    values = {
        GroupBy.TENANT: attempt.tenant,
        GroupBy.PROVIDER: attempt.provider,
        GroupBy.MODEL: f"{attempt.provider}/{attempt.model}",
        GroupBy.CONTENT_TYPE: attempt.content_type,
        GroupBy.CAMPAIGN: attempt.campaign,
        GroupBy.ERROR_CLASS: attempt.error_class or "",
    }
    return tuple(str(values[dimension]) for dimension in query.group_by)


def _bucket(query: Query, instant: float) -> float | None:
    if query.interval is None:
        return None
    local = datetime.fromtimestamp(instant, ZoneInfo(query.time_zone))
    if query.interval in (Interval.MINUTE, Interval.HOUR):
        # Within an hour the offset from UTC does not change.
        past = local.second + local.microsecond / 1e6
        past += local.minute * 60 if query.interval is Interval.HOUR else 0
        return round(instant - past)
    local = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return (local.replace(day=1) if query.interval is Interval.MONTH else local).timestamp()


def _grouped(
    query: Query, attempts: Iterable[Attempt], instant: Callable[[Attempt], float]
) -> list[tuple[Group, list[Attempt]]]:
    groups: dict[Group, list[Attempt]] = {}
    for attempt in attempts:
        group = Group(_values(query, attempt), _bucket(query, instant(attempt)))
        groups.setdefault(group, []).append(attempt)
    if len(groups) > MAX_ROWS:
        raise FailedPrecondition("Too many rows", reason="TOO_MANY_ROWS")
    return sorted(groups.items(), key=lambda item: (item[0].bucket or 0, item[0].values))


def _requests(attempts: Iterable[Attempt]) -> int:
    return len({attempt.request_id for attempt in attempts})


def _cost(group: Group, rows: Sequence[Attempt]) -> CostRow:
    def cost(*accuracies: UsageAccuracy) -> int:
        return sum(a.cost_micro_usd for a in rows if a.usage.accuracy in accuracies)

    return CostRow(
        group,
        cost(*UsageAccuracy),
        cost(UsageAccuracy.ESTIMATED),
        cost(UsageAccuracy.UNCERTAIN),
        sum((a.usage for a in rows), Usage()),
        len(rows),
        _requests(rows),
    )


def _quantiles(values: Iterable[float | None]) -> Quantiles | None:
    found = sorted(value for value in values if value is not None)
    if not found:
        return None
    p50, p90, p99 = (found[math.ceil(share * len(found)) - 1] for share in (0.5, 0.9, 0.99))
    return Quantiles(p50, p90, p99)


def _failovers(rows: Iterable[Attempt]) -> int:
    return _requests(a for a in rows if a.outcome is Outcome.SUCCESS and a.attempt_number > 1)


def _performance(group: Group, rows: Sequence[Attempt]) -> PerformanceRow:
    good = [a for a in rows if a.outcome is Outcome.SUCCESS]
    timed = [(a.usage.output_tokens, a.latency) for a in good if a.latency is not None]
    seconds = sum(latency for _, latency in timed)
    return PerformanceRow(
        group,
        len(rows),
        len(good),
        _requests(rows),
        _failovers(rows),
        _quantiles(a.latency for a in good),
        _quantiles(a.time_to_first_token for a in good if a.streamed),
        sum(tokens for tokens, _ in timed) / seconds if seconds else None,
    )


def _reliability(group: Group, rows: Sequence[Attempt]) -> ReliabilityRow:
    def count(outcome: Outcome) -> int:
        return sum(a.outcome is outcome for a in rows)

    failed = [a for a in rows if a.outcome is Outcome.FAILURE]
    answered = {a.request_id for a in rows if a.outcome is Outcome.SUCCESS}
    classes = [a.error_class for a in failed]
    return ReliabilityRow(
        group,
        len(rows),
        count(Outcome.SUCCESS),
        len(failed),
        count(Outcome.CANCELLED),
        count(Outcome.UNKNOWN),
        {error: classes.count(error) for error in set(classes)},
        _requests(rows),
        len(answered),
        len({a.request_id for a in failed} - answered),
        _failovers(rows),
    )
