"""Measure this cache beside the clients a site could use instead, and what a fault costs: `distcache
benchmark`.

Public: `add_arguments` and `run`, for the command; everything else serves them. See
`docs/explanation/benchmarks.md`.
"""

from distcache_django.benchmark.cli import add_arguments, run

__all__ = ["add_arguments", "run"]
