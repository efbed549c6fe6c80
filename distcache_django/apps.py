"""Tell Django that this package is an application: it brings a management command, system checks and the ORM cache."""

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
        """Register the checks of ``CACHES`` and ``DISTCACHE``, and put the ORM cache in its places."""
        # Not before: the models, and what imports them, can be used only when all apps are loaded.
        from distcache_django.checks import check_settings  # noqa: PLC0415
        from distcache_django.freshness import transactions  # noqa: PLC0415
        from distcache_django.orm import install, writes  # noqa: PLC0415

        register(check_settings, Tags.caches)
        transactions.install()
        writes.install()
        install.install()
