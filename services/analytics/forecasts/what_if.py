"""Changes a history as a plan would have changed it: what would have been used had it held all along."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from libs.errors import FailedPrecondition, FieldViolation, InvalidArgument
from services.analytics.forecasts.history import COUNTED, History, Measure, UseKey

#: Bounds of a factor of traffic or of a price, and of the changes of one plan.
MAX_FACTOR = 1000.0
MAX_CHANGES = 20
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """A model of a provider; `model` empty: all of the provider's."""

    provider: str
    model: str = ""

    def matches(self, key: UseKey) -> bool:
        """Returns True if the use is of this target."""
        return key.provider == self.provider and self.model in ("", key.model)


@dataclass(frozen=True, slots=True)
class PriceChange:
    """The prices of a target times `factor`."""

    target: Target
    factor: float


@dataclass(frozen=True, slots=True)
class Replacement:
    """Everything that went to `old` goes to `new`, token for token. `price`: micro-USD per million tokens there;
    None: as it was paid there so far."""

    old: Target
    new: Target
    price: float | None = None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A plan: models are replaced, then providers lost, then prices changed, then all traffic grows by a factor. A
    lost provider's tokens go to the others as theirs are shared out now, at the prices paid there.

    Raises InvalidArgument naming each wrong field.
    """

    growth: float = 1.0
    lost_providers: tuple[str, ...] = ()
    prices: tuple[PriceChange, ...] = ()
    replacements: tuple[Replacement, ...] = ()

    def __post_init__(self) -> None:
        faults = []
        if not 0 < self.growth <= MAX_FACTOR:
            faults.append(FieldViolation("what_if.growth", f"must be above 0 and at most {MAX_FACTOR:g}"))
        faults += [
            FieldViolation(f"what_if.{name}", f"must have at most {MAX_CHANGES} entries")
            for name in ("lost_providers", "prices", "replacements")
            if len(getattr(self, name)) > MAX_CHANGES
        ]
        for i, change in enumerate(self.prices):
            if not 0 <= change.factor <= MAX_FACTOR:
                faults.append(
                    FieldViolation(f"what_if.prices[{i}].factor", f"must be from 0 to {MAX_FACTOR:g}")
                )
        for i, one in enumerate(self.replacements):
            field = f"what_if.replacements[{i}]"
            if not one.new.provider or not one.new.model:
                faults.append(FieldViolation(f"{field}.new", "must name a provider and a model"))
            elif one.new == one.old:
                faults.append(FieldViolation(f"{field}.new", "must be another model"))
            if one.price is not None and not 0 <= one.price < math.inf:
                faults.append(FieldViolation(f"{field}.price", "must be at least 0"))
        if faults:
            raise InvalidArgument(faults)

    @property
    def by_model(self) -> bool:
        """Returns True if it needs to know which model was used."""
        return bool(self.lost_providers or self.prices or self.replacements)


def change(history: History, plan: WhatIf) -> History:
    """Returns another history, changed by the plan. Raises InvalidArgument for a provider or model without any use,
    and FailedPrecondition where nothing is left to take a lost provider's."""
    if plan.by_model:
        _check_used(history, plan)
    for one in plan.replacements:
        history = _moved(history, one.old, [(one.new, 1.0)], _prices(history, one))
    if plan.lost_providers:
        history = _without(history, plan.lost_providers)
    changed = History(history.first, history.count)
    for key, series in history.series.items():
        price = math.prod(item.factor for item in plan.prices if item.target.matches(key))
        for measure in COUNTED:
            factor = plan.growth * (price if measure is Measure.COST else 1.0)
            changed.add(key, measure, [amount * factor for amount in series[measure]])
    return changed


def _check_used(history: History, plan: WhatIf) -> None:
    used = set(history.series)
    # Models are replaced first: what is named after that may be one that has only then any use.
    then = used | {UseKey("", one.new.provider, one.new.model) for one in plan.replacements}
    named = [
        *((f"what_if.lost_providers[{i}]", Target(name), then) for i, name in enumerate(plan.lost_providers)),
        *((f"what_if.prices[{i}]", item.target, then) for i, item in enumerate(plan.prices)),
        *((f"what_if.replacements[{i}].old", item.old, used) for i, item in enumerate(plan.replacements)),
        *(
            (f"what_if.replacements[{i}].new", item.new, used)
            for i, item in enumerate(plan.replacements)
            if item.price is None
        ),
    ]
    faults = [
        FieldViolation(field, "has no use in the history")
        for field, target, keys in named
        if not any(target.matches(key) for key in keys)
    ]
    if faults:
        raise InvalidArgument(faults)


def _prices(history: History, one: Replacement) -> dict[Target, float]:
    if one.price is not None:
        return {one.new: one.price / _MILLION}
    return {one.new: _paid(history, [one.new])}


def _paid(history: History, targets: Sequence[Target]) -> float:
    """Returns micro-USD per token as paid so far at some targets; 0 where no tokens were used."""
    sums = history.sums(key for key in history.series if any(target.matches(key) for target in targets))
    tokens = sums[Measure.INPUT_TOKENS] + sums[Measure.OUTPUT_TOKENS]
    return sums[Measure.COST] / tokens if tokens else 0.0


def _without(history: History, lost: Iterable[str]) -> History:
    gone = set(lost)
    left = {Target(key.provider, key.model) for key in history.series if key.provider not in gone}
    weights = {
        target: history.sums(k for k in history.series if target.matches(k))[Measure.ATTEMPTS]
        for target in left
    }
    whole = sum(weights.values())
    if not whole:
        raise FailedPrecondition(
            "Without these providers none is left that had any use", reason="NO_PROVIDER_LEFT"
        )
    shares = [(target, weight / whole) for target, weight in sorted(weights.items(), key=str)]
    prices = {target: _paid(history, [target]) for target in left}
    for provider in gone:
        history = _moved(history, Target(provider), shares, prices)
    return history


def _moved(
    history: History, old: Target, shares: Sequence[tuple[Target, float]], prices: dict[Target, float]
) -> History:
    """Returns a history in which the use of `old` went to others, by shares, at prices per token."""
    moved = History(history.first, history.count)
    for key, series in history.series.items():
        if not old.matches(key):
            for measure in COUNTED:
                moved.add(key, measure, series[measure])
            continue
        tokens = history.total(Measure.TOKENS, [key])
        for target, share in shares:
            to = UseKey(key.tenant, target.provider, target.model)
            for measure in COUNTED:
                amounts = tokens if measure is Measure.COST else series[measure]
                factor = share * (prices[target] if measure is Measure.COST else 1.0)
                moved.add(to, measure, [amount * factor for amount in amounts])
    return moved
