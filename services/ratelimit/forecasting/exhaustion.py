"""Forecasts whether and when a limit will be used up, from its reading and its trend."""

from __future__ import annotations

from dataclasses import dataclass

from libs.forecast.exhaustion import YOUNG, TimeToExhaustion, proportional, time_to_exhaustion
from libs.forecast.level_forecast import MIN_INTERVALS, LevelForecast
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Quota, Reading, quota
from services.ratelimit.forecasting.trend import Trend

#: Intervals of the recent past over which the rate is averaged.
_RECENT = 12


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """A limit's use and the forecast of its exhaustion. `rate`: use per second over the recent past, in its unit."""

    quota: Quota
    rate: float
    forecast: TimeToExhaustion


def forecast_exhaustion(limit: Limit, reading: Reading, now: float, trend: Trend | None) -> Exhaustion:
    """Forecasts at `now` (epoch seconds). Where the trend is too short for the time to come, by a mean: that of the
    present window, or the trend's where the window is younger still."""
    state = quota(limit, reading, now)
    period = limit.key.period.seconds
    horizon = float(period) if period else max(0.0, reading.finish - now)
    refill = limit.limit / period if period else 0.0
    past = trend.intervals(horizon, MIN_INTERVALS) if trend is not None else None
    elapsed = max(1.0, now - (state.window_start or now))
    if past is None:
        use, rate = proportional(state.used, elapsed, horizon), state.used / elapsed
    else:
        step, amounts = past
        recent = amounts[-_RECENT:]
        rate = sum(recent) / (len(recent) * step)
        span = step * len(amounts)
        if span >= YOUNG * horizon:
            use = LevelForecast(amounts, step, horizon).use
        elif elapsed >= span:
            use = proportional(state.used, elapsed, horizon)
        else:
            use = proportional(sum(amounts), span, horizon)
    return Exhaustion(state, rate, time_to_exhaustion(use, state.remaining, refill, horizon))
