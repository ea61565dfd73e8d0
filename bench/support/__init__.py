"""The servers that benchmarks start beside themselves."""
