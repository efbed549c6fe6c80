"""Make text of the arguments of a cached function: equal arguments, and only those, give the same text."""

from __future__ import annotations

import datetime
import decimal
import enum
import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.db.models import Model
from django.utils import timezone, translation

__all__ = ["argument_text", "call_key", "digest", "surroundings"]

_PLAIN = (
    type(None), bool, int, float, complex, str, bytes, decimal.Decimal, uuid.UUID, datetime.date, datetime.time,
    datetime.datetime, datetime.timedelta,
)  # fmt: skip


def argument_text(value: Any) -> str:
    """Return a text that no other value has.

    :raises TypeError: for types whose equality is not known; name what the answer depends on with ``key`` instead.
    """
    kind = type(value)
    if kind in _PLAIN:
        return f"{kind.__name__}:{value!r}"
    if isinstance(value, Model):
        if value.pk is None:
            raise TypeError(f"{value._meta.label} without a primary key")
        return f"{value._meta.label}[{value._state.db}]:{argument_text(value.pk)}"
    if isinstance(value, enum.Enum):
        return f"{kind.__module__}.{kind.__qualname__}.{value.name}"
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    container = _CONTAINERS.get(kind)
    if container is None:
        raise TypeError(f"{kind.__module__}.{kind.__qualname__}")
    return f"{kind.__name__}({','.join(container(value))})"


def _pairs(mapping: Mapping[Any, Any]) -> Iterable[str]:
    return (f"{argument_text(key)}={argument_text(value)}" for key, value in mapping.items())


_CONTAINERS: Mapping[type, Callable[[Any], Iterable[str]]] = {
    list: lambda value: map(argument_text, value),
    tuple: lambda value: map(argument_text, value),
    set: lambda value: sorted(map(argument_text, value)),
    frozenset: lambda value: sorted(map(argument_text, value)),
    dict: lambda value: sorted(_pairs(value)),
}


def call_key(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return a text for one call of ``function``.

    :raises TypeError: if an argument has no such text; names the function.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        return f"{name}({','.join(map(argument_text, args))};{','.join(sorted(_pairs(kwargs)))})"
    except TypeError as error:
        raise TypeError(
            f"{name} cannot be cached for an argument of type {error}: give cached(key=...) that makes a key of it"
        ) from None


def surroundings() -> str:
    """Return what answers may depend on beside their arguments: the active language and time zone."""
    language = translation.get_language() if settings.USE_I18N else ""
    zone = timezone.get_current_timezone_name() if settings.USE_TZ else ""
    return f"{language}|{zone}"


def digest(text: str) -> str:
    """Return a short name of a long text; no two texts share one."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
