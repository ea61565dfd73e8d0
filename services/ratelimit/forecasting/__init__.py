"""Samples of what limits have used, and forecasts of when they will be used up.

Every five seconds `Trends` takes a sample of each limit in use, a thousand at most, into a `Trend`: rings that reach
back 20 minutes in steps of five seconds and 57 days in steps of hours. `forecast_exhaustion` cuts the past into
intervals that suit the time until the limit resets, `Outlook` forecasts use over that time from them (`levels`:
models of a level that wanders; `gamma`: the distribution of an amount; `forecast`: its width, by how far off the
models were in the past), and the probability and quantiles of exhaustion follow.

A limit is followed from its first use; until it has eight intervals of a past, the mean of its present window stands
for them. A process begins without a past: nothing is kept.
"""
