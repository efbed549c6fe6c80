"""Turn what a query returned into plain data, with everything in it that a caller can see."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import Model, QuerySet
from django.db.models.manager import BaseManager


def snapshot(value: Any, seen: frozenset[int] = frozenset()) -> Any:
    """Return types and contents, of instances with their state and of querysets with what was prefetched."""
    if isinstance(value, Model):
        return "seen" if id(value) in seen else _instance(value, seen | {id(value)})
    if isinstance(value, QuerySet | BaseManager):
        return [type(value).__name__, [snapshot(row, seen) for row in value.all()]]
    if isinstance(value, Mapping):
        return [type(value).__name__, [[snapshot(k, seen), snapshot(v, seen)] for k, v in value.items()]]
    if isinstance(value, list | tuple | set | frozenset):
        rows = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [type(value).__name__, getattr(value, "_fields", None), [snapshot(row, seen) for row in rows]]
    if isinstance(value, memoryview):
        return ["memoryview", value.tobytes()]
    if isinstance(value, datetime):
        return ["datetime", value.isoformat(), type(value.tzinfo).__name__, str(value.tzinfo)]
    return [type(value).__name__, value]


def _instance(instance: Model, seen: frozenset[int]) -> list[Any]:
    own = {name: value for name, value in instance.__dict__.items() if name not in {"_state", _PREFETCHED}}
    state = instance._state
    return [
        type(instance).__name__,
        [[name, snapshot(value, seen)] for name, value in own.items()],
        [state.db, state.adding],
        {name: snapshot(value, seen) for name, value in state.fields_cache.items()},
        {name: snapshot(value, seen) for name, value in getattr(instance, _PREFETCHED, {}).items()},
        sorted(instance.get_deferred_fields()),
    ]


_PREFETCHED = "_prefetched_objects_cache"
