"""How much a scope uses, and so how much of it to lease ahead. Pure: time is a parameter (monotonic seconds)."""

from __future__ import annotations

from services.router.domain.amounts import Amounts

#: Seconds over which demand is averaged.
WINDOW = 2.0
#: The shortest time over which a first burst counts as a rate, seconds.
FIRST = 0.25
#: Leased ahead: this many seconds of demand,
AHEAD = 3.0
#: or this many requests where that takes longer, so that a quiet scope does not ask for every few requests,
REQUESTS = 40
#: but never more seconds than this: what a dead router holds is lost until it expires.
AHEAD_MOST = 15.0


class Demand:
    """A decaying rate per second, of one scope."""

    __slots__ = ("_input", "_money", "_output", "_rate", "_requests", "_since", "last")

    def __init__(self, now: float) -> None:
        self._rate = Amounts()
        self._requests = self._input = self._output = self._money = 0
        self._since = now
        #: When it was last added to.
        self.last = now

    def add(self, amounts: Amounts, now: float) -> None:
        """This much was used."""
        self._requests += amounts.requests
        self._input += amounts.input_tokens
        self._output += amounts.output_tokens
        self._money += amounts.micro_usd
        self.last = now
        elapsed = now - self._since
        if elapsed >= WINDOW:
            self._rate = (self._rate + self._window().times(1 / elapsed)).times(0.5)
            self._requests = self._input = self._output = self._money = 0
            self._since = now

    def over(self, seconds: float, now: float) -> Amounts:
        """What is used in so many seconds."""
        rate, present = self._rate, self._window().times(1 / max(FIRST, now - self._since))
        return Amounts(
            max(rate.requests, present.requests),
            max(rate.input_tokens, present.input_tokens),
            max(rate.output_tokens, present.output_tokens),
            max(rate.micro_usd, present.micro_usd),
        ).times(seconds)

    def ahead(self, now: float) -> Amounts:
        """What to lease."""
        each_second = self.over(1.0, now).requests
        seconds = max(AHEAD, REQUESTS / each_second) if each_second else AHEAD
        return self.over(min(seconds, AHEAD_MOST), now)

    def _window(self) -> Amounts:
        return Amounts(self._requests, self._input, self._output, self._money)
