"""Rollups counted in plain Python from attempts, and the rows that a database holds."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg

from libs.types import UsageAccuracy
from services.analytics.ledger.attempt import Attempt, Outcome
from services.analytics.rollups.contributions_sql import CROWD
from services.analytics.rollups.state import RollupState
from services.analytics.rollups.tables import (
    DURATIONS,
    FAILURES,
    MODEL_FAILURES,
    MODELS,
    PAID,
    PROVIDERS,
    SERVED,
    TABLES,
    TENANT_PROVIDERS,
    TENANTS,
    Width,
)

Key = tuple[Any, ...]
#: Table, width, bucket, keys → sums, those of nothing left out.
Rows = dict[Key, dict[str, int]]


def counted(attempts: Iterable[Attempt], state: RollupState) -> Rows:
    """The rows that a database with these marks must hold."""
    rows: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    attempts = list(attempts)
    said = _said_of_requests(attempts)
    for attempt in attempts:
        started = datetime.fromtimestamp(attempt.started, UTC)
        for width in Width:
            if _counts_in(width, started, state):
                for table, keys, sums in _contributions(attempt, said[attempt.attempt_id]):
                    rows[table, int(width), _bucket(width, started, state.zone), *keys].update(sums)
    return {key: found for key, sums in rows.items() if (found := {n: v for n, v in sums.items() if v})}


async def held(connection: asyncpg.Connection[asyncpg.Record], state: RollupState) -> Rows:
    """The rows that the database holds, rows of five minutes that wait to be deleted left out."""
    rows: Rows = {}
    for table in TABLES:
        for row in await connection.fetch(f"SELECT * FROM analytics.{table.name}"):  # our own name
            if row["width"] == Width.FIVE_MINUTES and row["bucket"] < state.kept_from:
                continue
            key = (table.name, row["width"], row["bucket"], *(row[name] for name in table.keys))
            sums = {name: row[name] for name in table.sums if row[name]}
            if table is DURATIONS:
                assert row["bins"] == sorted(set(row["bins"]))
                sums = dict(zip(map(str, row["bins"]), row["counts"], strict=True))
            if sums:
                rows[key] = sums
    return rows


def _counts_in(width: Width, started: datetime, state: RollupState) -> bool:
    if width is Width.FIVE_MINUTES:
        return started >= state.kept_from
    return started < (state.hours_until if width is Width.HOUR else state.days_until)


def _bucket(width: Width, started: datetime, zone: str) -> datetime:
    if width is Width.FIVE_MINUTES:
        return started.replace(minute=started.minute // 5 * 5, second=0, microsecond=0)
    if width is Width.HOUR:
        return started.replace(minute=0, second=0, microsecond=0)
    local = started.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return (local if width is Width.DAY else local.replace(day=1)).astimezone(UTC)


_LEVELS: dict[str, Callable[[Attempt], Key]] = {
    "": lambda a: (),
    "provider_": lambda a: (a.provider,),
    "model_": lambda a: (a.provider, a.model),
}


def _said_of_requests(attempts: list[Attempt]) -> dict[str, Counter[str]]:
    """The numbers of requests that each attempt stands for."""
    said: dict[str, Counter[str]] = {attempt.attempt_id: Counter() for attempt in attempts}
    times = Counter(attempt.request_id for attempt in attempts)
    for level, reach in _LEVELS.items():
        groups: defaultdict[Key, list[Attempt]] = defaultdict(list)
        for a in attempts:
            alone = a.attempt_id if times[a.request_id] > CROWD else ""
            groups[a.request_id, a.tenant, a.campaign, a.content_type, alone, *reach(a)].append(a)
        for group in groups.values():
            first = min(group, key=lambda a: (a.started, a.attempt_number, a.attempt_id))
            answered = any(a.outcome is Outcome.SUCCESS for a in group)
            failed = any(a.outcome is Outcome.FAILURE for a in group)
            said[first.attempt_id].update(
                {
                    f"{level}requests": 1,
                    f"{level}answered": int(answered),
                    f"{level}unanswered": int(failed and not answered),
                    f"{level}failovers": int(
                        any(a.outcome is Outcome.SUCCESS and a.attempt_number > 1 for a in group)
                    ),
                }
            )
    return said


def _contributions(a: Attempt, said: Counter[str]) -> Iterable[tuple[str, Key, dict[str, int]]]:
    cost, usage, good = a.cost_micro_usd, a.usage, a.outcome is Outcome.SUCCESS
    timed = good and a.latency is not None
    sums = {
        "cost": cost,
        "estimated_cost": cost * (usage.accuracy is UsageAccuracy.ESTIMATED),
        "uncertain_cost": cost * (usage.accuracy is UsageAccuracy.UNCERTAIN),
        "failed_cost": cost * (a.outcome is Outcome.FAILURE),
        "cancelled_cost": cost * (a.outcome is Outcome.CANCELLED),
        "unknown_cost": cost * (a.outcome is Outcome.UNKNOWN),
        "hedge_cost": cost * (a.hedge and not good),
        "cache_saving": a.cache_saving_micro_usd,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "attempts": 1,
        "estimated": int(usage.accuracy is UsageAccuracy.ESTIMATED),
        "uncertain": int(usage.accuracy is UsageAccuracy.UNCERTAIN),
        "hedges": int(a.hedge),
    }
    yield PAID.name, (a.tenant, a.campaign), sums | {"requests": said["requests"]}
    served = (a.tenant, a.content_type, a.provider, a.model)
    outcomes = {
        "successes": int(good),
        "failures": int(a.outcome is Outcome.FAILURE),
        "cancelled": int(a.outcome is Outcome.CANCELLED),
        "unknown": int(a.outcome is Outcome.UNKNOWN),
        "timed_tokens": usage.output_tokens * timed,
        "timed_us": round((a.latency or 0) * 1e6) * timed,
    }
    for table, keys in (
        (SERVED, served),
        (TENANTS, served[:2]),
        (TENANT_PROVIDERS, served[0:3:2]),
        (MODELS, served[1:]),
        (PROVIDERS, served[2:]),
    ):
        yield table.name, keys, sums | outcomes | dict(said)
    if a.outcome is Outcome.FAILURE:
        yield FAILURES.name, (*served, a.error_class or ""), {"failures": 1}
        yield MODEL_FAILURES.name, (*served[2:], a.error_class or ""), {"failures": 1}
    if good:
        first_token = a.time_to_first_token if a.streamed else None
        for measure, seconds in ((1, a.latency), (2, first_token)):
            if seconds is not None:
                number = _bin(round(seconds * 1e6))
                slices = (
                    *((1, a.provider, a.model), (2, a.tenant, ""), (3, a.content_type, "")),
                    *((4, a.provider, ""), (5, "", "")),
                )
                for slice_ in slices:
                    yield DURATIONS.name, (*slice_, measure), {str(number): 1}


def _bin(micros: int) -> int:
    return math.ceil(math.log(micros) / math.log(1.02)) if micros > 0 else 0
