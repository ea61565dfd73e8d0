"""Measures how long a person waits for the first answer: `python -m bench.first_run`."""
