"""The ledger in memory, and attempts to put into it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
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
from services.analytics.reports.postgres_failovers import failover_piece
from services.analytics.reports.query import MAX_ROWS, Group, GroupBy, Interval, Query
from services.analytics.reports.report import (
    Basis,
    CostReport,
    CostRow,
    FailoverReport,
    PerformanceReport,
    PerformanceRow,
    Quantiles,
    ReliabilityReport,
    ReliabilityRow,
    Waste,
)
from services.analytics.rollups.contributions_sql import CROWD
from tests.support.failovers import failover_row

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
    """Satisfies the ports `Ledger`, `RequestLookup`, `Reports`, `FailoverReports` and `ReportSnapshots`. `gone` makes
    it UNAVAILABLE."""

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

    async def costs(self, query: Query, *, dearest: int | None = None) -> CostReport:
        self._check()
        found, requests = self._matching(query), self._requests(query)
        pages = query if dearest is None else replace(query, page_size=dearest)
        rows = [_cost(group, rows, requests) for group, rows in _grouped(pages, found)]
        if dearest is not None:
            rows = sorted(rows, key=lambda row: -row.cost_micro_usd)[:dearest]
        whole = replace(query, group_by=(), group_by_label=None, interval=None, after=None)
        total = _cost(Group(), found, self._requests(whole))
        return CostReport(*_page(query, rows, lambda shown: (shown, total)))

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[MemoryLedger]:
        self._check()
        yield self

    @property
    def last_commit(self) -> float | None:
        return float(len(self.commits)) or None

    async def performance(self, query: Query) -> PerformanceReport:
        self._check()
        requests = self._requests(query)
        rows = [_performance(group, rows, requests) for group, rows in _grouped(query, self._matching(query))]
        return PerformanceReport(*_page(query, rows, lambda shown: (shown,)))

    async def reliability(self, query: Query) -> ReliabilityReport:
        self._check()
        requests = self._requests(query)
        rows = [_reliability(group, rows, requests) for group, rows in _grouped(query, self._matching(query))]
        return ReliabilityReport(*_page(query, rows, lambda shown: (shown,)))

    async def failovers(self, query: Query) -> FailoverReport:
        self._check()
        failover_piece(query)
        whole = replace(query, provider=None, model=None, group_by=(), group_by_label=None, after=None)
        times = Counter(a.request_id for a in self.rows.values())
        in_order = {
            first: sorted(group, key=lambda a: (a.started, a.attempt_number, a.attempt_id))
            for first, group in self._requests(whole).items()
        }
        firsts = [
            attempts[0]
            for attempts in in_order.values()
            if attempts[0].outcome is Outcome.FAILURE
            and attempts[0] in self._matching(query)
            and times[attempts[0].request_id] <= CROWD
        ]
        rows = [
            failover_row(group, [in_order[a.attempt_id] for a in mine], self.requests.values())
            for group, mine in _grouped(query, firsts)
        ]
        return FailoverReport(*_page(query, rows, lambda shown: (shown,)))

    def _requests(self, query: Query) -> dict[str, list[Attempt]]:
        """The attempts of each request in each group, by the id of the first of them, whatever the range."""
        groups: dict[tuple[object, ...], list[Attempt]] = {}
        times = Counter(a.request_id for a in self.rows.values())
        for a in self._matching(query, ever=True):
            alone = a.attempt_id if times[a.request_id] > CROWD else ""
            key = (a.request_id, a.tenant, a.campaign, a.content_type, alone, *_values(query, a))
            groups.setdefault(key, []).append(a)
        first = (
            min(group, key=lambda a: (a.started, a.attempt_number, a.attempt_id)) for group in groups.values()
        )
        return dict(zip((a.attempt_id for a in first), groups.values(), strict=True))

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

    def _matching(self, query: Query, *, ever: bool = False) -> list[Attempt]:
        def wanted(a: Attempt) -> bool:
            return (
                (ever or query.since <= a.started < query.until)
                and query.tenant in (None, a.tenant)
                and query.provider in (None, a.provider)
                and query.model in (None, a.model, f"{a.provider}/{a.model}")
                and query.content_type in (None, a.content_type)
                and query.campaign in (None, a.campaign)
                and query.labels.items() <= dict(a.labels).items()
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
    found = [str(values[dimension]) for dimension in query.group_by]
    return (*found, *([] if query.group_by_label is None else [attempt.labels.get(query.group_by_label, "")]))


def _bucket(query: Query, instant: float) -> float | None:
    if query.interval is None:
        return None
    local = datetime.fromtimestamp(instant, ZoneInfo(query.time_zone))
    if query.interval is Interval.FIVE_MINUTES:
        return instant // 300 * 300
    if query.interval in (Interval.MINUTE, Interval.HOUR):
        # Within an hour the offset from UTC does not change.
        past = local.second + local.microsecond / 1e6
        past += local.minute * 60 if query.interval is Interval.HOUR else 0
        return round(instant - past)
    local = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return (local.replace(day=1) if query.interval is Interval.MONTH else local).timestamp()


def _grouped(query: Query, attempts: Iterable[Attempt]) -> list[tuple[Group, list[Attempt]]]:
    groups: dict[Group, list[Attempt]] = {}
    for attempt in attempts:
        group = Group(_values(query, attempt), _bucket(query, attempt.started))
        groups.setdefault(group, []).append(attempt)
    if query.page_size is None and len(groups) > MAX_ROWS:
        raise FailedPrecondition("Too many rows", reason="TOO_MANY_ROWS")
    return [
        (group, groups[group])
        for group in sorted(groups, key=_place)
        if query.after is None or _place(group) > _place(query.after)
    ]


def _place(group: Group) -> tuple[float, tuple[str, ...]]:
    return group.bucket or 0, group.values


def _page(
    query: Query, rows: list[Any], report: Callable[[tuple[Any, ...]], tuple[Any, ...]]
) -> tuple[Any, ...]:
    """The arguments of a report: rows and what else it has, its basis, the last group where there are more."""
    shown = tuple(rows[: query.page_size])
    return (*report(shown), Basis(), shown[-1].group if len(shown) < len(rows) else None)


Requests = Mapping[str, Sequence[Attempt]]


def _of(rows: Iterable[Attempt], requests: Requests) -> list[Sequence[Attempt]]:
    """The requests whose first attempt is among the rows."""
    return [requests[a.attempt_id] for a in rows if a.attempt_id in requests]


def _cost(group: Group, rows: Sequence[Attempt], requests: Requests) -> CostRow:
    def cost(wanted: Callable[[Attempt], bool]) -> int:
        return sum(a.cost_micro_usd for a in rows if wanted(a))

    return CostRow(
        group,
        cost(lambda a: True),
        cost(lambda a: a.usage.accuracy is UsageAccuracy.ESTIMATED),
        cost(lambda a: a.usage.accuracy is UsageAccuracy.UNCERTAIN),
        sum((a.usage for a in rows), Usage()),
        len(rows),
        len(_of(rows, requests)),
        Waste(
            cost(lambda a: a.outcome is Outcome.FAILURE),
            cost(lambda a: a.outcome is Outcome.CANCELLED),
            cost(lambda a: a.outcome is Outcome.UNKNOWN),
            cost(lambda a: a.hedge and a.outcome is not Outcome.SUCCESS),
        ),
        sum(a.cache_saving_micro_usd for a in rows),
        sum(a.hedge for a in rows),
    )


def _quantiles(values: Iterable[float | None]) -> Quantiles | None:
    found = sorted(value for value in values if value is not None)
    if not found:
        return None
    return Quantiles(*(found[math.ceil(share * len(found)) - 1] for share in (0.5, 0.9, 0.95, 0.99)))


def _answered(request: Sequence[Attempt]) -> bool:
    return any(a.outcome is Outcome.SUCCESS for a in request)


def _failed_over(request: Sequence[Attempt]) -> bool:
    return any(a.outcome is Outcome.SUCCESS and a.attempt_number > 1 for a in request)


def _performance(group: Group, rows: Sequence[Attempt], requests: Requests) -> PerformanceRow:
    good = [a for a in rows if a.outcome is Outcome.SUCCESS]
    timed = [(a.usage.output_tokens, a.latency) for a in good if a.latency is not None]
    seconds = sum(latency for _, latency in timed)
    return PerformanceRow(
        group,
        len(rows),
        len(good),
        len(_of(rows, requests)),
        sum(map(_failed_over, _of(rows, requests))),
        _quantiles(a.latency for a in good),
        _quantiles(a.time_to_first_token for a in good if a.streamed),
        sum(tokens for tokens, _ in timed) / seconds if seconds else None,
    )


def _reliability(group: Group, rows: Sequence[Attempt], requests: Requests) -> ReliabilityRow:
    def count(outcome: Outcome) -> int:
        return sum(a.outcome is outcome for a in rows)

    mine = _of(rows, requests)
    classes = [a.error_class for a in rows if a.outcome is Outcome.FAILURE]
    return ReliabilityRow(
        group,
        len(rows),
        count(Outcome.SUCCESS),
        len(classes),
        count(Outcome.CANCELLED),
        count(Outcome.UNKNOWN),
        {error: classes.count(error) for error in set(classes)},
        len(mine),
        sum(map(_answered, mine)),
        sum(any(a.outcome is Outcome.FAILURE for a in r) and not _answered(r) for r in mine),
        sum(map(_failed_over, mine)),
    )
