"""Quantiles in SQL: exact over the rows for now. Whatever replaces it (sketches that add up) changes this module."""

from __future__ import annotations

from collections.abc import Sequence

from services.analytics.reports.report import Quantiles

_SHARES = (0.5, 0.9, 0.99)


def quantiles_sql(column: str, where: str) -> str:
    """Returns the SQL of an aggregate over a column of microseconds; NULLs are left out. Both arguments are SQL of
    our own."""
    shares = ", ".join(str(share) for share in _SHARES)
    return f"percentile_disc(ARRAY[{shares}]) WITHIN GROUP (ORDER BY {column}) FILTER (WHERE {where})"


def read_quantiles(value: Sequence[int | None] | None) -> Quantiles | None:
    """Returns the aggregate's quantiles in seconds; None without data."""
    if value is None:
        return None
    p50, p90, p99 = value
    if p50 is None or p90 is None or p99 is None:
        return None
    return Quantiles(p50 / 1e6, p90 / 1e6, p99 / 1e6)
