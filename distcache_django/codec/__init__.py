"""Turn values into bytes and back.

``Codec`` is what the cache uses: exact ``int`` stays raw so that nodes can count with it, text and bytes are
stored as they are, everything else goes through a serializer and, where the serializer can execute code
(pickle), a signature.
"""

from distcache_django.codec.codec import Codec
from distcache_django.codec.plugins import Compressor, Plugins, Serializer
from distcache_django.codec.signer import Signer

__all__ = ["Codec", "Compressor", "Plugins", "Serializer", "Signer"]
