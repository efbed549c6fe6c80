"""Reads of every shape over the zoo: functions without arguments, by name, that return what a caller would see."""

# ruff: noqa: PLW0108 - a query is made when the reading is called, not when this module is imported
# The zoo is in no settings that the plugin of mypy reads: it does not know of managers.
# mypy: disable-error-code="attr-defined, misc"

import datetime as dt
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from django.core.paginator import Paginator
from django.db.models import (
    Avg,
    Case,
    CharField,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    FilteredRelation,
    IntegerField,
    Max,
    Min,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Sum,
    Value,
    When,
    Window,
    prefetch_related_objects,
)
from django.db.models.functions import Concat, Length, Lower, RowNumber, TruncMonth

from tests.support.things import Hidden, Label, Loaded, Note, Sticker, Thing
from tests.support.zoo.models import Book, Brand, Category, Cheap, Product, Review, Tag

Reading = Callable[[], Any]

UUIDS = [uuid.UUID(int=number) for number in range(1, 9)]
UTC = dt.timezone.utc  # noqa: UP017 - its name is part of what is compared


def populate() -> None:
    """Fill the tables with a few rows of every kind."""
    brands = [Brand.objects.create(pk=n, name=f"brand {n}", country=c) for n, c in ((1, "de"), (2, "fr"), (3, None))]
    root = Category.objects.create(pk=1, name="root")
    categories = [root, *(Category.objects.create(pk=n, name=f"c{n}", parent=root) for n in (2, 3))]
    tags = [Tag.objects.create(code=code, label=code.upper()) for code in ("new", "old", "red's")]
    for n in range(1, 9):
        product = Product(
            pk=n, name=f"product {n}", category=categories[n % 3], brand=brands[n % 4] if n % 4 < 3 else None
        )
        product.price, product.active = Decimal(n) / 4, n % 2 == 0
        product.released = dt.date(2026, n, 1)
        product.created = dt.datetime(2026, 3, n, 12, 30, 15, 250, tzinfo=UTC)
        product.uuid = UUIDS[n - 1]
        product.save()
        product.tags.set(tags[: n % 4])
        Review.objects.create(pk=n, product=product, author_country="de" if n % 2 else None, stars=n % 5 or None)
    first = Book.objects.create(pk=20, name="a book", category=root, pages=100, uuid=UUIDS[0], price=Decimal("9.99"))
    Book.objects.create(pk=21, name="its sequel", category=root, pages=120, uuid=UUIDS[1], series=first)
    _populate_things()


def _populate_things() -> None:
    moment = dt.datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    full = Thing.objects.create(
        pk=1, big=2**62, blob=b"\x00\xff", day=moment.date(), decimal=Decimal("1234.5678"), flag=True,
        document={"a": [1, 2.5, None, "ü"]}, duration=dt.timedelta(days=1, microseconds=5), ip="::1", moment=moment,
        number=0.1, slug="a-slug", text="line\n'quoted' %s", time=dt.time(23, 59, 59, 999999), token=UUIDS[2],
    )  # fmt: skip
    bare = Thing.objects.create(pk=2, token=UUIDS[3])
    label = Label.objects.create(code=UUIDS[4], name="fragile")
    Sticker.objects.create(thing=full, label=label)
    Note.objects.create(pk=1, thing=bare, text="empty")
    Note.objects.create(pk=2)
    Hidden.everything.create(pk=1, name="seen")
    Hidden.everything.create(pk=2, name="gone", gone=True)
    Loaded.objects.create(pk=1, name="loaded")


# ---------------------------------------------------------------- what takes more than an expression


def _follow() -> Any:
    product = Product.objects.get(pk=4)
    return product.category.parent, product.brand, list(product.reviews.all()), list(product.tags.order_by("pk"))


def _deferred() -> Any:
    found = Product.objects.defer("name", "price").get(pk=2)
    return found, found.get_deferred_fields()


def _prefetch_to_attribute() -> Any:
    starred = Prefetch("reviews", Review.objects.filter(stars__gt=1).order_by("pk"), to_attr="starred")
    return list(
        Category.objects.order_by("pk").prefetch_related(
            Prefetch("products", Product.objects.order_by("pk").prefetch_related(starred))
        )
    )


def _prefetch_later() -> Any:
    found = list(Product.objects.order_by("pk")[:3])
    prefetch_related_objects(found, "brand", "tags")
    return found


def _pages() -> Any:
    paginator = Paginator(Product.objects.order_by("pk"), 3)
    return paginator.count, list(paginator.page(2)), paginator.num_pages


def _best_review() -> Any:
    best = Review.objects.filter(product=OuterRef("pk")).order_by("-stars", "pk").values("stars")[:1]
    return list(Product.objects.annotate(best=Subquery(best)).order_by("pk"))


