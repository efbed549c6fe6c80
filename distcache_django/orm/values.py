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

__all__ = ["NotCanonical", "canonical", "canonical_exact", "canonical_from_db", "is_refinable"]

#: Text longer than this is named by its digest.
_LONGEST_TEXT: Final = 128


class NotCanonical(ValueError):
    """Say that a value has no known spelling: it is an expression, or nothing that the field could hold."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Be a kind of values: the one type that they have in Python, and how another type from a database is read."""

    type: type
    spell: Callable[[Any], str]
    read: Callable[[Any], Any]
    vendors: frozenset[str] | None = None


def canonical(field: FieldOf, value: Any) -> str:
    """Return the spelling of a value that is not ``None``, as Python code gives it to a field: ``"3"``, for one, to
    an integer's.

    :raises NotCanonical: if the value is an expression or none that the field can hold, or the field not refinable.
    """
    target, kind = _resolve(field)
    if type(value) is kind.type:
        return kind.spell(value)
    if value is None or hasattr(value, "resolve_expression"):
        raise NotCanonical("the value is known to the database only")
    try:
        prepared = target.get_prep_value(value)
        return kind.spell(prepared if type(prepared) is kind.type else kind.type(prepared))
    except (TypeError, ValueError, ArithmeticError, ValidationError) as error:
        raise NotCanonical("the value is none of the field's") from error


def canonical_from_db(field: FieldOf, raw: Any) -> str:
    """Return the spelling of a value that is not ``None``, as a database driver returns it.

    :raises NotCanonical: if the database holds what the field could not have stored, or the field is not refinable.
    """
    kind = _resolve(field)[1]
    if type(raw) is kind.type:
        return kind.spell(raw)
    try:
        return kind.spell(kind.read(raw))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise NotCanonical("the value is none of the field's") from error


def canonical_exact(field: FieldOf, value: Any) -> str | None:
    """Return the spelling of a value that a query compares a column with, ``None`` if it would need conversion.

    What the database makes of a value of another type is its own affair.
    """
    kind = _resolve(field)[1]
    return kind.spell(value) if type(value) is kind.type else None


def is_refinable(field: FieldOf, vendor: str | None = None) -> bool:
    """Return whether values of a field can have dependencies of their own.

    :param vendor: of the database that answers the queries; without it the question is whether there is one.
    """
    found = _kind_of(field)
    return found is not None and (vendor is None or found[1].vendors is None or vendor in found[1].vendors)


def _spell_text(value: str) -> str:
    if len(value) <= _LONGEST_TEXT:
        return value
    return "~" + hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _spell_boolean(value: bool) -> str:  # noqa: FBT001 - a value, not an option
    return "1" if value else "0"


def _read_integer(raw: Any) -> int:
    if isinstance(raw, (str, bytes)):
        return int(raw)
    value = int(raw)
    if value != raw:
        raise ValueError("not an integer")
    return value


def _read_boolean(raw: Any) -> bool:
    if not isinstance(raw, int):
        raise TypeError("not a boolean")
    return bool(raw)


def _read_uuid(raw: Any) -> uuid.UUID:
    return uuid.UUID(bytes=raw) if isinstance(raw, bytes) else uuid.UUID(raw)


def _read_date(raw: Any) -> datetime.date:
    if isinstance(raw, datetime.datetime):
        return raw.date()
    return datetime.date.fromisoformat(raw)


def _read_text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise TypeError("not text")
    return str(raw)


_COMMON: Final = frozenset({"postgresql", "sqlite", "mysql"})
# Where text is equal to itself only, and an empty one is not NULL.
_EXACT_TEXT: Final = frozenset({"postgresql", "sqlite"})
_INTEGER: Final = _Kind(int, str, _read_integer)
_BOOLEAN: Final = _Kind(bool, _spell_boolean, _read_boolean, _COMMON)
_UUID: Final = _Kind(uuid.UUID, str, _read_uuid, _COMMON)
_DATE: Final = _Kind(datetime.date, datetime.date.isoformat, _read_date, _COMMON)
_TEXT: Final = _Kind(str, _spell_text, _read_text, _EXACT_TEXT)
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

_known: dict[FieldOf, tuple[FieldOf, _Kind] | None] = {}
_MAX_KNOWN: Final = 65_536


def _resolve(field: FieldOf) -> tuple[FieldOf, _Kind]:
    found = _kind_of(field)
    if found is None:
        raise NotCanonical(f"values of {field} have no spelling")
    return found


def _kind_of(field: FieldOf) -> tuple[FieldOf, _Kind] | None:
    """Return the field whose values these are, following foreign keys, and their kind."""
    try:
        return _known[field]
    except KeyError:
        if len(_known) >= _MAX_KNOWN:  # classes of models that come and go, as in a test suite
            _known.clear()
        found = _known[field] = _find_kind(field)
        return found


def _find_kind(field: FieldOf) -> tuple[FieldOf, _Kind] | None:
    target = field
    while type(target) in {models.ForeignKey, models.OneToOneField}:
        target = target.target_field  # type: ignore[attr-defined]  # a relation's
    kind = _KINDS.get(type(target))
    if kind is None or (kind is _TEXT and not _has_plain_text(target)):
        return None
    return target, kind


def _has_plain_text(field: FieldOf) -> bool:
    # The columns of an unmanaged model are not Django's: citext, char(n), or a collation nobody told it of.
    return getattr(field, "db_collation", None) is None and bool(field.model._meta.managed)
