"""The names of limits: a scope, what is counted, and how capacity comes back.

Each is a type with one validator and one text form, which stands on the wire, in the store and in messages for
people. Inside a process nothing is read out of that text: whoever needs a part of a name has the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

from msgspec import Struct

#: The longest name of a scope, its tenant included, in characters.
MAX_NAME = 200
#: The largest limit of a bucket and of any other kind, in the limit's unit. They keep every integer of the store's
#: arithmetic below 2^53, which Lua holds exactly (services/ratelimit/adapters/limits.lua).
MAX_BUCKET = 10**10
MAX_COUNTER = 10**15
#: Scopes that are remembered with their text once they were read; a fleet uses a few for each tenant.
_REMEMBERED = 65_536


class Unit(StrEnum):
    """A unit that limits count, by the catalog's word. `number`: as in ratelimit.proto and in the store; never
    reused."""

    number: int

    def __new__(cls, word: str, number: int = 0) -> Unit:
        member = str.__new__(cls, word)
        member._value_ = word
        member.number = number
        return member

    REQUESTS = "requests", 1
    INPUT_TOKENS = "input_tokens", 2
    OUTPUT_TOKENS = "output_tokens", 3
    TOTAL_TOKENS = "total_tokens", 4
    CONCURRENCY = "concurrency", 5
    MICRO_USD = "micro_usd", 6

    @property
    def tokens(self) -> bool:
        """Returns True if it counts tokens of any kind."""
        return self in (Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS, Unit.TOTAL_TOKENS)

    @property
    def words(self) -> str:
        """Returns the name with spaces, for a sentence."""
        return self.replace("_", " ")


class Period(StrEnum):
    """A way in which capacity comes back, by the catalog's word; NONE is concurrency's. `number`: as of Unit.
    `seconds`: of a bucket, which refills steadily; 0 for the others."""

    number: int
    seconds: int

    def __new__(cls, word: str, number: int = 0, seconds: int = 0) -> Period:
        member = str.__new__(cls, word)
        member._value_ = word
        member.number = number
        member.seconds = seconds
        return member

    NONE = "", 0, 0
    SECOND = "second", 1, 1
    MINUTE = "minute", 2, 60
    HOUR = "hour", 3, 3600
    DAY = "day", 4, 0
    MONTH = "month", 5, 0

    @property
    def calendar(self) -> bool:
        """Returns True if a calendar cuts it into windows."""
        return self in (Period.DAY, Period.MONTH)

    @property
    def max_limit(self) -> int:
        """The largest limit that the limiter counts exactly, in the limit's unit."""
        return MAX_BUCKET if self.seconds else MAX_COUNTER


UNIT_BY_NUMBER = {unit.number: unit for unit in Unit}
PERIOD_BY_NUMBER = {period.number: period for period in Period}
BUCKET_PERIODS = tuple(period for period in Period if period.seconds)
#: The periods of all units but concurrency.
PERIODS = tuple(period for period in Period if period)


class ScopeKind(StrEnum):
    """A kind of scope. `of_tenant`: a tenant and something of it. `callers`: the caller's own, so that no other
    provider would help where it has no room. `shared`: with other tenants."""

    of_tenant: bool
    callers: bool

    def __new__(cls, word: str, of_tenant: bool = False, callers: bool = False) -> ScopeKind:
        member = str.__new__(cls, word)
        member._value_ = word
        member.of_tenant = of_tenant
        member.callers = callers
        return member

    TENANT = "tenant", False, True
    PROVIDER = "provider", False, False
    MODEL = "model", False, False
    KEY = "key", False, False
    TENANT_PROVIDER = "tenant_provider", True, False
    TENANT_CONTENT = "tenant_content", True, True
    CAMPAIGN = "campaign", True, True

    @property
    def shared(self) -> bool:
        """Returns True if several tenants take from it."""
        return not (self.of_tenant or self.callers)


class Scope(Struct, frozen=True, cache_hash=True, order=True):
    """The thing that a limit belongs to. `tenant` is set where the kind is of a tenant's, and has no slash. Raises
    ValueError for what is no name."""

    kind: ScopeKind
    name: str
    tenant: str = ""

    def __post_init__(self) -> None:
        named = f"{self.tenant}/{self.name}" if self.kind.of_tenant else self.name
        if not self.name or len(named) > MAX_NAME or not named.isprintable():
            raise ValueError(f"must be kind:name, name 1 to {MAX_NAME} printable characters")
        if "/" in self.tenant or bool(self.tenant) is not self.kind.of_tenant:
            raise ValueError(f"a scope of kind {self.kind} has {_PARTS[self.kind.of_tenant]}")

    def __str__(self) -> str:
        if self.kind.of_tenant:
            return f"{self.kind}:{self.tenant}/{self.name}"
        return f"{self.kind}:{self.name}"


