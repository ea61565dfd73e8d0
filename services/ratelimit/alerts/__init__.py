"""Alerts on calendar quotas: used too fast, not likely to last, exhausted, used to a threshold, unlike the ledger.

Every ten seconds `Alerts` compares the quotas in use with the conditions of `burn`: burn rates over pairs of a long
and a short window, the forecast's probability of exhaustion, and exhaustion itself. An alert is raised once and
stands until its condition is over, which for a forecast is a lower probability than the one that raised it, or until
the quota's window is over. Raised and cleared alerts are logged, counted, and sent to analytics; they wait in memory,
bounded, while it does not answer. A process begins with no alert standing: it raises again what still holds, and
analytics keeps the earliest time of raising.
"""
