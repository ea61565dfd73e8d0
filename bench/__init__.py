"""Benchmarks: one command each, a ratio inside one run, JSON last. `make bench` runs every module here; their helpers
are in `support`, and what needs a network in a package of its own."""
