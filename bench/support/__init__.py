"""What the benchmarks start beside themselves."""
