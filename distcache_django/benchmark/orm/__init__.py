"""Measure how cached reads of the ORM stay true beside writers, and what they cost: `distcache benchmark orm`.

Public: `Options`, `Load` and `run`; everything else serves them. See `docs/explanation/benchmark-orm.md`.
"""

from distcache_django.benchmark.orm.contest import Load, Options, run

__all__ = ["Load", "Options", "run"]
