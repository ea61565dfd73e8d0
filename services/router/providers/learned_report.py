"""Reports to the limiter of what was learned of providers' limits, and when they are due. Pure."""

from __future__ import annotations

from msgspec import Struct

from libs.limits import Period, Unit
from services.router.providers.learned_limits import LimitLearner
from services.router.providers.limit_evidence import LearnedLimit, Source

#: Seconds between reports in which nothing has changed.
REPEAT_EVERY = 10.0


class LearnedReport(Struct, frozen=True):
    """All that a router has learned. `loads`: calls let through in the last minute, by model."""

    limits: list[LearnedLimit]
    loads: dict[str, int]
    at: float


class LearnedReports:
    """The reports of one router's learner."""

    def __init__(self, learner: LimitLearner) -> None:
        self._learner = learner
        self._sent: dict[tuple[str, Unit, Period, Source], tuple[int, float]] = {}
        self._sent_at = float("-inf")

    def due(self, now: float) -> LearnedReport | None:
        """Returns the report to send at `now`, epoch seconds, and takes it for sent: at once where a value or its
        confidence has changed, else every ten seconds. None: nothing is to be sent."""
        limits = [limit for limit in self._learner.learned(now) if limit.value <= limit.period.max_limit]
        changed = {(e.target, e.unit, e.period, e.source): (e.value, round(e.confidence, 2)) for e in limits}
        if changed == self._sent and now - self._sent_at < REPEAT_EVERY:
            return None
        emptied = bool(self._sent) and not changed
        self._sent, self._sent_at = changed, now
        loads = self._learner.loads(now)
        return LearnedReport(limits, loads, now) if limits or loads or emptied else None
