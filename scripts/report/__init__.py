"""Writes PERFORMANCE.md and docs/performance from the results of the benchmarks."""
