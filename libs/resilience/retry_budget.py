"""Keeps retries from multiplying an outage."""

from __future__ import annotations

from libs.resilience.window import SlidingCounts

#: Nothing answers any more where, since the last answer, so many extra attempts were in vain and so long a time has
#: passed (seconds);
VAIN = 4
VAIN_SECONDS = 0.25
#: or where neither an answer nor the beginning of one came for so many requests and so long a time (seconds).
SILENT = 5
SILENT_SECONDS = 3.0


class RetryBudget:
    """Allows extra attempts as a share of the requests of the last `window_seconds`.

    The idea is Finagle's RetryBudget (twitter.github.io/finagle/guide/Clients.html#retries; linkerd has the same).
    Theirs adds a reserve to the share, so a full bucket overshoots the ratio at the start of an outage; here the
    floor and the share do not add up: within a window at most `max(floor, ratio * requests)` extra attempts pass.
    The floor is `min_retries` as long as something answers: it lets failover work at any traffic. Where nothing does,
    it is `idle_retries`, so that little traffic keeps to the share, too. One who has not asked anybody yet takes it
    that they answer.
    """

    __slots__ = (
        "_answered",
        "_counts",
        "_idle_retries",
        "_min_retries",
        "_ratio",
        "_silent",
        "_silent_since",
        "_vain",
    )

    def __init__(
        self,
        ratio: float = 0.1,
        min_retries: int = 10,
        window_seconds: float = 60.0,
        *,
        idle_retries: int = 3,
    ) -> None:
        if not 0 <= ratio <= 10 or min_retries < 0 or idle_retries < 0:
            raise ValueError("a retry budget needs 0 <= ratio <= 10 and no negative floors")
        self._ratio = ratio
        self._min_retries = min_retries
        self._idle_retries = min(idle_retries, min_retries)
        # Requests are the window's successes, extra attempts its failures.
        self._counts = SlidingCounts(window_seconds, 60)
        #: Since the last answer: when that was (or the first request), and extra attempts in vain.
        self._answered: float | None = None
        self._vain = 0
        #: Since the last sign of life: requests, and when the first of them came.
        self._silent = 0
        self._silent_since = 0.0

    def record_request(self, now: float) -> None:
        """Counts one request (its first attempt) at `now` seconds on the monotonic clock."""
        self._counts.add(now, 1, 0)
        if self._answered is None:
            self._answered = now
        if self._silent == 0:
            self._silent_since = now
        self._silent += 1

    def record_sign(self) -> None:
        """An answer has begun to come."""
        self._silent = 0

    def record_answer(self, now: float) -> None:
        """A request was answered, by whatever attempt."""
        self._answered = now
        self._vain = self._silent = 0

    def record_vain(self) -> None:
        """An extra attempt did not give the answer either."""
        self._vain += 1

    def try_spend(self, now: float) -> bool:
        """Takes one extra attempt (retry, fallback or hedge) from the budget; False: there is none, do not try."""
        if self.available(now) < 1:
            return False
        self._counts.add(now, 0, 1)
        return True

    def refund(self, now: float) -> None:
        """Gives an extra attempt back that gave the answer: only attempts in vain make an outage worse."""
        self._counts.add(now, 0, -1)

    def answering(self, now: float) -> bool:
        """Whether there is reason to believe that somebody answers."""
        since = now - (now if self._answered is None else self._answered)
        in_vain = self._vain >= VAIN and since >= VAIN_SECONDS
        silent = self._silent >= SILENT and now - self._silent_since >= SILENT_SECONDS
        return not in_vain and not silent

    def available(self, now: float) -> int:
        """How many extra attempts could be taken now."""
        totals = self._counts.totals(now)
        floor = self._min_retries if self.answering(now) else self._idle_retries
        allowed = max(floor, int(self._ratio * totals.successes + 1e-9))
        # An attempt that began before the window and worked in it has given back what it did not take from it.
        return max(0, allowed - max(0, totals.failures))
