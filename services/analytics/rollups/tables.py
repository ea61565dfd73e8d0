"""The rollup tables: their keys and sums, each sum with the SQL of what one attempt contributes to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

#: Growth of a histogram's bins: a quantile is off by at most (GAMMA - 1) / (GAMMA + 1), 1 % (DDSketch, VLDB 2019).
GAMMA = 1.02


class Width(IntEnum):
    """The time that a row sums up. Stored: numbers must keep their meaning."""

    FIVE_MINUTES = 1
    HOUR = 2
    DAY = 3
    MONTH = 4


class Slice(IntEnum):
    """The dimension of a histogram. Stored."""

    MODEL = 1
    TENANT = 2
    CONTENT_TYPE = 3
    PROVIDER = 4
    #: Of everything.
    ALL = 5


class Measure(IntEnum):
    """The duration in a histogram. Stored."""

    LATENCY = 1
    FIRST_TOKEN = 2


@dataclass(frozen=True, slots=True)
class Table:
    """`keys` are columns beside width and bucket; `sums` map a column to the SQL that adds an attempt of the source
    `counted` up; `where` chooses the attempts that have a row."""

    name: str
    keys: tuple[str, ...]
    sums: dict[str, str]
    where: str = "true"
    #: The sum that is 0 where a row counts no attempt any more.
    filled: str = "attempts"


_SUCCESS = "outcome = 'success'"


def _sum(column: str, where: str = "") -> str:
    return f"coalesce(sum({column}){f' FILTER (WHERE {where})' if where else ''}, 0)::bigint"


def _count(where: str) -> str:
    return f"count(*) FILTER (WHERE {where})::integer"


MONEY = {
    "cost": _sum("cost_micro_usd"),
    "estimated_cost": _sum("cost_micro_usd", "accuracy = 'estimated'"),
    "uncertain_cost": _sum("cost_micro_usd", "accuracy = 'uncertain'"),
    "failed_cost": _sum("cost_micro_usd", "outcome = 'failure'"),
    "cancelled_cost": _sum("cost_micro_usd", "outcome = 'cancelled'"),
    "unknown_cost": _sum("cost_micro_usd", "outcome = 'unknown'"),
    "hedge_cost": _sum("cost_micro_usd", f"hedge AND NOT {_SUCCESS}"),
    "cache_saving": _sum("cache_saving_micro_usd"),
}
TOKENS = {
    name: _sum(name)
    for name in (
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
    )
}
COUNTS = {
    "attempts": "count(*)::integer",
    "estimated": _count("accuracy = 'estimated'"),
    "uncertain": _count("accuracy = 'uncertain'"),
    "hedges": _count("hedge"),
}
OUTCOMES = {
    "successes": _count(_SUCCESS),
    "failures": _count("outcome = 'failure'"),
    "cancelled": _count("outcome = 'cancelled'"),
    "unknown": _count("outcome = 'unknown'"),
}
SPEED = {
    "timed_tokens": _sum("output_tokens", f"{_SUCCESS} AND latency_us IS NOT NULL"),
    "timed_us": _sum("latency_us", f"{_SUCCESS} AND latency_us IS NOT NULL"),
}
#: By the reach of a group: all of a request's attempts, those at one provider, those at one model.
LEVELS = {"": (), "provider_": ("provider",), "model_": ("provider", "model")}


def request_sums(level: str) -> dict[str, str]:
    """Returns the sums of requests at a level of `LEVELS`."""
    first = f"{level}first"
    return {
        f"{level}requests": _count(first),
        f"{level}answered": _count(f"{first} AND {level}answered"),
        f"{level}unanswered": _count(f"{first} AND {level}failed AND NOT {level}answered"),
        f"{level}failovers": _count(f"{first} AND {level}failed_over"),
    }


_ALL = {
    **MONEY,
    **TOKENS,
    **COUNTS,
    **OUTCOMES,
    **SPEED,
    **{name: sql for level in LEVELS for name, sql in request_sums(level).items()},
}
SERVED = Table("rollup_served", ("tenant", "content_type", "provider", "model"), _ALL)
TENANTS = Table("rollup_tenants", ("tenant", "content_type"), _ALL)
TENANT_PROVIDERS = Table("rollup_tenant_providers", ("tenant", "provider"), _ALL)
MODELS = Table("rollup_models", ("content_type", "provider", "model"), _ALL)
PROVIDERS = Table("rollup_providers", ("provider", "model"), _ALL)
PAID = Table(
    "rollup_paid",
    ("tenant", "campaign"),
    {**MONEY, **TOKENS, **COUNTS, "requests": request_sums("")["requests"]},
)
FAILURES = Table(
    "rollup_failures",
    ("tenant", "content_type", "provider", "model", "error_class"),
    {"failures": "count(*)::integer"},
    "outcome = 'failure'",
    "failures",
)
MODEL_FAILURES = Table(
    "rollup_model_failures",
    ("provider", "model", "error_class"),
    FAILURES.sums,
    FAILURES.where,
    FAILURES.filled,
)
#: Its rows have a histogram in place of sums.
DURATIONS = Table("rollup_durations", ("slice", "name", "model", "measure"), {}, filled="cardinality(bins)")
TABLES = (SERVED, TENANTS, TENANT_PROVIDERS, MODELS, PROVIDERS, PAID, FAILURES, MODEL_FAILURES, DURATIONS)
