"""Forecasts of use: how much in the hours and days to come, and when a limit will be used up or outgrown.

Two views of one past. `next_day` forecasts each of the next 24 hours: the shape of a day (`profile`) at a level
half-way between what was usual and the last day, with intervals from how far off it was before (`intervals`); the
method is chosen by forecasts of the past, and is the seasonal-naive one (as a day before) where none wins.
`days_ahead` forecasts the use until any later instant as one amount, whose level wanders (`outlook`, `levels`,
`gamma`) from day to day, each day weighed by its weekday. `exhaustion` and `growth` ask when that meets a limit.
Amounts may be of any unit; too short a past gives `NotEnoughHistory`, which is an answer and no error.

Every constant says where it comes from; "bench" is `python -m bench.forecasts`, whose series are made after published
studies of such traffic, with our own measurements where these give no figures.
"""
