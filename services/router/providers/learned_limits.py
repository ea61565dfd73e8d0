"""Limits learned from what providers say, of all models of one router. Pure: time is a parameter (seconds since the
Unix epoch); memory is bounded by the catalog's models.

Two sources. Headers state a limit outright (`stated_limit`). Refusals (429) that no stated limit explains only show
that the present rate is too high (`refusal_rate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from libs.limits import Period, Unit
from services.router.providers.limit_evidence import LearnedLimit, ObservedLimit
from services.router.providers.refusal_rate import RefusalRate
from services.router.providers.stated_limit import StatedLimit

#: Headers of one model are read at most this often, seconds: limits change rarely, and reading costs.
READ_EVERY = 0.5


class _Target:
    __slots__ = ("next_read", "refusals", "stated")

    def __init__(self) -> None:
        self.next_read = 0.0
        self.stated: dict[tuple[Unit, Period], StatedLimit] = {}
        self.refusals = RefusalRate()


class LimitLearner:
    """The evidence on all models of one router."""

    def __init__(self) -> None:
        self._targets: dict[str, _Target] = {}

    def answered(self, now: float, target: str) -> bool:
        """Counts a call that was let through. Returns True if its headers are worth reading now."""
        known = self._targets.get(target) or self._of(target)
        known.refusals.answered(now)
        if now < known.next_read:
            return False
        known.next_read = now + READ_EVERY
        return True

    def observed(self, now: float, target: str, limits: Iterable[ObservedLimit]) -> None:
        """Takes in what an answer's headers state."""
        stated = self._of(target).stated
        for limit in limits:
            key = (limit.unit, limit.period)
            if key not in stated:
                stated[key] = StatedLimit(limit.period)
            stated[key].observe(now, limit)

    def refused(self, now: float, target: str, limits: Sequence[ObservedLimit]) -> None:
        """Takes in a call that was refused for its rate. Where a stated limit is used up, that explains it."""
        self.observed(now, target, limits)
        if not any(limit.remaining == 0 for limit in limits):
            self._of(target).refusals.refused(now)

    def learned(self, now: float) -> list[LearnedLimit]:
        """Returns every limit that is known, trusted or not."""
        found: list[LearnedLimit | None] = []
        for name, target in self._targets.items():
            found += [stated.learned(name, unit, now) for (unit, _), stated in target.stated.items()]
            found.append(target.refusals.learned(name, now))
        return [limit for limit in found if limit is not None]

    def loads(self, now: float) -> dict[str, int]:
        """Returns the calls let through in the last minute, by model, where there were any."""
        rates = {name: target.refusals.rate.count(now) for name, target in self._targets.items()}
        return {name: rate for name, rate in rates.items() if rate}

    def _of(self, target: str) -> _Target:
        known = self._targets.get(target)
        if known is None:
            known = self._targets[target] = _Target()
        return known
