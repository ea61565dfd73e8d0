"""Keeps retries from multiplying an outage."""

from __future__ import annotations

from libs.resilience.window import SlidingCounts

#: Nothing answers any more where, since the last answer, so many extra attempts were wasted and so many seconds have
#: passed; or so many however short the time, which at little traffic is no chance, and at much the share is larger
#: than the floor anyway;
WASTED = 4
WASTED_SECONDS = 0.25
MUCH_WASTED = 8
#: or where neither an answer nor the beginning of one came for so many requests and seconds.
SILENT = 5
SILENT_SECONDS = 3.0
#: One part in so many of what is allowed is kept for callers who have had less than they are sure of.
RESERVED = 4
#: The most callers with extra attempts in the window that are counted one by one; of more, the first are forgotten.
MOST_CALLERS = 1024


#: Parts of the window that are forgotten one by one: of all callers together, and of each.
BUCKETS = 60
BUCKETS_EACH = 6


class RetryBudget:
    """Allows extra attempts as a share of the requests of the last `window_seconds`.

    The idea is Finagle's RetryBudget (twitter.github.io/finagle/guide/Clients.html#retries; linkerd has the same).
    Theirs adds a reserve to the share, so a full bucket overshoots the ratio at the start of an outage; here the
    floor and the share do not add up: within a window at most `max(floor, ratio * requests)` extra attempts pass.
    The floor is `min_retries` as long as something answers: it lets failover work at any traffic. Where nothing does,
    it is `idle_retries`, so that little traffic keeps to the share, too. One who has not asked anybody yet takes it
    that they answer.

    It is fair between callers. Half of what is allowed is for whoever comes first, the other half is divided among
    all callers with requests in the window, each of whom is sure of one at least; one part in RESERVED more is for
    those who come when the rest is gone. So nobody's failures cost others what they are sure of, and one who is alone
    has it all. That nothing answers any more is believed of all callers only where more than one has seen it.
    """

    __slots__ = (
        "_answered",
        "_callers",
        "_callers_before",
        "_callers_until",
        "_counts",
        "_excess",
        "_excess_beyond",
        "_excess_until",
        "_idle_retries",
        "_min_retries",
        "_ratio",
        "_silent",
        "_silent_callers",
        "_silent_since",
        "_spent",
        "_wasted",
        "_wasted_callers",
        "_window",
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
        self._counts = SlidingCounts(window_seconds, BUCKETS)
        self._window = window_seconds
        #: Callers with requests since the present window began, which ends then, and in the one before.
        self._callers: set[str] = set()
        self._callers_before: set[str] = set()
        self._callers_until = float("-inf")
        #: Extra attempts of those who have had any, oldest first.
        self._spent: dict[str, SlidingCounts] = {}
        #: The extra attempts they have had beyond so many each, in all. Kept up until a part of the window is
        #: forgotten: to add it up takes longer the more callers there are.
        self._excess = self._excess_beyond = 0
        self._excess_until = float("-inf")
        #: Since the last answer: its instant (or the first request's), and extra attempts wasted.
        self._answered: float | None = None
        self._wasted = 0
        #: Since the last answer that began: requests, and the instant of the first of them.
        self._silent = 0
        self._silent_since = 0.0
        #: The callers of those requests, and those of the attempts wasted; two are as good as all.
        self._silent_callers: set[str] = set()
        self._wasted_callers: set[str] = set()

    def record_request(self, now: float, caller: str = "") -> None:
        """Counts one request (its first attempt) at `now` seconds on the monotonic clock."""
        self._counts.add(now, 1, 0)
        if now >= self._callers_until:
            self._begin_window(now)
        self._callers.add(caller)
        if self._answered is None:
            self._answered = now
        if self._silent == 0:
            self._silent_since, self._silent_callers = now, {caller}
        elif len(self._silent_callers) < 2:
            self._silent_callers.add(caller)
        self._silent += 1

    def record_answer_begun(self) -> None:
        """Records that an answer has begun to come."""
        self._silent = 0

    def record_answer(self, now: float) -> None:
        """Records that a request was answered, by whatever attempt."""
        self._answered = now
        self._wasted = self._silent = 0
        if self._wasted_callers:
            self._wasted_callers.clear()

    def record_wasted(self, caller: str = "") -> None:
        """Records an extra attempt that did not give the answer either."""
        self._wasted += 1
        if len(self._wasted_callers) < 2:
            self._wasted_callers.add(caller)

    def try_spend(self, now: float, caller: str = "") -> bool:
        """Takes one extra attempt (retry, fallback or hedge) from the budget; False: there is none, do not try."""
        if not self.may_spend(now, caller):
            return False
        self.spend(now, caller)
        return True

    def spend(self, now: float, caller: str = "") -> None:
        """Takes an extra attempt whether or not there is room: it leaves less for those that need some."""
        self._counts.add(now, 0, 1)
        self._record_extra(caller, now, 1)

    def refund(self, now: float, caller: str = "") -> None:
        """Gives an extra attempt back that gave the answer: only attempts in vain make an outage worse."""
        self._counts.add(now, 0, -1)
        self._record_extra(caller, now, -1)

    def answering(self, now: float, caller: str = "") -> bool:
        """Returns True if there is reason to believe that somebody answers the caller."""
        since = now - (now if self._answered is None else self._answered)
        vain = self._wasted >= MUCH_WASTED or (self._wasted >= WASTED and since >= WASTED_SECONDS)
        if vain and _concerns(self._wasted_callers, caller):
            return False
        return not (
            self._silent >= SILENT
            and now - self._silent_since >= SILENT_SECONDS
            and _concerns(self._silent_callers, caller)
        )

    def available(self, now: float) -> int:
        """Returns the extra attempts that a caller who is alone could take now."""
        # An attempt that began before the window and worked in it has given back what it did not take from it.
        return max(0, self._allowed(now, "") - max(0, self._counts.totals(now).failures))

    def _allowed(self, now: float, caller: str) -> int:
        floor = self._min_retries if self.answering(now, caller) else self._idle_retries
        return max(floor, int(self._ratio * self._counts.totals(now).successes + 1e-9))

    def may_spend(self, now: float, caller: str = "") -> bool:
        """Returns True if an extra attempt could be taken now."""
        allowed, spent = self._allowed(now, caller), self._counts.totals(now).failures
        callers = self._count_callers(now)
        if callers <= 1:
            return spent < allowed
        common = allowed // 2
        sure = max(1, (allowed - common) // callers)
        if self._spent_by(caller, now) < sure:
            return spent < allowed + allowed // RESERVED
        return spent < allowed and self._beyond(sure, now) < common

    def _count_callers(self, now: float) -> int:
        """Returns the number of callers with requests in a window, about."""
        if now >= self._callers_until:
            self._begin_window(now)
        return max(len(self._callers), len(self._callers_before))

    def _begin_window(self, now: float) -> None:
        """Begins another window of callers."""
        late = now - self._callers_until >= self._window
        self._callers_before = set() if late else self._callers
        self._callers = set()
        self._callers_until = now + self._window

    def _spent_by(self, caller: str, now: float) -> int:
        counts = self._spent.get(caller)
        return 0 if counts is None else max(0, counts.totals(now).failures)

    def _beyond(self, sure: int, now: float) -> int:
        """Returns the extra attempts that all callers have had beyond `sure` each."""
        if now >= self._excess_until or sure != self._excess_beyond:
            if len(self._spent) >= MOST_CALLERS:
                self._spent = {c: s for c, s in self._spent.items() if s.totals(now).failures > 0}
            self._excess_beyond = sure
            self._excess = sum(max(0, self._spent_by(caller, now) - sure) for caller in self._spent)
            width = self._window / BUCKETS_EACH
            self._excess_until = (now // width + 1) * width
        return self._excess

    def _record_extra(self, caller: str, now: float, extra: int) -> None:
        counts = self._spent.get(caller)
        if counts is None:
            if len(self._spent) >= MOST_CALLERS:
                oldest = next(iter(self._spent))
                self._excess -= max(0, self._spent_by(oldest, now) - self._excess_beyond)
                del self._spent[oldest]
            counts = self._spent[caller] = SlidingCounts(self._window, BUCKETS_EACH)
        before = self._spent_by(caller, now)
        counts.add(now, 0, extra)
        sure = self._excess_beyond
        self._excess += max(0, self._spent_by(caller, now) - sure) - max(0, before - sure)


def _concerns(callers: set[str], caller: str) -> bool:
    """Returns True if what these callers have seen is true of the caller, too."""
    return len(callers) > 1 or caller in callers
