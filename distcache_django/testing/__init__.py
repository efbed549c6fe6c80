"""Real servers and faults for tests: nodes, PostgreSQL, a fault proxy and pytest fixtures.

Public: sites use it in their own suites. Nothing here needs Django. See ``docs/how-to/testing.md``.
"""

from distcache_django.testing.postgres import LocalPostgres
from distcache_django.testing.processes import MissingServer, ServerFailed
from distcache_django.testing.proxy import FaultProxy
from distcache_django.testing.servers import LocalNode, LocalNodes

__all__ = ["FaultProxy", "LocalNode", "LocalNodes", "LocalPostgres", "MissingServer", "ServerFailed"]
