"""Recent use of limits, bounded in number and length."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from services.ratelimit.domain.forecast import Sample
from services.ratelimit.domain.limits import Limit, LimitKey, Unit

#: Ten minutes of samples, one every five seconds, for each of the limits in use most recently.
SAMPLES = 120
TRACKED = 2000


class Trends:
    """Recent use of limits, bounded in number and length."""

    def __init__(self) -> None:
        self._samples: OrderedDict[Limit, deque[Sample]] = OrderedDict()

    def touch(self, limits: Iterable[Limit]) -> None:
        """These are in use: follow them."""
        for limit in limits:
            if limit.key.unit is Unit.CONCURRENCY:
                continue
            if limit in self._samples:
                self._samples.move_to_end(limit)
            else:
                self._samples[limit] = deque(maxlen=SAMPLES)
                if len(self._samples) > TRACKED:
                    self._samples.popitem(last=False)

    def followed(self) -> list[Limit]:
        """What to sample."""
        return list(self._samples)

    def add(self, limit: Limit, sample: Sample) -> None:
        """One more."""
        if limit in self._samples:
            self._samples[limit].append(sample)

    def of(self, key: LimitKey) -> list[Sample]:
        """Oldest first."""
        return [s for limit, found in self._samples.items() if limit.key == key for s in found]