def _one_to_one() -> Any:
    thing = Thing.objects.get(pk=1)
    return thing.sticker, thing.sticker.label, Note.objects.get(pk=1).thing


def _absent_one_to_one() -> Any:
    return Thing.objects.get(pk=2).sticker


def _generic(values: Iterable[Any]) -> Any:
    return [list(values), list(values)]


#: Reads that a second time need no query.
CACHED: dict[str, Reading] = {
    "get by key": lambda: Product.objects.get(pk=3),
    "get by name of the key": lambda: Product.objects.get(id=3),
    "get by key as text": lambda: Product.objects.get(pk="3"),
    "get by key, evaluated": lambda: Product.objects.get(pk__exact=3),
    "get by text key": lambda: Tag.objects.get(pk="red's"),
    "get by uuid key": lambda: Label.objects.get(pk=UUIDS[4]),
    "get by a field": lambda: Product.objects.get(name="product 2"),
    "get by a declared field": lambda: Product.objects.get(brand_id=2, pk=2),
    "get by two fields": lambda: Product.objects.get(pk=2, active=True),
    "get through a filter": lambda: Product.objects.filter(active=True).get(pk=2),
    "get what is not there": lambda: Product.objects.get(pk=999),
    "get by Q": lambda: Product.objects.get(Q(pk=3)),
    "get by Q of two": lambda: Product.objects.get(Q(pk=3) & Q(name="product 3")),
    "get a child": lambda: Book.objects.get(pk=20),
    "get a parent of a child": lambda: Product.objects.get(pk=20).book,
    "get a proxy": lambda: Cheap.objects.get(pk=3),
    "get with every type": lambda: Thing.objects.get(pk=1),
    "get with empty columns": lambda: Thing.objects.get(pk=2),
    "get through a filtering manager": lambda: Hidden.objects.get(pk=1),
    "get nothing through a filtering manager": lambda: Hidden.objects.get(pk=2),
    "get a field of the site's own": lambda: Hidden.everything.get(pk=2),
    "get a model that sees how it is made": lambda: Loaded.objects.get(pk=1),
    "list a model that sees how it is made": lambda: list(Loaded.objects.all()),
    "get several": lambda: Product.objects.get(active=True),
    "get several by a declared field": lambda: Product.objects.get(category_id=1),
    "get with select_related": lambda: Product.objects.select_related("category", "brand").get(pk=5),
    "get in an order": lambda: Category.objects.get(pk=2),
    "all": lambda: list(Product.objects.all().order_by("pk")),
    "every type": lambda: list(Thing.objects.order_by("pk")),
    "values of every type": lambda: list(Thing.objects.order_by("pk").values()),
    "filter": lambda: list(Product.objects.filter(category=2).order_by("pk")),
    "filter by an instance": lambda: list(Product.objects.filter(category=Category(pk=2)).order_by("pk")),
    "exclude": lambda: list(Product.objects.exclude(brand__country="de").order_by("pk")),
    "Q": lambda: list(Product.objects.filter(Q(active=True) | ~Q(price__gt=1)).order_by("pk")),
    "nothing found": lambda: list(Product.objects.filter(name="nobody")),
    "order and slice": lambda: list(Product.objects.order_by("-price", "pk")[2:5]),
    "index": lambda: Product.objects.order_by("pk")[3],
    "index past the end": lambda: Product.objects.order_by("pk")[99],
    "reverse": lambda: list(Product.objects.order_by("pk").reverse()),
    "in": lambda: list(Product.objects.filter(pk__in=[1, 3, 99]).order_by("pk")),
    "in a query": lambda: list(Product.objects.filter(brand__in=Brand.objects.filter(country="fr")).order_by("pk")),
    "join": lambda: list(Product.objects.filter(category__parent__name="root").order_by("pk")),
    "join to many": lambda: list(
        Product.objects.filter(reviews__stars__gte=2, tags__code="old").distinct().order_by("pk")
    ),
    "isnull through a relation": lambda: list(Product.objects.filter(reviews__isnull=False).order_by("pk")),
    "values": lambda: list(Product.objects.order_by("pk").values("name", "brand__name")),
    "values_list": lambda: list(Product.objects.order_by("pk").values_list("pk", "price", "released")),
    "values_list named": lambda: list(Product.objects.order_by("pk").values_list("pk", "name", named=True)),
    "values_list flat": lambda: list(Product.objects.order_by("pk").values_list("created", flat=True)),
    "values with an annotation": lambda: list(
        Product.objects.values("category").annotate(n=Count("pk")).order_by("category")
    ),
    "dates": lambda: list(Product.objects.dates("released", "month")),
    "datetimes": lambda: list(Product.objects.datetimes("created", "day")),
    "select_related": lambda: list(Product.objects.select_related("category__parent", "brand").order_by("pk")),
    "select_related one-to-one": lambda: list(Thing.objects.select_related("sticker__label", "note").order_by("pk")),
    "select_related child": lambda: list(Product.objects.select_related("book").order_by("pk")),
    "only": lambda: list(Product.objects.only("name").order_by("pk")),
    "defer": _deferred,
    "only with select_related": lambda: list(
        Product.objects.select_related("brand").only("name", "brand__name").order_by("pk")
    ),
    "prefetch foreign key": lambda: list(Product.objects.prefetch_related("category", "brand").order_by("pk")),
    "prefetch reverse": lambda: list(Category.objects.prefetch_related("products__reviews").order_by("pk")),
    "prefetch many to many": lambda: list(Product.objects.prefetch_related("tags").order_by("pk")),
    "prefetch one-to-one": lambda: list(Thing.objects.prefetch_related("sticker__label", "note").order_by("pk")),
    "prefetch to an attribute": _prefetch_to_attribute,
    "prefetch later": _prefetch_later,
    "get with prefetch": lambda: Product.objects.prefetch_related("tags", "reviews").get(pk=3),
    "follow relations": _follow,
    "follow one-to-one": _one_to_one,
    "follow to nothing": _absent_one_to_one,
    "follow a child's parent": lambda: Book.objects.get(pk=21).series.product_ptr,
    "related manager": lambda: list(Category.objects.get(pk=1).products.filter(active=True).order_by("pk")),
    "related manager get": lambda: Category.objects.get(pk=1).products.get(pk=3),
    "related manager count": lambda: Category.objects.get(pk=1).products.count(),
    "many to many manager": lambda: list(Tag.objects.get(pk="new").products.order_by("pk")),
    "many to many count": lambda: Product.objects.get(pk=3).tags.count(),
    "many to many exists": lambda: Product.objects.get(pk=4).tags.exists(),
    "count": lambda: Product.objects.filter(active=True).count(),
    "count distinct": lambda: Product.objects.values("category").distinct().count(),
    "count sliced": lambda: Product.objects.order_by("pk")[2:7].count(),
    "exists": lambda: Product.objects.filter(price__gt=1).exists(),
    "exists not": lambda: Product.objects.filter(price__gt=1000).exists(),
    "contains": lambda: Product.objects.filter(active=True).contains(Product(pk=2)),
    "len": lambda: len(Product.objects.filter(active=False)),
    "bool": lambda: bool(Product.objects.filter(active=False)),
    "aggregate": lambda: Product.objects.aggregate(
        Sum("price"), average=Avg("price"), last=Max("created"), day=Min("released")
    ),
    "aggregate of nothing": lambda: Product.objects.filter(pk=999).aggregate(Sum("price"), n=Count("pk")),
    "aggregate over a slice": lambda: Product.objects.order_by("pk")[:4].aggregate(Sum("price")),
    "aggregate of annotations": lambda: Product.objects.annotate(n=Count("tags")).aggregate(Max("n")),
    "annotate count": lambda: list(Category.objects.annotate(n=Count("products")).order_by("pk")),
    "annotate filtered": lambda: list(
        Brand.objects.annotate(n=Count("products", filter=Q(products__active=True))).order_by("pk")
    ),
    "annotate expression": lambda: list(
        Product.objects.annotate(twice=F("price") * 2, shout=Lower("name")).order_by("pk")
    ),
    "annotate case": lambda: list(
        Product.objects.annotate(
            kind=Case(When(active=True, then=Value("on")), default=Value("off"), output_field=CharField())
        ).order_by("pk")
    ),
    "annotate exists": lambda: list(
        Product.objects.annotate(rated=Exists(Review.objects.filter(product=OuterRef("pk"), stars__gt=3))).order_by(
            "pk"
        )
    ),
    "annotate subquery": _best_review,
    "annotate month": lambda: list(Product.objects.annotate(month=TruncMonth("created")).order_by("pk")),
    "annotate concat": lambda: list(
        Brand.objects.annotate(label=Concat("name", Value(" % "), "country", output_field=CharField())).order_by("pk")
    ),
    "annotate window": lambda: list(
        Product.objects.annotate(row=Window(RowNumber(), partition_by="category", order_by="pk")).order_by("pk")
    ),
    "filter a window": lambda: list(
        Product.objects.annotate(row=Window(RowNumber(), partition_by="category", order_by="pk"))
        .filter(row=1)
        .order_by("pk")
    ),
    "filtered relation": lambda: list(
        Category.objects.annotate(live=FilteredRelation("products", condition=Q(products__active=True)))
        .filter(live__price__gt=0)
        .distinct()
        .order_by("pk")
    ),
    "having": lambda: list(Category.objects.annotate(n=Count("products")).filter(n__gt=2).order_by("pk")),
    "expression wrapper": lambda: list(
        Product.objects.annotate(n=ExpressionWrapper(Length("name") + 1, IntegerField()))
        .values_list("n", flat=True)
        .order_by("pk")
    ),
    "alias": lambda: list(Product.objects.alias(n=Length("name")).filter(n=9).order_by("pk")),
    "distinct": lambda: list(Product.objects.order_by("category").values_list("category", flat=True).distinct()),
    "distinct ordered by another": lambda: list(Product.objects.values_list("active").distinct().order_by("category")),
    "distinct with the other": lambda: list(
        Product.objects.values_list("active", "category").distinct().order_by("category")
    ),
    "union": lambda: list(Product.objects.filter(pk=1).union(Product.objects.filter(pk=2)).order_by("id")),
    "intersection": lambda: list(
        Product.objects.filter(active=True).intersection(Product.objects.filter(pk__lt=5)).order_by("id")
    ),
    "difference": lambda: list(Product.objects.all().difference(Product.objects.filter(pk__gt=2)).order_by("id")),
    "union of values": lambda: list(
        Brand.objects.values_list("name").union(Product.objects.values_list("name")).order_by("name")
    ),
    "union count": lambda: Product.objects.filter(pk=1).union(Product.objects.filter(pk=2)).count(),
    "in_bulk": lambda: Product.objects.in_bulk([1, 2, 99]),
    "in_bulk of all": lambda: Tag.objects.in_bulk(),
    "in_bulk by a unique field": lambda: Label.objects.in_bulk(["fragile"], field_name="name"),
    "first": lambda: Product.objects.first(),
    "first of an order": lambda: Category.objects.first(),
    "last": lambda: Product.objects.order_by("price", "pk").last(),
    "first of none": lambda: Product.objects.filter(pk=999).first(),
    "earliest": lambda: Product.objects.earliest("created"),
    "latest": lambda: Product.objects.latest("released"),
    "latest of none": lambda: Product.objects.filter(pk=999).latest("released"),
    "children": lambda: list(Book.objects.order_by("pk")),
    "children's parents' columns": lambda: list(
        Book.objects.filter(price__gt=1, category__name="root").values("name", "pages")
    ),
    "proxies": lambda: list(Cheap.objects.filter(price__lt=1).order_by("pk")),
    "through": lambda: list(
        Product.tags.through.objects.order_by("product_id", "tag_id").values_list("product", "tag")
    ),
    "pages": _pages,
    "chain": lambda: _generic(
        Product.objects.filter(active=True).filter(price__gt=1).exclude(brand=None).order_by("pk")
    ),
    "json": lambda: list(Thing.objects.filter(document__a__0=1).values_list("document", "document__a")),
    "binary": lambda: list(Thing.objects.order_by("pk").values_list("blob", flat=True)),
}

