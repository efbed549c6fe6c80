"""Know serializers and compressors by the number that a record carries, so that settings may change.

A record says with which serializer and compressor it was written. The well-known ones have fixed numbers and
can always be read, whatever the settings say now; others get a number from their dotted path and can be read
while they are configured.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from distcache_django.exceptions import CodecError

__all__ = ["PICKLE", "UNCOMPRESSED", "Compressor", "Plugins", "Serializer", "plugin_number"]

PICKLE = 0
UNCOMPRESSED = 0
#: Numbers from here on belong to dotted paths that are not well known.
_OTHERS = 128


class Serializer(Protocol):
    """Be what django-redis and Django call a serializer."""

    def dumps(self, value: Any) -> bytes:
        """Turn a value into bytes."""

    def loads(self, value: bytes) -> Any:
        """Turn bytes into the value."""


class Compressor(Protocol):
    """Be what django-redis calls a compressor."""

    def compress(self, value: bytes) -> bytes:
        """Return ``value``, compressed or, where that does not pay, as it is."""

    def decompress(self, value: bytes) -> bytes:
        """Undo ``compress``; raise for bytes it did not make."""


def plugin_number(path: str, well_known: Mapping[str, int]) -> int:
    """Return the number under which records name the plug-in at ``path``."""
    number = well_known.get(path)
    return _OTHERS + zlib.crc32(path.encode()) % _OTHERS if number is None else number


class Plugins:
    """Make serializers or compressors when a record or the settings name them; each is made once."""

    def __init__(self, kind: str, factories: Mapping[int, Callable[[], Any]]) -> None:
        self._kind = kind
        self._factories = dict(factories)
        self._made: dict[int, Any] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._factories

    def __getitem__(self, number: int) -> Any:
        """Return the plug-in with this number.

        :raises CodecError: if it is neither configured nor well known, or its library is not installed.
        """
        made = self._made.get(number)
        if made is None:
            factory = self._factories.get(number)
            if factory is None:
                raise CodecError(f"the record names {self._kind} {number}, which the settings do not")
            try:
                made = self._made[number] = factory()
            except ImportError as error:
                raise CodecError(f"{self._kind} {number} is not installed: {error}") from error
        return made
