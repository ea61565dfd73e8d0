"""Forecasts whether and when a limit will be used up, from its reading and its trend."""

from __future__ import annotations

from dataclasses import dataclass

from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.quota import Quota, Reading, quota
from services.ratelimit.forecasting.forecast import MIN_INTERVALS, Forecast, Outlook, forecast, proportional
from services.ratelimit.forecasting.trend import Trend

#: Intervals of the recent past over which the rate is averaged.
_RECENT = 12


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """A limit's use and the forecast of its exhaustion. `rate`: use per second over the recent past, in its unit."""

    quota: Quota
    rate: float
    forecast: Forecast


def forecast_exhaustion(limit: Limit, reading: Reading, now: float, trend: Trend | None) -> Exhaustion:
    """Forecasts at `now` (epoch seconds); without a trend that is long enough, by the mean of the present window."""
    state = quota(limit, reading, now)
    period = limit.key.period.seconds
    horizon = float(period) if period else max(0.0, reading.finish - now)
    refill = limit.limit / period if period else 0.0
    past = trend.intervals(horizon, MIN_INTERVALS) if trend is not None else None
    if past is None:
        elapsed = max(1.0, now - (state.window_start or now))
        rate = state.used / elapsed
        found = forecast(proportional(rate, elapsed), state.remaining, refill, horizon)
        return Exhaustion(state, rate, found)
    step, amounts = past
    recent = amounts[-_RECENT:]
    rate = sum(recent) / (len(recent) * step)
    outlook = Outlook(amounts, step, horizon)
    return Exhaustion(state, rate, forecast(outlook.use, state.remaining, refill, horizon))
