"""Tell Django that this package is an application: it brings a management command and system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register

__all__ = ["DistcacheConfig"]


class DistcacheConfig(AppConfig):
    """Be the application; registers the checks. Connects to nothing."""

    name = "distcache_django"
    label = "distcache_django"
    verbose_name = "Distributed cache"

    def ready(self) -> None:
        """Register the checks of ``CACHES`` and ``DISTCACHE``."""
        from distcache_django.checks import check_settings  # noqa: PLC0415 - apps are loading until ready()

        register(check_settings, Tags.caches)
