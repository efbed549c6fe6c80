"""Offer ``cache()``, ``nocache()`` and ``invalidated_update()`` with types.

The methods are there on every queryset and manager (see ``install``); a type checker knows them on these classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.db.models import Manager, Model, QuerySet

from distcache_django.orm.options import NOT_CACHED, options_for, with_options

__all__ = ["CacheManager", "CacheQuerySet"]

_Model = TypeVar("_Model", bound=Model)


class CacheQuerySet(QuerySet[_Model]):
    """Be a queryset that a type checker knows the caching methods of; otherwise Django's own."""

    def cache(self, timeout: float | None = None, ops: str | Iterable[str] | None = None) -> Self:
        """Return a queryset whose answers are cached, whatever ``DISTCACHE["MODELS"]`` says of the model.

        Related objects that it prefetches, and single ones that its instances lead to, are cached the same way.
        Answers are as fresh as ``FRESHNESS`` promises. Queries whose dependencies cannot be known are not cached.

        :param timeout: seconds; the default is the model's, or else that of the cache.
        :param ops: the kinds of queries that are cached, of get, fetch, count, exists and aggregate; default: all.
        :raises ValueError: ``timeout`` is not above zero, or ``ops`` names another kind.
        """
        return with_options(self, options_for(timeout, ops))

    def nocache(self) -> Self:
        """Return a queryset that reads from the database, whatever ``DISTCACHE["MODELS"]`` says of the model."""
        return with_options(self, NOT_CACHED)

    def invalidated_update(self, **kwargs: Any) -> int:
        """Be ``update()``, which ends cached answers by itself; the name is django-cacheops's."""
        return self.update(**kwargs)


class CacheManager(Manager[_Model]):
    """Be a manager whose querysets a type checker knows the caching methods of; otherwise Django's own.

    ``objects = CacheManager["Product"]()``. For a queryset of one's own derive it from ``CacheQuerySet``, and the
    manager from this class with ``CacheManager.from_queryset(...)``.
    """

    _queryset_class = CacheQuerySet

    def get_queryset(self) -> CacheQuerySet[_Model]:
        """Return all of the model's rows."""
        queryset: Any = super().get_queryset()
        return queryset  # type: ignore[no-any-return]  # what _queryset_class says

    def cache(self, timeout: float | None = None, ops: str | Iterable[str] | None = None) -> CacheQuerySet[_Model]:
        """Be ``CacheQuerySet.cache`` of all rows."""
        return self.get_queryset().cache(timeout, ops)

    def nocache(self) -> CacheQuerySet[_Model]:
        """Be ``CacheQuerySet.nocache`` of all rows."""
        return self.get_queryset().nocache()

    def invalidated_update(self, **kwargs: Any) -> int:
        """Be ``update()`` of all rows."""
        return self.get_queryset().update(**kwargs)

    if TYPE_CHECKING:
        # Django makes these from the queryset's; its stubs say of which class only for managers made at run time.
        def all(self) -> CacheQuerySet[_Model]: ...  # noqa: D102
        def filter(self, *args: Any, **kwargs: Any) -> CacheQuerySet[_Model]: ...  # noqa: D102
        def exclude(self, *args: Any, **kwargs: Any) -> CacheQuerySet[_Model]: ...  # noqa: D102
        def order_by(self, *fields: Any) -> CacheQuerySet[_Model]: ...  # noqa: D102
        def select_related(self, *fields: Any) -> CacheQuerySet[_Model]: ...  # noqa: D102
        def prefetch_related(self, *lookups: Any) -> CacheQuerySet[_Model]: ...  # noqa: D102
        def only(self, *fields: str) -> CacheQuerySet[_Model]: ...  # noqa: D102
        def defer(self, *fields: Any) -> CacheQuerySet[_Model]: ...  # noqa: D102
        def distinct(self, *fields: Any) -> CacheQuerySet[_Model]: ...  # noqa: D102
        def using(self, alias: str | None) -> CacheQuerySet[_Model]: ...  # noqa: D102
