"""Deeds by name, and what a write of one row must be reported to touch."""

from collections.abc import Callable, Iterable
from typing import Any

from distcache_django.freshness.dependencies import field, row

__all__ = ["DEEDS", "Deed", "deed", "entry", "fields", "link", "plain", "product"]

#: Does something; returns what is compared with Django's own doing of it, and what it is to be reported to touch.
Deed = Callable[[], tuple[Any, set[str]]]
DEEDS: dict[str, Deed] = {}


def deed(function: Deed) -> Deed:
    """Let a function be among the deeds."""
    DEEDS[function.__name__] = function
    return function


def product(pk: int, *, category: Iterable[int] = (), brand: Iterable[int | None] = ()) -> set[str]:
    values = {("category_id", value) for value in category} | {("brand_id", value) for value in brand}
    return {"zoo_product", row("zoo_product", str(pk)), *fields("zoo_product", values)}


def entry(pk: int, *, group: Iterable[int | None]) -> set[str]:
    return {"zoo_entry", row("zoo_entry", str(pk)), *fields("zoo_entry", {("group", value) for value in group})}


def link(pk: int, product_id: int, tag: str) -> set[str]:
    table = "zoo_product_tags"
    return {table, row(table, str(pk)), *fields(table, {("product_id", product_id), ("tag_id", tag)})}


def plain(table: str, *keys: object) -> set[str]:
    return {table, *(row(table, str(key)) for key in keys)}


def fields(table: str, values: Iterable[tuple[str, object]]) -> set[str]:
    return {field(table, column, None if value is None else str(value)) for column, value in values}
