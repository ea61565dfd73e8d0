"""What a limit is, and what may be asked of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from libs.errors import FieldViolation, InvalidArgument

#: Bounds that keep every integer of the store's arithmetic below 2^53; see adapters/limits.lua.
MAX_BUCKET = 10**10
MAX_COUNTER = 10**15
MAX_AMOUNT = 10**15
MAX_SCOPES = 16
#: Dimensions of one admission; 16 scopes with a handful of limits each.
MAX_DIMENSIONS = 64
SCOPE_KINDS = frozenset(
    {"tenant", "provider", "model", "key", "tenant_provider", "tenant_content", "campaign"}
)

_SCOPE = re.compile(r"([a-z_]{1,32}):(.{1,200})")
_ID = re.compile(r"^[!-~]{1,128}$")


class Unit(IntEnum):
    """What a limit counts; numbered as in the contract."""

    REQUESTS = 1
    INPUT_TOKENS = 2
    OUTPUT_TOKENS = 3
    TOTAL_TOKENS = 4
    CONCURRENCY = 5
    MICRO_USD = 6


class Period(IntEnum):
    """How capacity comes back; numbered as in the contract. NONE is concurrency's."""

    NONE = 0
    SECOND = 1
    MINUTE = 2
    HOUR = 3
    DAY = 4
    MONTH = 5

    @property
    def seconds(self) -> int:
        """Of a bucket; 0 for the others."""
        return {Period.SECOND: 1, Period.MINUTE: 60, Period.HOUR: 3600}.get(self, 0)

    @property
    def calendar(self) -> bool:
        """Whether it is cut by a calendar."""
        return self in (Period.DAY, Period.MONTH)


@dataclass(frozen=True, slots=True, order=True)
class LimitKey:
    """Names one limit."""

    scope: str
    unit: Unit
    period: Period

    def __post_init__(self) -> None:
        faults = scope_faults(self.scope, "scope")
        if (self.unit is Unit.CONCURRENCY) != (self.period is Period.NONE):
            faults.append(FieldViolation("period", "must be set, except for concurrency, which has none"))
        if faults:
            raise InvalidArgument(faults, reason="BAD_LIMIT")

    def __str__(self) -> str:
        return f"{self.scope} {self.unit.name.lower()} {self.period.name.lower()}"


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit. `burst` None: `limit`. `version`: its changes at run time. `pace`: routers let requests wait for it
    instead of refusing them; what is admitted is the same. Raises InvalidArgument."""

    key: LimitKey
    limit: int
    burst: int | None = None
    time_zone: str = "UTC"
    shadow: bool = False
    version: int = 0
    pace: bool = False

    def __post_init__(self) -> None:
        faults = []
        bucket = self.key.period.seconds > 0
        most = MAX_BUCKET if bucket else MAX_COUNTER
        if not 0 <= self.limit <= most:
            faults.append(FieldViolation("limit", f"must be from 0 to {most}, not {self.limit}"))
        if self.burst is not None:
            if not bucket:
                faults.append(FieldViolation("burst", "applies to SECOND, MINUTE and HOUR only"))
            elif not 1 <= self.burst <= MAX_BUCKET:
                faults.append(FieldViolation("burst", f"must be from 1 to {MAX_BUCKET}, not {self.burst}"))
        if self.pace and not bucket:
            faults.append(FieldViolation("pace", "applies to SECOND, MINUTE and HOUR only"))
        if not known_zone(self.time_zone):
            faults.append(FieldViolation("time_zone", "must be an IANA time zone such as Europe/Berlin"))
        if faults:
            raise InvalidArgument(faults, reason="BAD_LIMIT")

    @property
    def capacity(self) -> int:
        """The most that can be taken at once."""
        if self.limit == 0 or self.burst is None:
            return self.limit
        return self.burst


def known_zone(name: str) -> bool:
    """Whether it is in the time zone database."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Amounts:
    """Of one admission, per unit. `concurrency` None: as `requests`. Raises InvalidArgument."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    micro_usd: int = 0
    concurrency: int | None = None

    def __post_init__(self) -> None:
        faults = [
            FieldViolation(name, f"must be from 0 to {MAX_AMOUNT}, not {value}")
            for name, value in (*self.items(), ("concurrency", self.slots))
            if not 0 <= value <= MAX_AMOUNT
        ]
        if faults:
            raise InvalidArgument(faults, reason="BAD_AMOUNT")

    @property
    def slots(self) -> int:
        """The concurrency taken."""
        return self.requests if self.concurrency is None else self.concurrency

    def items(self) -> Sequence[tuple[str, int]]:
        """Names and values of what a settlement posts; concurrency is not among them."""
        return (
            ("requests", self.requests),
            ("input_tokens", self.input_tokens),
            ("output_tokens", self.output_tokens),
            ("micro_usd", self.micro_usd),
        )

    def of(self, unit: Unit) -> int:
        """What a limit of this unit counts of it."""
        if unit is Unit.REQUESTS:
            return self.requests
        if unit is Unit.CONCURRENCY:
            return self.slots
        if unit is Unit.INPUT_TOKENS:
            return self.input_tokens
        if unit is Unit.OUTPUT_TOKENS:
            return self.output_tokens
        if unit is Unit.TOTAL_TOKENS:
            return self.input_tokens + self.output_tokens
        return self.micro_usd


def scope_faults(scope: str, field: str) -> list[FieldViolation]:
    """What is wrong with a scope's name."""
    match = _SCOPE.fullmatch(scope)
    if match is None or not scope.isprintable():
        return [FieldViolation(field, "must be kind:name, name 1 to 200 printable characters")]
    if match[1] not in SCOPE_KINDS:
        return [
            FieldViolation(field, f"kind must be one of {', '.join(sorted(SCOPE_KINDS))}, not {match[1]}")
        ]
    return []


def check_scopes(scopes: Sequence[str], field: str = "scopes") -> tuple[str, ...]:
    """The scopes without repetition, in order. Raises InvalidArgument."""
    if not 1 <= len(scopes) <= MAX_SCOPES:
        faults = [FieldViolation(field, f"must hold 1 to {MAX_SCOPES} scopes, not {len(scopes)}")]
    else:
        faults = [f for i, scope in enumerate(scopes) for f in scope_faults(scope, f"{field}[{i}]")]
    if faults:
        raise InvalidArgument(faults, reason="BAD_SCOPE")
    return tuple(dict.fromkeys(scopes))


def check_ids(ids: Mapping[str, str]) -> None:
    """Ids are 1 to 128 printable ASCII characters without spaces. Raises InvalidArgument."""
    faults = [
        FieldViolation(field, "must be 1 to 128 printable ASCII characters without spaces")
        for field, value in ids.items()
        if not _ID.fullmatch(value)
    ]
    if faults:
        raise InvalidArgument(faults, reason="BAD_ID")
