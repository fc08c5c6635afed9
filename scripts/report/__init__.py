"""The parts of PERFORMANCE.md."""
