"""Benchmarks: one command each, a ratio inside one run, JSON last."""
