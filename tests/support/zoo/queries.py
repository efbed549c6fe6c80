"""Make random querysets over the zoo: every kind of condition, join, annotation, union and slice."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from random import Random
from typing import Any

from django.db.models import (
    Avg,
    Case,
    Count,
    Exists,
    F,
    FilteredRelation,
    Max,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
    When,
    Window,
)
from django.db.models.functions import Coalesce, Lower, RowNumber, TruncYear

from tests.support.zoo.models import Book, Brand, Category, Cheap, Product, Review, Tag

KEYS = (1, 2, 3)
CODES = ("a", "A", "b", "1")
NAMES = ("a", "A", "b", "")
DATES = (datetime.date(2020, 1, 1), datetime.date(2021, 1, 1))
MOMENTS = tuple(datetime.datetime(2020 + year, 1, 1, 12, tzinfo=datetime.UTC) for year in range(2))
UUIDS = tuple(uuid.UUID(int=number) for number in (1, 2, 0xABCDEF))

Root = type[Any]
ROOTS: tuple[Root, ...] = (Product, Product, Cheap, Book, Book, Review, Category, Brand, Tag, Product.tags.through)

_PRODUCT: dict[str, tuple[Any, ...]] = {
    "pk": KEYS, "id": KEYS, "name": NAMES, "category": KEYS, "category_id": KEYS, "category__pk": KEYS,
    "category__name": NAMES, "category__parent": KEYS, "category__parent__parent": KEYS,
    "brand": KEYS, "brand_id": KEYS, "brand__name": NAMES, "brand__country": NAMES,
    "tags": CODES, "tags__code": CODES, "tags__label": NAMES, "active": (True, False), "released": DATES, "uuid": UUIDS,
    "reviews": KEYS, "reviews__stars": KEYS, "reviews__author_country": NAMES, "book": KEYS, "book__pages": KEYS,
    "book__series": KEYS, "price": KEYS, "category__products": KEYS, "brand__products__category": KEYS,
    "category__children": KEYS, "tags__products": KEYS,
}  # fmt: skip
#: What can be asked of a model: paths, and values that they may have.
PATHS: dict[Root, dict[str, tuple[Any, ...]]] = {
    Product: _PRODUCT,
    Cheap: _PRODUCT,
    Book: {
        "pk": KEYS, "product_ptr": KEYS, "id": KEYS, "pages": KEYS, "series": KEYS, "series__pages": KEYS,
        "series__name": NAMES, "volumes": KEYS, "volumes__pages": KEYS, "volumes__name": NAMES, "name": NAMES,
        "category": KEYS, "brand": KEYS, "brand__name": NAMES, "tags": CODES, "active": (True, False), "uuid": UUIDS,
        "reviews": KEYS, "reviews__stars": KEYS, "category__parent": KEYS, "series__category": KEYS,
        "product_ptr__name": NAMES, "released": DATES,
    },
    Review: {
        "pk": KEYS, "product": KEYS, "product__category": KEYS, "product__category__parent": KEYS,
        "product__brand": KEYS, "product__tags": CODES, "product__book": KEYS, "product__book__pages": KEYS,
        "product__name": NAMES,
        "author_country": NAMES, "stars": KEYS, "text": NAMES, "product__reviews": KEYS,
    },
    Category: {
        "pk": KEYS, "name": NAMES, "parent": KEYS, "parent__name": NAMES, "parent__parent": KEYS, "children": KEYS,
        "children__name": NAMES, "products": KEYS, "products__brand": KEYS, "products__tags": CODES,
        "products__reviews": KEYS, "products__book": KEYS, "children__children": KEYS,
    },
    Brand: {
        "pk": KEYS, "name": NAMES, "country": NAMES, "products": KEYS, "products__category": KEYS,
        "products__tags": CODES, "products__active": (True, False), "products__reviews__stars": KEYS,
    },
    Tag: {
        "pk": CODES, "code": CODES, "label": NAMES, "products": KEYS, "products__category": KEYS,
        "products__brand": KEYS, "products__book": KEYS,
    },
    Product.tags.through: {"pk": KEYS, "product": KEYS, "tag": CODES, "product__category": KEYS, "tag__label": NAMES},
}  # fmt: skip
RELATED: dict[Root, tuple[str, ...]] = {
    Product: ("category", "brand", "category__parent", "book"),
    Cheap: ("category", "brand"),
    Book: ("category", "series", "series__brand", "product_ptr"),
    Review: ("product", "product__category", "product__brand", "product__book"),
    Category: ("parent", "parent__parent"),
    Brand: (),
    Tag: (),
    Product.tags.through: ("product", "tag", "product__category"),
}
PREFETCHED: dict[Root, tuple[str, ...]] = {
    Product: ("tags", "reviews", "category", "brand", "category__children"),
    Cheap: ("tags", "reviews"),
    Book: ("tags", "volumes", "series"),
    Review: ("product", "product__tags"),
    Category: ("products", "children", "parent"),
    Brand: ("products", "products__tags"),
    Tag: ("products", "products__category"),
    Product.tags.through: ("product", "tag"),
}


def condition(rng: Random, root: Root, depth: int = 2) -> Q:
    """Return a condition on ``root``: one lookup, or several joined by AND, OR, XOR or NOT."""
    if depth == 0 or rng.random() < 0.5:
        return _lookup(rng, root)
    left, right = condition(rng, root, depth - 1), condition(rng, root, depth - 1)
    made = rng.choice((left & right, left & right, left | right, left | right, left ^ right))
    return ~made if rng.random() < 0.2 else made


def _lookup(rng: Random, root: Root) -> Q:
    path = rng.choice(sorted(PATHS[root]))
    values = PATHS[root][path]
    kind = rng.choice((*("exact",) * 8, *("in",) * 4, *("isnull",) * 4, "other", "column", "subquery"))
    if kind == "in":
        return Q(
            **{f"{path}__in": rng.sample(values, rng.randint(1, min(3, len(values)))) + [None] * rng.randint(0, 1)}
        )
    if kind == "isnull":
        return Q(**{f"{path}__isnull": rng.random() < 0.7})
    if kind == "other":
        return Q(**{f"{path}__{rng.choice(('gt', 'lte'))}": rng.choice(values)})
    if kind == "column":
        return Q(**{path: F(path)}) if rng.random() < 0.5 else Q(**{path: Value(rng.choice(values))})
    if kind == "subquery":
        return _subquery(rng, root)
    return Q(**{path: rng.choice(values)})


def _subquery(rng: Random, root: Root) -> Q:
    other = rng.choice(ROOTS)
    inner = other.objects.filter(condition(rng, other, 0))
    kind = rng.randrange(3)
    if kind == 0:
        return Q(Exists(inner))
    if kind == 1 and other is not Tag and root is not Tag:
        return Q(pk__in=inner.values("pk"))
    return Q(Exists(root.objects.filter(condition(rng, root, 0), pk=OuterRef("pk"))))


def _annotated(rng: Random, root: Root, queryset: Any) -> Any:
    path = rng.choice(sorted(PATHS[root]))
    kind = rng.randrange(8)
    if kind == 0:
        return queryset.annotate(n=Count(path, distinct=rng.random() < 0.5)).filter(
            Q(n__gte=1) | condition(rng, root, 0)
        )
    if kind == 1:
        return queryset.annotate(n=Count(path, filter=condition(rng, root, 0)))
    if kind == 2:
        return queryset.annotate(n=Max(path)).filter(condition(rng, root, 1))
    if kind == 3:
        return queryset.annotate(n=Case(When(condition(rng, root, 0), then=Value(1)), default=Value(0)))
    if kind == 4:
        return queryset.annotate(n=Exists(root.objects.filter(condition(rng, root, 0), pk=OuterRef("pk"))))
    if kind == 5:
        inner = root.objects.filter(condition(rng, root, 0)).order_by("pk").values("pk")[:1]
        return queryset.annotate(n=Coalesce(Subquery(inner), Value(None)))
    if kind == 6:
        return queryset.annotate(n=Window(RowNumber(), partition_by=[F(path)], order_by="pk")).filter(
            Q(n__lte=2) | condition(rng, root, 0) if rng.random() < 0.3 else Q(n__lte=2)
        )
    return queryset.annotate(n=F(path)).filter(n__in=[rng.choice(PATHS[root][path])])


def _filtered_relation(rng: Random, root: Root, queryset: Any) -> Any:
    relation = {Product: "reviews", Cheap: "tags", Book: "volumes", Category: "children", Brand: "products"}.get(root)
    if relation is None:
        return queryset
    column, values = {"tags": ("label", NAMES), "reviews": ("stars", KEYS), "volumes": ("pages", KEYS)}.get(
        relation, ("pk", KEYS)
    )
    on = Q(**{f"{relation}__{column}": rng.choice(values)})
    queryset = queryset.annotate(fr=FilteredRelation(relation, condition=on))
    key = rng.choice(CODES if relation == "tags" else KEYS)
    return queryset.filter(rng.choice((Q(fr__pk=key), Q(fr__isnull=True), Q(fr__pk=key) | condition(rng, root, 0))))


def queryset(rng: Random, root: Root | None = None) -> Any:
    """Return a queryset of ``root``, or of any model."""
    root = root or rng.choice(ROOTS)
    made = root.objects.all()
    for _ in range(rng.choice((0, *(1,) * 8, 2, 2))):
        made = (made.exclude if rng.random() < 0.1 else made.filter)(condition(rng, root))
    if rng.random() < 0.2:
        made = _annotated(rng, root, made)
    if rng.random() < 0.1:
        made = _filtered_relation(rng, root, made)
    if rng.random() < 0.2 and RELATED[root]:
        made = made.select_related(*rng.sample(RELATED[root], 1))
    if rng.random() < 0.2:
        made = made.order_by(*rng.sample(sorted(PATHS[root]), 1), "pk")
    if rng.random() < 0.15:
        made = made.distinct()
    return made


def _list(rng: Random, made: QuerySet[Any]) -> object:
    return list(made)


def _sliced(rng: Random, made: QuerySet[Any]) -> object:
    return list((made if made.query.order_by else made.order_by("pk"))[rng.randint(0, 1) : rng.randint(2, 3)])


def _values(rng: Random, made: QuerySet[Any]) -> object:
    return list(made.values_list(*rng.sample(sorted(PATHS[made.model]), 2)))


def _grouped(rng: Random, made: QuerySet[Any]) -> object:
    paths = sorted(PATHS[made.model])
    return list(made.values(rng.choice(paths)).annotate(g=Count(rng.choice(paths))).order_by())


def _aggregated(rng: Random, made: QuerySet[Any]) -> object:
    path = rng.choice(sorted(PATHS[made.model]))
    return made.aggregate(x=rng.choice((Count, Max))(path), y=Count("*"), z=Sum("pk"), w=Avg("pk"))


def _combined(rng: Random, made: QuerySet[Any]) -> object:
    other, third = (queryset(rng, made.model).order_by().values_list("pk") for _ in range(2))
    first = made.order_by().values_list("pk")
    union = rng.choice((first.union(other), first.union(other, third, all=True), first.intersection(other),
                        first.difference(other)))  # fmt: skip
    return rng.choice((list, QuerySet.count, QuerySet.exists))(union)


def _dates(rng: Random, made: QuerySet[Any]) -> object:
    if made.model in (Product, Cheap, Book):
        return list(made.annotate(year=TruncYear("created"), low=Lower("name")).values_list("year", "low"))
    return made.first()


def _prefetched(rng: Random, made: QuerySet[Any]) -> object:
    path = rng.choice(PREFETCHED[made.model])
    if rng.random() < 0.3 and "__" not in path:
        related = made.model._meta.get_field(path).related_model
        return list(made.prefetch_related(Prefetch(path, queryset(rng, related).order_by("pk"))))
    return list(made.prefetch_related(path))


ASKS: tuple[Callable[[Random, QuerySet[Any]], object], ...] = (
    _list, _list, _list, _sliced, _values, _grouped, _aggregated, _combined, _dates, _prefetched,
    lambda rng, made: made.count(),
    lambda rng, made: made.exists(),
    lambda rng, made: made.last(),
    lambda rng, made: made.in_bulk(rng.sample(CODES if made.model is Tag else KEYS, 2)),
    lambda rng, made: list(made.only("pk")),
)  # fmt: skip


def ask(rng: Random) -> None:
    """Run one random query; one that Django or the database refuses is none."""
    rng.choice(ASKS)(rng, queryset(rng))
