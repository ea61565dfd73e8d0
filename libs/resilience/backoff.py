"""The wait before another attempt."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: `uniform(0, min(cap, base * 2**attempt))`.

    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, which measures full jitter
    to need the fewest calls. All times in seconds.
    """

    base: float = 0.1
    cap: float = 5.0
    #: The longest `retry_after` worth waiting for, in seconds; a longer one means: go elsewhere.
    max_retry_after: float = 10.0

    def __post_init__(self) -> None:
        if self.base <= 0 or self.cap < self.base or self.max_retry_after < 0:
            raise ValueError("backoff needs 0 < base <= cap and max_retry_after >= 0")

    def delay(self, attempt: int, rng: Random, retry_after: float | None = None) -> float | None:
        """Returns the seconds before retry number `attempt` (from 0). None: `retry_after` is beyond the bound, do not
        wait.

        `retry_after` is a floor: jitter is added to it, so that those with the same instant do not return together.
        """
        # Beyond 2**32 the cap has long won; the bound keeps the power from overflowing a float.
        jitter = rng.uniform(0, min(self.cap, self.base * 2.0 ** min(max(attempt, 0), 32)))
        if retry_after is None or retry_after <= 0:
            return jitter
        if retry_after > self.max_retry_after:
            return None
        return retry_after + min(jitter, self.base)
