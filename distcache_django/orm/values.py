"""Give the values of a field one spelling, from Python and from the database alike.

A dependency on a value can be named only if the database finds two values equal exactly where their spellings are:
for integers, booleans, UUIDs and dates everywhere, and for text where no collation takes "a" for "A". So the types
are a closed set, without their subclasses: a field of a site's own may store its values in any form.
"""

from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from django.core.exceptions import ValidationError
from django.db import models

if TYPE_CHECKING:
    FieldOf: TypeAlias = models.Field[Any, Any]

__all__ = [
    "NotCanonical",
    "canonical",
    "canonical_exact",
    "canonical_from_db",
    "is_comparable",
    "is_refinable",
]

#: Text longer than this is named by its digest.
_LONGEST_TEXT: Final = 128


@dataclass(frozen=True, slots=True)
class _Kind:
    """Be a kind of values: their type in Python, how one of another type is read, and the databases it is exact in."""

    type: type
    read: Callable[[Any], Any]
    vendors: frozenset[str] | None = None


class NotCanonical(ValueError):
    """Say that a value has no known spelling: it is an expression, NULL, or nothing that the field could hold."""


def canonical(field: FieldOf, value: Any) -> str:
    """Return the spelling of a value as Python code gives it to a field, prepared or not: ``"3"``, say, or 3.

    :raises NotCanonical: if the value is ``None``, an expression, or none that the field can hold, or if the field is
        not refinable.
    """
    kind = _kind_of(field)
    if kind is None or value is None or hasattr(value, "resolve_expression"):
        raise NotCanonical("the value is NULL, known to the database only, or of a field whose values have no spelling")
    if type(value) is kind.type:
        return _spell(value)
    try:
        return _spell(kind.read(_target(field).get_prep_value(value)))
    except (TypeError, ValueError, ArithmeticError, ValidationError) as error:
        raise NotCanonical("the value is none of the field's") from error


def canonical_from_db(field: FieldOf, raw: Any) -> str:
    """Return the spelling of a value that is not ``None``, as a database driver returns it for a field.

    :raises NotCanonical: if the field is not refinable, or could not have stored such a value.
    """
    kind = _kind_of(field)
    if kind is None:
        raise NotCanonical("values of the field have no spelling")
    if type(raw) is kind.type:
        return _spell(raw)
    try:
        return _spell(kind.read(raw))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise NotCanonical("the database holds what the field could not have stored") from error


def canonical_exact(field: FieldOf, value: Any) -> str | None:
    """Return the spelling of a value that a query compares a column with, ``None`` if it would need conversion.

    What the database makes of a value of another type is its own affair.
    """
    kind = _kind_of(field)
    try:
        return _SPELLINGS[kind.type](value) if kind is not None and type(value) is kind.type else None
    except ValueError:  # more digits than Python writes
        return None


def is_refinable(field: FieldOf, vendor: str | None = None) -> bool:
    """Return whether values of a field can have dependencies of their own.

    :param vendor: of the database that answers the queries; without it the question is whether there is one.
    """
    kind = _kind_of(field)
    return kind is not None and (vendor is None or kind.vendors is None or vendor in kind.vendors)


def is_comparable(field: FieldOf, other: FieldOf) -> bool:
    """Return whether values of two fields are equal in the database exactly where their spellings are."""
    kind = _kind_of(field)
    return kind is not None and kind is _kind_of(other)


def _spell_text(value: str) -> str:
    if len(value) <= _LONGEST_TEXT:
        return value
    return "~" + hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _spell_boolean(value: bool) -> str:
    return "1" if value else "0"


_SPELLINGS: Final[dict[type, Callable[[Any], str]]] = {
    int: str,
    bool: _spell_boolean,
    str: _spell_text,
    uuid.UUID: str,
    datetime.date: datetime.date.isoformat,
}


def _spell(value: Any) -> str:
    """Spell a value of exactly one of the types above: what subclasses print is their own, members of enums names."""
    return _SPELLINGS[type(value)](value)


def _read_integer(raw: Any) -> int:
    value = int(raw)
    if not isinstance(raw, (str, bytes)) and value != raw:
        raise ValueError("not an integer")
    return value


def _read_boolean(raw: Any) -> bool:
    if isinstance(raw, (str, bytes)):
        raise TypeError("not a boolean")
    return bool(raw)


def _read_uuid(raw: Any) -> uuid.UUID:
    return uuid.UUID(bytes=raw) if isinstance(raw, bytes) else uuid.UUID(str(raw))


def _read_date(raw: Any) -> datetime.date:
    if isinstance(raw, datetime.date):
        return datetime.date(raw.year, raw.month, raw.day)
    return datetime.date.fromisoformat(raw)


def _read_text(raw: Any) -> str:
    return str.__str__(raw)


_COMMON: Final = frozenset({"postgresql", "sqlite", "mysql"})
# Where text is equal to itself only, and an empty one is not NULL.
_EXACT_TEXT: Final = frozenset({"postgresql", "sqlite"})
_INTEGER: Final = _Kind(int, _read_integer)
_BOOLEAN: Final = _Kind(bool, _read_boolean, _COMMON)
_UUID: Final = _Kind(uuid.UUID, _read_uuid, _COMMON)
_DATE: Final = _Kind(datetime.date, _read_date, _COMMON)
_TEXT: Final = _Kind(str, _read_text, _EXACT_TEXT)
_KINDS: Final[dict[type, _Kind]] = {
    **dict.fromkeys(
        (
            models.AutoField, models.BigAutoField, models.SmallAutoField,
            models.IntegerField, models.BigIntegerField, models.SmallIntegerField,
            models.PositiveIntegerField, models.PositiveBigIntegerField, models.PositiveSmallIntegerField,
        ),
        _INTEGER,
    ),
    **dict.fromkeys((models.CharField, models.TextField, models.SlugField, models.EmailField, models.URLField), _TEXT),
    models.BooleanField: _BOOLEAN,
    models.UUIDField: _UUID,
    models.DateField: _DATE,
}  # fmt: skip

_known: dict[FieldOf, _Kind | None] = {}
_MAX_KNOWN: Final = 65_536


def _kind_of(field: FieldOf) -> _Kind | None:
    try:
        return _known[field]
    except KeyError:
        if len(_known) >= _MAX_KNOWN:  # classes of models that come and go, as in a test suite
            _known.clear()
        found = _known[field] = _find_kind(field)
        return found


def _find_kind(field: FieldOf) -> _Kind | None:
    target = _target(field)
    kind = _KINDS.get(type(target))
    return None if kind is _TEXT and not _has_plain_text(target) else kind


def _target(field: FieldOf) -> FieldOf:
    """Return the field whose values a field has: those of a foreign key are its target's."""
    while type(field) in {models.ForeignKey, models.OneToOneField}:
        field = field.target_field  # type: ignore[attr-defined]  # a relation's
    return field


def _has_plain_text(field: FieldOf) -> bool:
    # The columns of an unmanaged model are not Django's: citext, char(n), or a collation nobody told it of.
    return getattr(field, "db_collation", None) is None and bool(field.model._meta.managed)
