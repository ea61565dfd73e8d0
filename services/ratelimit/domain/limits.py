"""Limits, and checks of what callers name: amounts, scopes, ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from libs.bounds import MAX_ID
from libs.errors import FieldViolation, InvalidArgument
from libs.limits import (
    MAX_BUCKET,
    MAX_COUNTER,
    PERIOD_BY_NUMBER,
    UNIT_BY_NUMBER,
    Amounts,
    LimitKey,
    Scope,
    Unit,
    by_unit,
    scope_of,
)

#: The most that may be asked for at once, in the limit's unit.
MAX_AMOUNT = MAX_COUNTER
MAX_SCOPES = 16
#: Dimensions of one admission; 16 scopes with a handful of limits each.
MAX_DIMENSIONS = 64
_ID = re.compile(rf"^[!-~]{{1,{MAX_ID}}}$")


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
        most = self.key.period.max_limit
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
    """Returns True if the name is in the time zone database."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def check_amounts(amounts: Amounts) -> Amounts:
    """Returns the amounts. Raises InvalidArgument where one cannot be counted."""
    faults = [
        FieldViolation(unit, f"must be from 0 to {MAX_AMOUNT}, not {value}")
        for unit, value in by_unit(amounts).items()
        if unit is not Unit.TOTAL_TOKENS and not 0 <= value <= MAX_AMOUNT
    ]
    if faults:
        raise InvalidArgument(faults, reason="BAD_AMOUNT")
    return amounts


def key_of(scope: str, unit: int, period: int) -> LimitKey:
    """Returns the limit's name from its parts on the wire. Raises InvalidArgument naming every fault."""
    faults = []
    counted, recurring = UNIT_BY_NUMBER.get(unit), PERIOD_BY_NUMBER.get(period)
    if counted is None:
        faults.append(FieldViolation("unit", "must be set to a unit of this contract"))
    if recurring is None:
        faults.append(FieldViolation("period", "must be a period of this contract"))
    try:
        named = scope_of(scope)
    except ValueError as error:
        faults.append(FieldViolation("scope", str(error)))
    if faults or counted is None or recurring is None:
        raise InvalidArgument(faults, reason="BAD_LIMIT")
    try:
        return LimitKey(named, counted, recurring)
    except ValueError as error:
        raise InvalidArgument([FieldViolation("period", str(error))], reason="BAD_LIMIT") from None


def check_scopes(scopes: Sequence[str], field: str = "scopes") -> tuple[Scope, ...]:
    """Returns the scopes without repetition, in order. Raises InvalidArgument."""
    if not 1 <= len(scopes) <= MAX_SCOPES:
        fault = FieldViolation(field, f"must hold 1 to {MAX_SCOPES} scopes, not {len(scopes)}")
        raise InvalidArgument([fault], reason="BAD_SCOPE")
    found: dict[Scope, None] = {}
    faults = []
    for i, text in enumerate(scopes):
        try:
            found[scope_of(text)] = None
        except ValueError as error:
            faults.append(FieldViolation(f"{field}[{i}]", str(error)))
    if faults:
        raise InvalidArgument(faults, reason="BAD_SCOPE")
    return tuple(found)


def check_ids(ids: Mapping[str, str]) -> None:
    """Raises InvalidArgument where an id is not 1 to MAX_ID printable ASCII characters without spaces."""
    faults = [
        FieldViolation(field, f"must be 1 to {MAX_ID} printable ASCII characters without spaces")
        for field, value in ids.items()
        if not _ID.fullmatch(value)
    ]
    if faults:
        raise InvalidArgument(faults, reason="BAD_ID")
