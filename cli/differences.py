"""The difference between a provider's bill and the ledger, by day and model, with its cause. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from cli.bill import Billed

#: A model's name in a bill may be that of a dated version: gpt-4o-2024-08-06, claude-sonnet-4-20250514, m@20250514.
_VERSION = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{3}|latest)$")
#: Counts and money this near to each other are the same: bills round each line, to the micro-USD or coarser.
NEAR = 0.001


class Cause(StrEnum):
    """Why a bill and the ledger differ, as far as the figures tell."""

    NONE = "none"
    NOT_IN_LEDGER = "the ledger has none: called past Pointsman, or the model has another name there"
    NOT_IN_BILL = "the bill has none: not billed, or the model has another name there"
    CACHED = "cached prompt tokens are counted on one side only"
    DAY = "the other way round on the next day: days are cut in another zone, or calls ran over midnight"
    NOT_EXACT = "the ledger's share that is not exact is as large"
    REQUESTS = "requests are missing on one side"
    PRICE = "the same tokens at another price"
    UNKNOWN = "not explained"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The ledger's figures of one day and model. `requests` are attempts, which is what a provider counts;
    `not_exact_micro_usd`: the part of the cost that is estimated or uncertain."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_micro_usd: int = 0
    not_exact_micro_usd: int = 0

    def __add__(self, other: Recorded) -> Recorded:
        return Recorded(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.cost_micro_usd + other.cost_micro_usd,
            self.not_exact_micro_usd + other.not_exact_micro_usd,
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """One day and model (the ledger's name, the bill's where the ledger has none). None: nothing on that side."""

    day: date
    model: str
    billed: Billed | None
    recorded: Recorded | None
    cause: Cause

    @property
    def tokens(self) -> int | None:
        """The bill's tokens less the ledger's; None: the bill does not tell."""
        return _less(_tokens(self.billed), _recorded_tokens(self.recorded), self.billed is None)

    @property
    def cost_micro_usd(self) -> int | None:
        """The bill's money less the ledger's; None: the bill does not tell."""
        billed = None if self.billed is None else self.billed.cost_micro_usd
        recorded = 0 if self.recorded is None else self.recorded.cost_micro_usd
        return _less(billed, recorded, self.billed is None)


def compare(
    billed: Mapping[tuple[date, str], Billed],
    recorded: Mapping[tuple[date, str], Recorded],
    names: Mapping[str, str],
) -> list[Difference]:
    """Returns every day and model of either side, by day and then model. `names`: the ledger's names of models that a
    bill calls otherwise."""
    known = {model for _, model in recorded}
    bill: dict[tuple[date, str], Billed] = {}
    for (day, model), row in billed.items():
        key = (day, names.get(model) or ledger_name(model, known))
        bill[key] = bill.get(key, Billed()) + row
    keys = sorted({*bill, *recorded})
    gaps = {key: _gap(bill.get(key), recorded.get(key)) for key in keys}
    return [
        Difference(
            *key, bill.get(key), recorded.get(key), _cause(key, bill.get(key), recorded.get(key), gaps)
        )
        for key in keys
    ]


def ledger_name(model: str, known: Iterable[str]) -> str:
    """Returns the ledger's name of a bill's model: the same, or that of which it is a dated version; else as it is.
    Providers of several vendors' models put the vendor before it ("openai/gpt-4o")."""
    known = set(known)
    without_vendor = model.rpartition("/")[2]
    candidates = (model, _VERSION.sub("", model), without_vendor, _VERSION.sub("", without_vendor))
    return next((name for name in candidates if name in known), model)


def _cause(
    key: tuple[date, str],
    billed: Billed | None,
    recorded: Recorded | None,
    gaps: Mapping[tuple[date, str], int],
) -> Cause:
    if not gaps[key] or (billed is not None and recorded is not None and _same(billed, recorded)):
        return Cause.NONE
    day, model = key
    for neighbour in (day - timedelta(1), day + timedelta(1)):
        other = gaps.get((neighbour, model), 0)
        if other and _near(other, -gaps[key]):
            return Cause.DAY
    if recorded is None:
        return Cause.NOT_IN_LEDGER
    if billed is None:
        return Cause.NOT_IN_BILL
    return _cause_within(billed, recorded)


def _cause_within(billed: Billed, recorded: Recorded) -> Cause:
    """Returns the cause of a difference on a day and of a model that both sides have."""
    cached = recorded.cache_read_tokens + recorded.cache_write_tokens
    prompt = billed.input_tokens
    if prompt is not None and cached and _near(abs(prompt - recorded.input_tokens), cached):
        return Cause.CACHED
    money = billed.cost_micro_usd
    gap = None if money is None else money - recorded.cost_micro_usd
    tokens = _tokens(billed)
    if tokens is not None and _near(tokens, _recorded_tokens(recorded)):
        return Cause.PRICE if gap else Cause.NONE
    if recorded.not_exact_micro_usd and (gap is None or abs(gap) <= recorded.not_exact_micro_usd):
        return Cause.NOT_EXACT
    if billed.requests is not None and billed.requests != recorded.requests:
        return Cause.REQUESTS
    return Cause.UNKNOWN


def _gap(billed: Billed | None, recorded: Recorded | None) -> int:
    """Returns the bill less the ledger in what the bill tells: money, else tokens, else requests."""
    if billed is None:
        return -(recorded.cost_micro_usd or _recorded_tokens(recorded)) if recorded is not None else 0
    found = recorded or Recorded()
    if billed.cost_micro_usd is not None:
        return billed.cost_micro_usd - found.cost_micro_usd
    tokens = _tokens(billed)
    if tokens is not None:
        return tokens - _recorded_tokens(found)
    return (billed.requests or 0) - found.requests


def _same(billed: Billed, recorded: Recorded) -> bool:
    pairs: Sequence[tuple[int | None, int]] = (
        (billed.requests, recorded.requests),
        (billed.input_tokens, recorded.input_tokens),
        (billed.output_tokens, recorded.output_tokens),
        (billed.cost_micro_usd, recorded.cost_micro_usd),
    )
    return all(theirs is None or _near(theirs, ours) for theirs, ours in pairs)


def _near(a: int, b: int) -> bool:
    return abs(a - b) <= max(1, NEAR * max(abs(a), abs(b)))


def _tokens(billed: Billed | None) -> int | None:
    if billed is None or (billed.input_tokens is None and billed.output_tokens is None):
        return None
    return (billed.input_tokens or 0) + (billed.output_tokens or 0)


def _recorded_tokens(recorded: Recorded | None) -> int:
    return 0 if recorded is None else recorded.input_tokens + recorded.output_tokens


def _less(theirs: int | None, ours: int, missing: bool) -> int | None:
    if theirs is None:
        return -ours if missing else None
    return theirs - ours
