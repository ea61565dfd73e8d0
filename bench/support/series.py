"""Made series of hourly use, as services that generate text have it.

Parameters follow published studies of such traffic. Their findings in words are theirs; "measured" are our own counts
over the hourly rates of 314 clients of three models, two weeks long, that ServeGen (Xiang et al., arXiv:2505.09999)
publishes with its code:

- Days: the peak hour carries 2 to 35 times the valley, more at coding than at conversation (Stojkovic et al.,
  DynamoLLM, HPCA 2025, arXiv:2408.00741, on a week at Azure). Measured over the mean day of a client: 1.3 to 2 at the
  tenth that varies least, 6 to 10 at half of them, above 148 at the tenth that varies most. Weekends are 15 to 100 %
  of a weekday, which is assumed.
- Clients: few carry most (ServeGen), so sizes fall as a power of the rank, each with a day of its own; rates wander
  and jump, and an aggregate is their sum. Measured: 90 % of the requests are sent by 39 of 162, 22 of 109 and 9 of 43
  clients, and the 30 largest fall with an exponent of 1.0, 1.2 and 2.2.
- Bursts: arrivals are overdispersed, better told by gamma or Weibull variates than by a Poisson process (ServeGen;
  Wang et al., BurstGPT, KDD 2025, arXiv:2401.17644). That clients are busy for hours on end, so that hours are
  correlated as well, is assumed.
- Breaks (times 0.33 to 3), holidays (a fifth of a day), idle weeks and growth (up to 6 % a day) are stated by
  nobody; they are what forecasts break on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

HOURS: Final = 24
#: Clients of an aggregate, and the exponent of their sizes.
_CLIENTS, _RANK_EXPONENT = 40, 1.2

Factor = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of series: `aggregate` or a single client; `make` gives one of so many days."""

    name: str
    aggregate: bool
    make: Callable[[Random, int], list[float]]


def _client(rng: Random, days: int, scale: float, factor: Factor, *, bursty: bool = False) -> list[float]:
    peak, sharp = rng.uniform(8, 20), rng.uniform(1, 2.5)
    ratio = math.exp(rng.uniform(math.log(2), math.log(35)))
    shape = [
        1 + (ratio - 1) * ((1 + math.cos(math.tau * (h - peak) / HOURS)) / 2) ** sharp for h in range(HOURS)
    ]
    mean = sum(shape) / HOURS
    weekend, first = rng.uniform(0.15, 1.0), rng.randrange(7)
    wander, keep, drift = rng.uniform(0.05, 0.5), rng.uniform(0.5, 0.95), rng.uniform(0.05, 0.25)
    hourly, cv = rng.uniform(0.1, 0.6), rng.uniform(0.05, 1.0)
    jumps = rng.uniform(0, 0.1)
    level = error = 0.0
    busy = 0
    moved = [0.0] * HOURS
    found = []
    for day in range(days):
        level = 0.95 * level + rng.gauss(0, wander) + (rng.gauss(0, 1) if rng.random() < jumps else 0.0)
        step = 0.0
        for hour in range(HOURS):
            # The day's shape drifts, neighbouring hours together.
            step = 0.8 * step + rng.gauss(0, 0.6)
            moved[hour] = keep * moved[hour] + drift * step
            error = 0.9 * error + rng.gauss(0, hourly * math.sqrt(1 - 0.81))
            amount = scale * shape[hour] / mean * factor(day) * math.exp(level + moved[hour] + error)
            if (day + first) % 7 >= 5:
                amount *= weekend
            if bursty:
                busy = busy - 1 if busy else int(rng.expovariate(0.25)) + 1 if rng.random() < 0.04 else 0
                amount *= 8.0 if busy else 0.4
            found.append(_drawn(rng, amount, cv))
    return found


def _drawn(rng: Random, mean: float, cv: float) -> float:
    """Returns a whole number, a gamma variate rounded up or down by chance."""
    if mean <= 0:
        return 0.0
    amount = rng.gammavariate(cv**-2, mean * cv**2)
    return float(int(amount) + (rng.random() < amount % 1))


def _jobs(rng: Random, days: int) -> list[float]:
    """Jobs of hours to days at any time, with nothing in between."""
    found = [0.0] * (days * HOURS)
    pause, at = rng.uniform(6, 30), 0
    while at < len(found):
        at += int(rng.expovariate(1 / pause)) + 1
        length, size = int(rng.lognormvariate(1.5, 1)) + 1, rng.lognormvariate(3, 1)
        for hour in range(at, min(at + length, len(found))):
            found[hour] += _drawn(rng, size, 0.45)
        at += length
    return found


def _even(_: int) -> float:
    return 1.0


def _break(rng: Random, days: int) -> Factor:
    at, by = rng.randrange(days - 9, days - 1), rng.choice((0.33, 0.5, 2.0, 3.0))
    return lambda day: by if day >= at else 1.0


def _holidays(rng: Random, days: int) -> Factor:
    off = {rng.randrange(days - 10, days) for _ in range(2)}
    return lambda day: 0.2 if day in off else 1.0


def _idle_week(rng: Random, days: int) -> Factor:
    at = rng.randrange(max(1, days - 16), days - 4)
    return lambda day: 0.0 if at <= day < at + 7 else 1.0


def _growth(rng: Random, days: int) -> Factor:
    by = rng.uniform(-0.03, 0.06)
    return lambda day: math.exp(by * (day - days))


def _size(rng: Random) -> float:
    """Returns the mean use per hour of a single client: from three to hundreds."""
    return math.exp(rng.uniform(1, 6))


def _single(
    factor: Callable[[Random, int], Factor], *, bursty: bool = False
) -> Callable[[Random, int], list[float]]:
    return lambda rng, days: _client(rng, days, _size(rng), factor(rng, days), bursty=bursty)


def _sum(factor: Callable[[Random, int], Factor]) -> Callable[[Random, int], list[float]]:
    def make(rng: Random, days: int) -> list[float]:
        of_all = factor(rng, days)
        clients = [
            _client(rng, days, 2000 / rank**_RANK_EXPONENT, of_all, bursty=rng.random() < 0.3)
            for rank in range(1, _CLIENTS + 1)
        ]
        return [sum(column) for column in zip(*clients, strict=True)]

    return make


def _always(rng: Random, days: int) -> Factor:
    return _even


KINDS: Final[Sequence[Kind]] = (
    Kind("aggregate", True, _sum(_always)),
    Kind("aggregate, break", True, _sum(_break)),
    Kind("aggregate, holidays", True, _sum(_holidays)),
    Kind("aggregate, growth", True, _sum(_growth)),
    Kind("client", False, _single(_always)),
    Kind("client, bursty", False, _single(_always, bursty=True)),
    Kind("client, jobs", False, _jobs),
    Kind("client, break", False, _single(_break)),
    Kind("client, holidays", False, _single(_holidays)),
    Kind("client, idle week", False, _single(_idle_week)),
    Kind("client, growth", False, _single(_growth)),
)
