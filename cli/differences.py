"""The difference between a provider's bill and the ledger, by day and model, with its cause. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date, timedelta
from enum import StrEnum

from cli.bill import Billed

#: A model's name in a bill may be that of a dated version: gpt-4o-2024-08-06, claude-sonnet-4-20250514, m@20250514.
_VERSION = re.compile(r"[-@](\d{4}-\d{2}-\d{2}|\d{8}|\d{4}|\d{3}|latest)$")
_BETWEEN = re.compile(r"[ .]+")
#: Counts and money this near to each other are the same: bills round each line, to the micro-USD or coarser.
NEAR = 0.001


class Cause(StrEnum):
    """Why a bill and the ledger differ, as far as the figures tell."""

    NONE = "none"
    NOT_IN_LEDGER = "the ledger has none: called past Pointsman, or the model has another name there"
    NOT_IN_BILL = "the bill has none: not billed, or the model has another name there"
    CACHED = "cached prompt tokens are counted on one side only"
    REASONING = "tokens of reasoning are counted on one side only"
    DAY = "the other way round on another day: days are cut in another zone (--time-zone), or calls ran over midnight"
    TWICE = "one side has everything twice"
    CREDIT = "the bill's credits are as large"
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
    reasoning_tokens: int = 0
    cost_micro_usd: int = 0
    not_exact_micro_usd: int = 0

    def __add__(self, other: Recorded) -> Recorded:
        return Recorded(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


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
    moved = _moved(gaps, bill, recorded)
    return [
        Difference(
            *key, bill.get(key), recorded.get(key), _cause(bill.get(key), recorded.get(key), key in moved)
        )
        for key in keys
    ]


def ledger_name(model: str, known: Iterable[str]) -> str:
    """Returns the ledger's name of a bill's model: the same, or that of which it is a dated version; else as it is.
    Providers of several vendors' models put the vendor before it ("openai/gpt-4o"); bills of money have its title
    ("Claude Sonnet 4.5")."""
    known = set(known)
    without_vendor = model.rpartition("/")[2]
    plain = _BETWEEN.sub("-", without_vendor.lower())
    dotted = without_vendor.lower().replace(" ", "-")
    names = (model, without_vendor, dotted, plain)
    candidates = [found for name in names for found in (name, _VERSION.sub("", name))]
    return next((name for name in candidates if name in known), model)


def _moved(
    gaps: Mapping[tuple[date, str], int],
    bill: Mapping[tuple[date, str], Billed],
    recorded: Mapping[tuple[date, str], Recorded],
) -> frozenset[tuple[date, str]]:
    """Returns the days and models whose difference is that of the next or last day the other way round, or is made up
    for by all other days of the model."""
    found = {
        key
        for key, gap in gaps.items()
        for neighbour in (key[0] - timedelta(1), key[0] + timedelta(1))
        if (other := gaps.get((neighbour, key[1]), 0)) and _near(other, -gap)
    }
    by_model: defaultdict[str, list[tuple[date, str]]] = defaultdict(list)
    for key, gap in gaps.items():
        if gap:
            by_model[key[1]].append(key)
    for keys in by_model.values():
        theirs = sum((bill[key] for key in keys if key in bill), Billed())
        ours = sum((recorded[key] for key in keys if key in recorded), Recorded())
        if len(keys) > 1 and _pairs(theirs, ours) and _same(theirs, ours):
            found.update(keys)
    return frozenset(found)


def _cause(billed: Billed | None, recorded: Recorded | None, moved: bool) -> Cause:
    if billed is not None and recorded is not None:
        return (
            Cause.NONE if _same(billed, recorded) else Cause.DAY if moved else _cause_within(billed, recorded)
        )
    # Attempts that failed are of no bill.
    if not _gap(billed, recorded):
        return Cause.NONE
    if moved:
        return Cause.DAY
    return Cause.NOT_IN_LEDGER if recorded is None else Cause.NOT_IN_BILL


def _cause_within(billed: Billed, recorded: Recorded) -> Cause:
    """Returns the cause of a difference on a day and of a model that both sides have."""
    prompt, answers, money = billed.input_tokens, billed.output_tokens, billed.cost_micro_usd
    read, write = recorded.cache_read_tokens, recorded.cache_write_tokens
    apart = None if prompt is None else abs(prompt - recorded.input_tokens)
    if apart and any(cached and _near(apart, cached) for cached in (read + write, read, write)):
        return Cause.CACHED
    thoughts = recorded.reasoning_tokens
    if answers is not None and thoughts and _near(abs(answers - recorded.output_tokens), thoughts):
        return Cause.REASONING
    if _is_twice(billed, recorded):
        return Cause.TWICE
    gap = None if money is None else money - recorded.cost_micro_usd
    if gap and billed.credits_micro_usd and _near(gap, billed.credits_micro_usd):
        return Cause.CREDIT
    tokens = _tokens(billed)
    if tokens is not None and _near(tokens, _recorded_tokens(recorded)):
        return Cause.PRICE if gap else Cause.NONE
    if gap and abs(gap) <= recorded.not_exact_micro_usd:
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


def _pairs(billed: Billed, recorded: Recorded) -> list[tuple[int, int]]:
    """Returns what the bill tells, each with what the ledger has."""
    names = ("requests", "input_tokens", "output_tokens", "cost_micro_usd")
    pairs = [(getattr(billed, name), getattr(recorded, name)) for name in names]
    return [(theirs, ours) for theirs, ours in pairs if theirs is not None]


def _same(billed: Billed, recorded: Recorded) -> bool:
    return all(_near(theirs, ours) for theirs, ours in _pairs(billed, recorded))


def _is_twice(billed: Billed, recorded: Recorded) -> bool:
    pairs = _pairs(billed, recorded)
    doubled = [all(_near(a, 2 * b) for a, b in side) for side in (pairs, [(b, a) for a, b in pairs])]
    return any(doubled) and any(theirs or ours for theirs, ours in pairs)


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
