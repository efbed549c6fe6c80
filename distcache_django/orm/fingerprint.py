"""Give a query a key that no other query has, and a model a digest that changes with its columns.

A key is the digest of everything that an answer depends on besides rows, written so that two different things never
have one form: ``1``, ``True``, ``"1"`` and ``Decimal("1")`` are four parameters. A parameter of a type that is not
known here has no such form, and its query no key.
"""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import json
import marshal
import uuid
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, cast

from django.apps import apps
from django.conf import settings
from django.db import models

if TYPE_CHECKING:
    from django.db.models.sql.compiler import SQLCompiler

__all__ = ["NoKey", "project_digest", "query_key", "schema_digest", "text_key"]

_SIZE: Final = 16
# The last version of the format in which equal values have equal bytes: later ones tell interned text from other.
_FORMAT: Final = 2


class NoKey(TypeError):
    """Say that a parameter's type is not known, so that a query with it has no key."""


def query_key(compiler: SQLCompiler, sql: str, params: Sequence[Any], *extra: Any) -> str:
    """Return the key of a query as one connection runs it: 32 hexadecimal digits, in a few microseconds.

    It holds the database's alias, vendor and time zone, the schema where the connection has one (as multi-tenant
    backends do), the digests of the project's models and of the way that values are stored, and ``extra``.

    :raises NoKey: if a parameter or a part of ``extra`` has a type that is not known.
    """
    connection: Any = compiler.connection
    surroundings = (
        compiler.using, connection.vendor, connection.timezone_name, settings.USE_TZ,
        getattr(connection, "schema_name", None), project_digest(),
    )  # fmt: skip
    return text_key(sql, params, *surroundings, *extra)


def text_key(sql: str, params: Sequence[Any], *extra: Any) -> str:
    """Return the key of a text with parameters, and of ``extra``, which must say all that else matters.

    :raises NoKey: if a parameter or a part of ``extra`` has a type that is not known.
    """
    values = (sql, len(params), *params, *extra)
    if not _PLAIN.issuperset(map(type, values)):
        values = tuple(_form(value) for value in values)
    return blake2b(marshal.dumps(values, _FORMAT), digest_size=_SIZE).hexdigest()


def schema_digest(model: type[models.Model]) -> str:
    """Return a digest of a model's columns, inherited ones included: another one for each way to read its rows."""
    try:
        return _digests[model]
    except KeyError:
        if len(_digests) >= _MAX_DIGESTS:  # classes that come and go, as in a test suite
            _digests.clear()
        found = _digests[model] = _digest(_lines(model))
        return found


def project_digest() -> str:
    """Return a digest of the columns of all installed models, which changes with each of them."""
    global _project  # noqa: PLW0603 - made once; two threads that both make it make the same
    # The registry keeps this list until a model is added, so its identity says whether the digest is still right.
    current = apps.get_models(include_auto_created=True, include_swapped=True)
    if _project[0] is not current:
        _project = (current, _digest(sorted(f"{model._meta.label}={schema_digest(model)}" for model in current)))
    return _project[1]


_digests: dict[type[models.Model], str] = {}
_MAX_DIGESTS: Final = 16_384
_project: tuple[list[type[models.Model]] | None, str] = (None, "")


def _digest(lines: Iterable[str]) -> str:
    return blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=_SIZE).hexdigest()


_SHAPE: Final = (
    "name", "attname", "column", "null", "primary_key", "max_length", "max_digits", "decimal_places", "db_collation",
    "db_tablespace", "generated", "db_persist", "dim", "srid",
)  # fmt: skip


def _lines(model: type[models.Model]) -> list[str]:
    meta = model._meta
    lines = [repr((meta.label, meta.db_table, meta.proxy, meta.managed))]
    for field in meta.concrete_fields:
        kind, owner = type(field), field.model._meta
        shape = [(name, repr(getattr(field, name, None))) for name in _SHAPE]
        lines.append(repr((owner.db_table, kind.__module__, kind.__qualname__, field.get_internal_type(), shape)))
        if field.remote_field is not None:
            target: Any = cast("Any", field).target_field
            lines.append(repr((target.model._meta.db_table, target.column, target.get_internal_type())))
    return lines


# ---------------------------------------------------------------- parameters

#: What marshal writes in a form of its own each; subclasses are not meant.
_PLAIN: Final = frozenset({int, str, bool, float, bytes, type(None)})


def _form(value: Any) -> Any:
    """Return what stands for a value: itself, or a tuple that starts with the name of its type, as nothing else is."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    form = _FORMS.get(kind)
    if form is None:
        form = _FORMS[kind] = _find_form(kind)
    return (kind.__module__, kind.__qualname__, form(value))


def _find_form(kind: type) -> Callable[[Any], Any]:
    """Return how to write a type: as the base that a driver would send it as, next to the type's own name."""
    if issubclass(kind, Enum):
        return lambda member: (member.name, _form(member.value))
    for base, form in _BASES:
        if issubclass(kind, base):
            return form
    if kind.__module__.startswith("psycopg.types."):
        return _of_driver
    raise NoKey(f"a parameter of type {kind.__module__}.{kind.__qualname__} has no key")


def _of_datetime(value: datetime.datetime) -> Any:
    zone = value.tzinfo
    return (value.isoformat(), value.fold, None if zone is None else (type(zone).__qualname__, str(zone)))


def _of_decimal(value: decimal.Decimal) -> Any:
    return decimal.Decimal.__str__(value)


def _of_items(value: Iterable[Any]) -> Any:
    return tuple(_form(item) for item in value)


def _of_mapping(value: dict[Any, Any]) -> Any:
    return tuple((_form(key), _form(item)) for key, item in value.items())


def _of_driver(value: Any) -> Any:
    """Write what psycopg wraps parameters in: JSON documents, ranges of anything, and lists of these."""
    if hasattr(value, "obj"):
        dumps = value.dumps or json.dumps
        document = dumps(value.obj)
        return document.encode() if isinstance(document, str) else bytes(document)
    if hasattr(value, "bounds"):
        return (_form(value.lower), _form(value.upper), value.bounds, value.isempty)
    raise NoKey(f"a parameter of type {type(value).__qualname__} has no key")


_BASES: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (bool, int),
    (int, int.__int__),
    (str, str.__str__),
    (float, float.__float__),
    ((bytes, bytearray, memoryview), bytes),
    (decimal.Decimal, _of_decimal),
    (datetime.datetime, _of_datetime),
    (datetime.date, datetime.date.isoformat),
    (datetime.time, lambda value: (value.isoformat(), value.fold, str(value.tzinfo))),
    (datetime.timedelta, lambda value: (value.days, value.seconds, value.microseconds)),
    (uuid.UUID, lambda value: value.bytes),
    ((list, tuple), _of_items),
    (dict, _of_mapping),
    ((ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network), str),
    ((ipaddress.IPv4Interface, ipaddress.IPv6Interface), str),
)
_FORMS: Final[dict[type, Callable[[Any], Any]]] = {}
