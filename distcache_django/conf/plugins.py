"""Find serializers and compressors by their dotted path: django-redis's, Django's and a site's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.utils.module_loading import import_string

from distcache_django.codec.plugins import PICKLE, UNCOMPRESSED, Plugins, plugin_number

__all__ = ["compressors_for", "plugin_problem", "serializers_for"]

_PICKLE_PATH = "django_redis.serializers.pickle.PickleSerializer"

#: Numbers in stored records; never change one.
_SERIALIZERS: Mapping[str, int] = {
    _PICKLE_PATH: PICKLE,
    "django_redis.serializers.json.JSONSerializer": 1,
    "django_redis.serializers.msgpack.MSGPackSerializer": 2,
}
_COMPRESSORS: Mapping[str, int] = {
    "django_redis.compressors.identity.IdentityCompressor": UNCOMPRESSED,
    "django_redis.compressors.zlib.ZlibCompressor": 1,
    "django_redis.compressors.gzip.GzipCompressor": 2,
    "django_redis.compressors.lzma.LzmaCompressor": 3,
    "django_redis.compressors.lz4.Lz4Compressor": 4,
    "django_redis.compressors.zstd.ZStdCompressor": 5,
}
#: Serializers whose payloads cannot execute code.
SAFE_SERIALIZERS = frozenset({1, 2})


def plugin_problem(path: str | None) -> str:
    """Return what is wrong with a dotted path, or nothing."""
    if path is None:
        return ""
    try:
        import_string(path)
    except ImportError as error:
        return f"{path} cannot be imported: {error}."
    return ""


def serializers_for(path: str | None, options: Mapping[str, Any]) -> tuple[int, Plugins]:
    """Return the number of the serializer to write with, and all that can be read."""
    return _plugins("serializer", path or _PICKLE_PATH, _SERIALIZERS, options)


def compressors_for(path: str | None, options: Mapping[str, Any]) -> tuple[int, Plugins]:
    """Return the number of the compressor to write with, and all that can be read."""
    return _plugins("compressor", path or "django_redis.compressors.identity.IdentityCompressor", _COMPRESSORS, options)


def _plugins(kind: str, path: str, well_known: Mapping[str, int], options: Mapping[str, Any]) -> tuple[int, Plugins]:
    number = plugin_number(path, well_known)
    factories = {n: partial(_make, p, options) for p, n in well_known.items()}
    factories[number] = partial(_make, path, options)
    return number, Plugins(kind, factories)


def _make(path: str, options: Mapping[str, Any]) -> Any:
    """Make a plug-in the way django-redis does (with the options), or without arguments as Django does."""
    factory: Callable[..., Any] = import_string(path)
    takes_options = "options" in inspect.signature(factory).parameters
    return factory(options=options) if takes_options else factory()
