r"""The form of a stored value at replication factor 1.

=============  ==========================================================================
first byte     rest
=============  ==========================================================================
``0-9``, ``-`` a raw integer, so that the node can count with it
``\x01``       text as UTF-8, checksum
``\x02``       bytes as they are, checksum
``\x03``       signature (16 bytes), pickle
``\x04``       serializer (1 byte), compressor (1 byte), signature (16 bytes), payload
``\x05``       serializer (1 byte), compressor (1 byte), payload, checksum
=============  ==========================================================================

Form 4 is for everything that can execute code when it is read, form 5 for serializers that cannot; the signature of
form 4 covers the bytes before it too. A checksum is the CRC-32 of all that precedes it, in little-endian order: the
CRC-32 of a whole undamaged record is then a constant, and checking it takes one pass and no copy.

What starts otherwise was not written by this package: it is read while ``accept_unsigned`` is on (a cut-over from
django-redis or Django's own backend) and refused otherwise.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from distcache_django.codec.plugins import PICKLE, UNCOMPRESSED, Plugins
from distcache_django.codec.signer import SIGNATURE_SIZE, Signer
from distcache_django.exceptions import CodecError

__all__ = ["Codec"]

_TEXT, _BYTES, _PICKLE, _SIGNED, _CHECKED = 1, 2, 3, 4, 5
_DIGITS = frozenset(b"-0123456789")
_LARGEST = 2**63 - 1
_LONGEST_INTEGER = len(str(-_LARGEST))
#: The CRC-32 of any bytes followed by their own CRC-32 in little-endian order.
_UNDAMAGED = 0x2144DF1C
_AFTER_SIGNATURE = 1 + SIGNATURE_SIZE


@dataclass(frozen=True)
class Codec:
    """Encode with the configured serializer and compressor; decode whatever any settings have written.

    :param safe: numbers of the serializers whose payloads cannot execute code, and so are not signed.
    """

    signer: Signer
    serializers: Plugins
    compressors: Plugins
    serializer: int = PICKLE
    compressor: int = UNCOMPRESSED
    pickle_protocol: int = pickle.HIGHEST_PROTOCOL
    accept_unsigned: bool = False
    safe: frozenset[int] = frozenset()

    def encode(self, value: Any) -> bytes | int:
        """Return the stored form of ``value``; an error of the serializer's is passed on unchanged."""
        kind = value.__class__
        if self.compressor == UNCOMPRESSED or kind is int:
            if kind is str:
                try:
                    return _checked(b"\x01" + value.encode())
                except UnicodeEncodeError:  # lone surrogates have no UTF-8 form, but pickle has one for them
                    return self._encode_general(value)
            if kind is int and -_LARGEST <= value <= _LARGEST:
                return value  # type: ignore[no-any-return]
            if kind is bytes:
                return _checked(b"\x02" + value)
            if self.serializer == PICKLE:
                payload = pickle.dumps(value, self.pickle_protocol)
                return b"\x03%b%b" % (self.signer.sign(payload), payload)
        return self._encode_general(value)

    def decode(self, raw: bytes) -> Any:
        """Return the value that ``raw`` is the stored form of.

        :raises CodecError: if the bytes are damaged, forged, foreign or cannot be deserialized here.
        """
        kind = raw[0] if raw else -1
        if kind == _TEXT:
            if crc32(raw) != _UNDAMAGED:
                raise _damaged()
            try:
                return raw[1:-4].decode()
            except UnicodeDecodeError as error:
                raise CodecError("the value is not text") from error
        if kind == _PICKLE:
            payload = raw[_AFTER_SIGNATURE:]
            self.signer.check(raw[1:_AFTER_SIGNATURE], payload)
            return _guarded(pickle.loads, payload)
        if kind in _DIGITS:
            return self._decode_integer(raw)
        return self._decode_general(kind, raw)

    def _encode_general(self, value: Any) -> bytes:
        payload = self.serializers[self.serializer].dumps(value)
        if isinstance(payload, str):
            payload = payload.encode()
        if self.compressor != UNCOMPRESSED:
            payload = self.compressors[self.compressor].compress(payload)
        plugins = bytes((self.serializer, self.compressor))
        if self.serializer in self.safe:
            return _checked(b"\x05%b%b" % (plugins, payload))
        return b"\x04%b%b%b" % (plugins, self.signer.sign(b"\x04" + plugins + payload), payload)

    def _decode_integer(self, raw: bytes) -> Any:
        # int() would also take spaces and underscores, which no node and no codec writes.
        if len(raw) <= _LONGEST_INTEGER and raw.removeprefix(b"-").isdigit():
            return int(raw)
        return self._decode_foreign(raw)

    def _decode_general(self, kind: int, raw: bytes) -> Any:
        if kind == _BYTES:
            if crc32(raw) == _UNDAMAGED:
                return raw[1:-4]
            raise _damaged()
        if kind == _SIGNED and self._is_general(raw, SIGNATURE_SIZE):
            payload = raw[3 + SIGNATURE_SIZE :]
            self.signer.check(raw[3 : 3 + SIGNATURE_SIZE], raw[:3] + payload)
        elif kind == _CHECKED and self._is_general(raw, 4) and raw[1] in self.safe:
            if crc32(raw) != _UNDAMAGED:
                raise _damaged()
            payload = raw[3:-4]
        else:
            return self._decode_foreign(raw)
        return self._deserialize(raw[1], raw[2], payload)

    def _is_general(self, raw: bytes, check_size: int) -> bool:
        """Tell a record of ours from foreign bytes that begin alike (an LZ4 frame with 4)."""
        return len(raw) > 3 + check_size and raw[1] in self.serializers and raw[2] in self.compressors

    def _deserialize(self, serializer: int, compressor: int, payload: bytes) -> Any:
        if compressor != UNCOMPRESSED:
            payload = self._decompress(compressor, payload)
        return _guarded(self.serializers[serializer].loads, payload)

    def _decompress(self, compressor: int, payload: bytes) -> bytes:
        try:
            expanded: bytes = self.compressors[compressor].decompress(payload)
        except CodecError:
            raise
        except Exception:  # noqa: BLE001 - each library has errors of its own
            # Compressors leave short values as they are, and say so only by failing to expand them.
            return payload
        return expanded

    def _decode_foreign(self, raw: bytes) -> Any:
        """Read what django-redis or Django's own backend wrote, if that is accepted."""
        if not self.accept_unsigned or not raw:
            raise CodecError("the value is not signed by this site")
        payload = raw if self.compressor == UNCOMPRESSED else self._decompress(self.compressor, raw)
        return _guarded(self.serializers[self.serializer].loads, payload)


def _checked(record: bytes) -> bytes:
    return record + crc32(record).to_bytes(4, "little")


def _damaged() -> CodecError:
    return CodecError("the checksum does not match")


def _guarded(loads: Any, payload: bytes) -> Any:
    try:
        return loads(payload)
    except Exception as error:
        # A class that has moved, a field that is gone, a wrong serializer: all of them a miss for the cache.
        raise CodecError(f"the value cannot be deserialized: {type(error).__name__}") from error
