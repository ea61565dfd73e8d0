"""The cost of an attempt, in whole micro-USD, rounded half up.

The catalog's own price comes first, then the declaration that a local server is free, then the price list of
genai-prices as it was installed (dated and tiered prices, cache reads and writes; never updated from the
network). The list is compiled into integers, since its own calculation takes tens of microseconds per call;
the tests compare the two on every model of the list.

US dollars per million tokens times tokens are micro-USD, so prices keep the list's own numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version as installed_version

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from libs.catalog.kinds import KINDS
from libs.catalog.model import Model, Price, Provider
from libs.types import Usage

_MTOK_KEYS = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok", "output_reasoning_mtok")
_MICRO_PER_KCOUNT = 1000
_LIST_VERSION = installed_version("genai-prices")


class UnknownPrice(LookupError):
    """Nobody knows what a model costs. Cannot happen with a catalog that was loaded with `prices=True`."""


@dataclass(frozen=True, slots=True)
class _Rates:
    """Prices above an input length: micro-USD per token, times the table's scale."""

    above: int
    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class _Table:
    """One price list entry. `bands`: by input length, longest first, the last above -1. `scale`: a power of
    ten that makes every price a whole number."""

    bands: tuple[_Rates, ...]
    per_request: int
    scale: int

    def cost(self, usage: Usage) -> int:
        """Returns the cost in micro-USD. Cached and reasoning tokens are parts of the totals; a part that exceeds its
        total, which no provider should report, raises the total rather than making the rest negative."""
        amount, fresh, visible = self.per_request, usage.input_tokens, usage.output_tokens
        read, written, reasoning = usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens
        if read or written or reasoning:
            fresh = max(0, fresh - read - written)
            visible = max(0, visible - reasoning)
            rates = self._rates(fresh + read + written)
            amount += read * rates.cache_read + written * rates.cache_write + reasoning * rates.reasoning
        else:
            rates = self._rates(fresh)
        return (amount + fresh * rates.input + visible * rates.output + self.scale // 2) // self.scale

    def _rates(self, whole_input: int) -> _Rates:
        for rates in self.bands:
            if whole_input > rates.above:
                return rates
        return self.bands[-1]


@dataclass(frozen=True, slots=True)
class _Listing:
    """A model of the price list: its tables, the one that takes precedence first; the last one always
    applies."""

    model_id: str
    schedule: tuple[tuple[StartDateConstraint | TimeOfDateConstraint | None, _Table], ...]
    #: The list names a price for input and output tokens, or says that the model is free.
    complete: bool
    #: The version of the list, and the entry's name.
    version: str

    def table(self, at: float) -> _Table:
        """Returns the prices of an instant."""
        for constraint, table in self.schedule:
            if constraint is None or constraint.active(datetime.fromtimestamp(at, UTC)):
                return table
        return self.schedule[-1][1]


def cost_micro_usd(
    provider: Provider, model: Model, usage: Usage, at: float, response_model: str = ""
) -> int:
    """Returns the cost of one attempt that began at `at` (epoch seconds), in micro-USD. `response_model`: the model
    that the provider says answered, which may be a dated version with its own price. Raises UnknownPrice."""
    if model.price is not None:
        return _own_table(model.price).cost(usage)
    if KINDS[provider.kind].free:
        return 0
    listing = _listing(provider.kind, provider.base_url, response_model, model.wire_name, model.name)
    if listing is None:
        raise UnknownPrice(f"the price of {model.id} is unknown")
    return listing.table(at).cost(usage)


def price_version(provider: Provider, model: Model, response_model: str = "") -> str:
    """Returns the name of the price that `cost_micro_usd` computes with: enough to find it again when a bill is
    disputed. Empty: none is known."""
    if model.price is not None:
        return _own_version(model.price)
    if KINDS[provider.kind].free:
        return "free"
    listing = _listing(provider.kind, provider.base_url, response_model, model.wire_name, model.name)
    return "" if listing is None else listing.version


def why_unpriced(provider: Provider, model: Model) -> str | None:
    """Returns a sentence on why a model's cost cannot be computed; None: it can."""
    if model.price is not None or KINDS[provider.kind].free:
        return None
    listing = _listing(provider.kind, provider.base_url, "", model.wire_name, model.name)
    if listing is None:
        what = "is not in the price list"
    elif not listing.complete:
        what = f'is in the price list as "{listing.model_id}", but without a price per token'
    else:
        return None
    return f"{what}: add price: {{input: …, output: …}} in US dollars per million tokens (0 where it is free)"


@lru_cache(maxsize=4096)
def _listing(kind: str, base_url: str, *names: str) -> _Listing | None:
    """Returns the price list's entry for the first of the names that it knows."""
    snapshot = get_snapshot()
    try:
        if prices := KINDS[kind].prices:
            provider = snapshot.find_provider(None, prices, None)
        else:
            provider = snapshot.find_provider(None, None, base_url)
    except LookupError:
        return None
    for name in filter(None, names):
        if (info := provider.find_model(name, all_providers=snapshot.providers)) is not None:
            return _compiled(info)
    return None


def _compiled(info: ModelInfo) -> _Listing:
    if isinstance(info.prices, ModelPrice):
        schedule: tuple[tuple[StartDateConstraint | TimeOfDateConstraint | None, ModelPrice], ...] = (
            (None, info.prices),
        )
    else:
        # genai-prices: the last one whose constraint holds applies, and the first where none does.
        first = info.prices[0].prices
        schedule = (*((p.constraint, p.prices) for p in reversed(info.prices)), (None, first))
    complete = info.id.endswith(":free") or all(
        price.input_mtok is not None and price.output_mtok is not None for _, price in schedule
    )
    version = f"genai-prices {_LIST_VERSION} {info.id}"
    return _Listing(info.id, tuple((c, _table(price)) for c, price in schedule), complete, version)


def _table(price: ModelPrice) -> _Table:
    listed: dict[str, Decimal | TieredPrices] = {
        key: price.__dict__[key] for key in _MTOK_KEYS if price.__dict__.get(key) is not None
    }
    # Tokens without a price of their own are charged as those they are a part of; what is part of nothing is free.
    plain_input = listed.get("input_mtok", Decimal(0))
    plain_output = listed.get("output_mtok", Decimal(0))
    parts = (
        plain_input,
        listed.get("cache_read_mtok", plain_input),
        listed.get("cache_write_mtok", plain_input),
        plain_output,
        listed.get("output_reasoning_mtok", plain_output),
    )
    request = Decimal(price.__dict__.get("requests_kcount") or 0) * _MICRO_PER_KCOUNT
    borders = {tier.start for part in parts if isinstance(part, TieredPrices) for tier in part.tiers}
    rows = [(above, [_at(part, above) for part in parts]) for above in (*sorted(borders, reverse=True), -1)]
    digits = max(_digits(value) for value in (request, *(value for _, row in rows for value in row)))
    scale = 10**digits
    bands = tuple(_Rates(above, *(int(value * scale) for value in row)) for above, row in rows)
    return _Table(bands, int(request * scale), scale)


def _at(price: Decimal | TieredPrices, above: int) -> Decimal:
    """Returns the price of inputs just longer than `above`: a tier's price holds for all tokens, not for the
    excess."""
    if isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if tier.start <= above]
    return reached[-1] if reached else price.base


def _digits(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


@lru_cache(maxsize=4096)
def _own_table(price: Price) -> _Table:
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    return _Table(
        (_Rates(-1, price.input, read, write, price.output, price.output),), per_request=0, scale=1_000_000
    )


@lru_cache(maxsize=4096)
def _own_version(price: Price) -> str:
    parts = (price.input, price.output, price.cache_read, price.cache_write)
    return "catalog " + "/".join(["-" if part is None else str(part) for part in parts])


#: (provider, model, usage, epoch seconds, the model's name in the answer) → micro-USD.
Pricer = Callable[[Provider, Model, Usage, float, str], int]
