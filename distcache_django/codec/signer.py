"""Sign payloads with keyed BLAKE2b, so that nothing is unpickled that this site did not write."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from hmac import compare_digest

from distcache_django.exceptions import CodecError

__all__ = ["SIGNATURE_SIZE", "Signer"]

#: Bytes of a signature; forging one takes 2^128 tries.
SIGNATURE_SIZE = 16


class Signer:
    """Sign with the first of ``secrets`` and accept the signatures of all of them. Thread-safe."""

    __slots__ = ("_copies",)

    def __init__(self, secrets: Sequence[str | bytes]) -> None:
        if not secrets or not all(secrets):
            raise ValueError("signing needs a secret that is not empty")
        # Copying a hash that has taken the key in costs half of keying a new one.
        self._copies = tuple(_keyed(secret).copy for secret in secrets)

    def sign(self, payload: bytes) -> bytes:
        """Return the signature of ``payload``."""
        state = self._copies[0]()
        state.update(payload)
        return state.digest()

    def check(self, signature: bytes, payload: bytes) -> None:
        """Accept ``payload``, in constant time for each secret.

        :raises CodecError: if no secret made ``signature`` for it.
        """
        for copy in self._copies:
            state = copy()
            state.update(payload)
            if compare_digest(state.digest(), signature):
                return
        raise CodecError("the signature does not match")


def _keyed(secret: str | bytes) -> hashlib.blake2b:
    raw = secret.encode() if isinstance(secret, str) else bytes(secret)
    key = hashlib.blake2b(raw, digest_size=32, person=b"distcache.key").digest()
    return hashlib.blake2b(key=key, digest_size=SIGNATURE_SIZE, person=b"distcache.sign")