#: The sentence's end of an error, by `ScopeKind.of_tenant`.
_PARTS = {False: "no tenant", True: "a tenant without a slash, a slash and a name"}


@lru_cache(maxsize=_REMEMBERED)
def scope_of(text: str) -> Scope:
    """Reads `kind:name`, or `kind:tenant/name`: the one reader of what `str(scope)` writes. Raises ValueError."""
    word, colon, name = text.partition(":")
    if not colon:
        raise ValueError(f"must be kind:name, name 1 to {MAX_NAME} printable characters")
    try:
        kind = ScopeKind(word)
    except ValueError:
        known = ", ".join(sorted(ScopeKind))
        raise ValueError(f"kind must be one of {known}, not {word[:32]}") from None
    if not kind.of_tenant:
        return Scope(kind, name)
    tenant, _, rest = name.partition("/")
    return Scope(kind, rest, tenant)


class LimitKey(Struct, frozen=True, cache_hash=True):
    """Names one limit. Raises ValueError where unit and period do not go together."""

    scope: Scope
    unit: Unit
    period: Period

    def __post_init__(self) -> None:
        if (self.unit is Unit.CONCURRENCY) != (self.period is Period.NONE):
            raise ValueError("the period must be set, except for concurrency, which has none")

    @property
    def position(self) -> tuple[str, int, int]:
        """Returns the key that limits are sorted by."""
        return str(self.scope), self.unit.number, self.period.number

    @property
    def budget(self) -> bool:
        """Returns True if it bounds money in a calendar window."""
        return self.unit is Unit.MICRO_USD and self.period.calendar

    def __str__(self) -> str:
        return f"{self.scope} {self.unit} {self.period}".rstrip()


class Amounts(Struct, frozen=True):
    """The amounts that one admission takes, per unit, all >= 0. `concurrency` None: as `requests`."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    micro_usd: int = 0
    concurrency: int | None = None

    @property
    def slots(self) -> int:
        """Returns the concurrency taken."""
        return self.requests if self.concurrency is None else self.concurrency

    def most(self, other: Amounts) -> Amounts:
        """Returns the larger of both amounts, for each unit."""
        return Amounts(
            max(self.requests, other.requests),
            max(self.input_tokens, other.input_tokens),
            max(self.output_tokens, other.output_tokens),
            max(self.micro_usd, other.micro_usd),
            max(self.slots, other.slots),
        )

    def times(self, times: int) -> Amounts:
        """Returns the amounts of `times` such admissions."""
        return Amounts(
            self.requests * times,
            self.input_tokens * times,
            self.output_tokens * times,
            self.micro_usd * times,
            self.slots * times,
        )


#: Python 3.11 takes longer to look a member up in its enum than to count it, and every admission counts them all.
_REQUESTS, _INPUT, _OUTPUT, _TOTAL, CONCURRENCY, _MICRO_USD = Unit


def by_unit(amounts: Amounts) -> dict[Unit, int]:
    """Returns what an admission takes from a limit of each unit."""
    return {
        _REQUESTS: amounts.requests,
        _INPUT: amounts.input_tokens,
        _OUTPUT: amounts.output_tokens,
        _TOTAL: amounts.input_tokens + amounts.output_tokens,
        CONCURRENCY: amounts.slots,
        _MICRO_USD: amounts.micro_usd,
    }


def least_amounts(units: Mapping[Unit, int]) -> Amounts:
    """Returns the least amounts that give every unit so much."""
    incoming = units.get(_INPUT, 0)
    outgoing = max(units.get(_OUTPUT, 0), units.get(_TOTAL, 0) - incoming)
    return Amounts(
        units.get(_REQUESTS, 0),
        incoming,
        outgoing,
        units.get(_MICRO_USD, 0),
        units.get(CONCURRENCY, 0),
    )


class QueueKey(Struct, frozen=True):
    """Names the queue in front of a scope's limits."""

    scope: Scope

    def __str__(self) -> str:
        return f"{self.scope} queue"
