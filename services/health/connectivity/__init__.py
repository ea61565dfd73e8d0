"""Tests of providers on request: name resolution, connection, TLS, authentication, models, each timed and bounded.

It acts when an operator asks (`TestProvider`) and at no other time; it keeps nothing, so there is nothing to recover.
All of it is free of charge: only GETs that cost nothing are sent. A generation needs a wire, admission and the
ledger, which are the router's: callers ask the router for one.
"""