#: Reads that never come from the cache.
NEVER_CACHED: dict[str, Reading] = {
    "iterator": lambda: list(Product.objects.order_by("pk").iterator(chunk_size=3)),
    "random order": lambda: {product.pk for product in Product.objects.order_by("?")},
    "raw": lambda: list(Product.objects.raw("SELECT * FROM zoo_product ORDER BY id")),
    "nocache": lambda: list(Product.objects.nocache().order_by("pk")),
    "refresh_from_db": lambda: Product(pk=1).refresh_from_db(),
}

#: Reads that Django answers itself, or refuses.
NO_QUERY: dict[str, Reading] = {
    "none": lambda: list(Product.objects.none()),
    "in nothing": lambda: list(Product.objects.filter(pk__in=[])),
    "count of none": lambda: Product.objects.filter(pk__in=[]).count(),
    "aggregate of none": lambda: Product.objects.none().aggregate(Sum("price"), n=Count("pk")),
    "exists of none": lambda: Product.objects.none().exists(),
    "get of none": lambda: Product.objects.none().get(),
    "unknown field": lambda: Product.objects.get(nothing=1),
    "wrong type": lambda: Product.objects.get(pk="three"),
    "get on a slice": lambda: Product.objects.all()[:2].get(pk=1),
    "get on a union": lambda: Product.objects.all().union(Product.objects.all()).get(pk=1),
    "filter a slice": lambda: Product.objects.all()[:3].filter(pk=1),
    "latest without an order": lambda: Product.objects.latest(),
    "in_bulk of a field that is not unique": lambda: Product.objects.in_bulk(field_name="name"),
}
