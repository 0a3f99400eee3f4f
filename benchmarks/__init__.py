"""Benchmarks: our solvers beside their peers, alternately in one process; ``python -m benchmarks``."""
