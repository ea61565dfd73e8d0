"""Histograms with logarithmic bins: quantiles to within 1 % that add up over rows (DDSketch, VLDB 2019)."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

from services.analytics.rollups.tables import GAMMA

_LOG_GAMMA = math.log(GAMMA)


def bin_sql(column: str) -> str:
    """Returns the SQL of the bin of a column of microseconds: 0 for zero, else the lowest i from 1 on with value <=
    GAMMA^i."""
    bin_above = f"greatest(1, ceil(ln({column}::float8) / {_LOG_GAMMA!r}))::smallint"
    return f"CASE WHEN {column} > 0 THEN {bin_above} ELSE 0 END"


def bin_value(number: int) -> float:
    """Returns the value in microseconds that stands for a bin: as far, by ratio, from its lower end as from its
    upper one. The first bins are narrower than a microsecond and hold whole ones."""
    return 2 * GAMMA**number / (GAMMA + 1) if number > 0 else 0.0


def quantiles(counts: Mapping[int, int], shares: Sequence[float]) -> list[float] | None:
    """Returns for each share (rising, 0 to 1) the value of the bin that holds the lowest element which at least that
    share does not exceed; None without elements. Work is linear in the bins."""
    numbers = sorted(counts)
    return quantiles_of_row(numbers, [counts[number] for number in numbers], shares)


def quantiles_of_row(
    bins: Sequence[int], counts: Sequence[int], shares: Sequence[float]
) -> list[float] | None:
    """Returns the same of one histogram; `bins` rise."""
    passed = list(accumulate(counts))
    if not passed or not passed[-1]:
        return None
    total = passed[-1]
    return [bin_value(bins[bisect_left(passed, max(1, math.ceil(share * total)))]) for share in shares]
