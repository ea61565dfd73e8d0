"""Keeps retries from multiplying an outage."""

from __future__ import annotations

from libs.resilience.window import SlidingCounts


class RetryBudget:
    """Allows extra attempts as a share of the requests of the last `window_seconds`.

    The idea is Finagle's RetryBudget (twitter.github.io/finagle/guide/Clients.html#retries; linkerd has the same).
    Theirs adds a reserve to the share, so a full bucket overshoots the ratio at the start of an outage; here the
    floor and the share do not add up: within a window at most `max(min_retries, ratio * requests)` extra attempts
    pass. With `ratio` 0.1, providers see at most 1.1 attempts per request once a window holds
    `min_retries / ratio` requests; below that, at most `min_retries` per window.
    """

    __slots__ = ("_counts", "_min_retries", "_ratio")

    def __init__(self, ratio: float = 0.1, min_retries: int = 10, window_seconds: float = 60.0) -> None:
        if not 0 <= ratio <= 10 or min_retries < 0:
            raise ValueError("a retry budget needs 0 <= ratio <= 10 and min_retries >= 0")
        self._ratio = ratio
        self._min_retries = min_retries
        # Requests are the window's successes, extra attempts its failures.
        self._counts = SlidingCounts(window_seconds, 60)

    def record_request(self, now: float) -> None:
        """Counts one request (its first attempt) at `now` seconds on the monotonic clock."""
        self._counts.add(now, 1, 0)

    def try_spend(self, now: float) -> bool:
        """Takes one extra attempt (retry, fallback or hedge) from the budget; False: there is none, do not try."""
        if self.available(now) < 1:
            return False
        self._counts.add(now, 0, 1)
        return True

    def refund(self, now: float) -> None:
        """Gives an extra attempt back that gave the answer: only attempts in vain make an outage worse."""
        self._counts.add(now, 0, -1)

    def available(self, now: float) -> int:
        """How many extra attempts could be taken now."""
        totals = self._counts.totals(now)
        allowed = max(self._min_retries, int(self._ratio * totals.successes + 1e-9))
        # An attempt that began before the window and worked in it has given back what it did not take from it.
        return max(0, allowed - max(0, totals.failures))
