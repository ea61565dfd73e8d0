"""Packs limits for adapters/limits.lua, and unpacks its answers: both are doubles."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from libs.limits import Period, Unit
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Reading, ticks_per_period
from services.ratelimit.domain.windows import Windows, windows

BUCKET, CALENDAR, CONCURRENCY = 1.0, 2.0, 3.0
_VIEW = 4
_READING = 6


@lru_cache(maxsize=512)
def doubles(count: int) -> struct.Struct:
    """Returns the packer of `count` little-endian doubles."""
    return struct.Struct(f"<{count}d")


class WindowCache:
    """The present calendar windows by period and zone; computing them costs more than all the rest of a call."""

    def __init__(self) -> None:
        self._known: dict[tuple[Period, str], Windows] = {}

    def at(self, period: Period, zone: str, now_ms: int) -> Windows:
        """Returns the same as `domain.windows.windows`."""
        known = self._known.get((period, zone))
        if known is None or not known.start <= now_ms < known.middle:
            known = self._known[period, zone] = windows(period, zone, now_ms)
        return known


@lru_cache(maxsize=65536)
def _fixed(limit: Limit) -> tuple[float, ...]:
    kind = (
        CONCURRENCY
        if limit.key.unit is Unit.CONCURRENCY
        else BUCKET
        if limit.key.period.seconds
        else CALENDAR
    )
    return (kind, limit.key.unit.number, limit.shadow, limit.limit, limit.capacity)


def dimension(limit: Limit, now_ms: int, cache: WindowCache) -> tuple[float, ...]:
    """Returns kind, unit, shadow, limit, capacity, and three parameters."""
    fixed = _fixed(limit)
    if fixed[0] == BUCKET:
        return (*fixed, ticks_per_period(limit), 0.0, 0.0)
    if fixed[0] == CALENDAR:
        bounds = cache.at(limit.key.period, limit.time_zone, now_ms)
        return (*fixed, bounds.start, bounds.middle, bounds.end)
    return (*fixed, 0.0, 0.0, 0.0)


def pack_dimensions(
    head: Sequence[float],
    limits: Sequence[Limit],
    need: Sequence[int],
    want: Sequence[int],
    now_ms: int,
    cache: WindowCache,
) -> bytes:
    """Packs the head's numbers, then per limit its dimension, need and want."""
    numbers: list[float] = list(head)
    for limit, least, most in zip(limits, need, want, strict=True):
        numbers += dimension(limit, now_ms, cache)
        numbers += (least, most)
    return doubles(len(numbers)).pack(*numbers)


def unpack(blob: bytes) -> tuple[float, ...]:
    """Unpacks all the doubles there are."""
    return doubles(len(blob) // 8).unpack(blob)


def views(
    numbers: Sequence[float], limits: Sequence[Limit], now_ms: int, cache: WindowCache
) -> list[tuple[int, int, Reading]]:
    """Returns per limit: flag (0 fits, 1 violated, 2 would be violated were it enforced), grant, state after."""
    found = []
    for i, limit in enumerate(limits):
        flag, grant, level, outstanding = numbers[i * _VIEW : (i + 1) * _VIEW]
        start = finish = 0.0
        if limit.key.period.calendar:
            bounds = cache.at(limit.key.period, limit.time_zone, now_ms)
            start, finish = bounds.start / 1000, bounds.middle / 1000
        found.append((int(flag), int(grant), Reading(int(level), int(outstanding), start, finish)))
    return found


def readings(numbers: Sequence[float]) -> list[Reading]:
    """Returns the readings in the answer of `read`."""
    found = []
    for i in range(0, len(numbers), _READING):
        level, outstanding, start, finish, uncertain, taken = numbers[i : i + _READING]
        found.append(
            Reading(int(level), int(outstanding), start / 1000, finish / 1000, int(uncertain), int(taken))
        )
    return found
