"""Samples of what limits have used, and forecasts of when they will be used up.

Every five seconds `Trends` takes a sample of each limit in use, a thousand at most, into a `Trend`: rings that reach
back 20 minutes in steps of five seconds and 57 days in steps of hours. `forecast_exhaustion` cuts the past into
intervals that suit the time until the limit resets, `libs.forecast.level_forecast` forecasts use over that time from
them, and the probability and quantiles of exhaustion follow (`libs.forecast.exhaustion`).

A limit is followed from its first use; until its past is long enough for the time to come (eight intervals, a
fiftieth of it), the mean of its present window stands for it. A process begins without a past: nothing is kept.
"""
