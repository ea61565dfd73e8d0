"""Forecasts of spend, tokens and requests, and of when limits are used up or outgrown.

`question` holds what may be asked, `history` the hourly use that answers come from, at most 60 days of it. `what_if`
changes that history as a plan would have changed it (more traffic, a provider lost, other prices, another model), and
`answer` forecasts each of its parts with `libs.forecast`. All of it is pure but `postgres_history`, which reads the
ledger, and `forecaster`, which reads, then computes on a thread, one question at a time.
"""
