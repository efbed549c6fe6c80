"""Serializers and compressors may change under live data; what other backends wrote is read where it is accepted."""

import pickle

import pytest

from distcache_django.codec import Codec, Plugins, Signer
from distcache_django.codec.plugins import PICKLE, plugin_number
from distcache_django.conf.plugins import SAFE_SERIALIZERS, compressors_for, serializers_for
from distcache_django.exceptions import CodecError

JSON = "django_redis.serializers.json.JSONSerializer"
MSGPACK = "django_redis.serializers.msgpack.MSGPackSerializer"
ZLIB = "django_redis.compressors.zlib.ZlibCompressor"
COMPRESSORS = {
    name: f"django_redis.compressors.{name}.{cls}"
    for name, cls in {
        "zlib": "ZlibCompressor",
        "gzip": "GzipCompressor",
        "lzma": "LzmaCompressor",
        "lz4": "Lz4Compressor",
        "zstd": "ZStdCompressor",
    }.items()
}


def make_codec(*secrets, serializer=None, compressor=None, **fields):
    """Make a codec the way the runtime does."""
    number, serializers = serializers_for(serializer, {})
    compressing, compressors = compressors_for(compressor, {})
    return Codec(
        Signer(secrets or ("secret",)), serializers, compressors, number, compressing, safe=SAFE_SERIALIZERS, **fields
    )


def stored(codec, value):
    """Return the bytes that a node would keep."""
    raw = codec.encode(value)
    return b"%d" % raw if isinstance(raw, int) else raw


def round_trip(codec, value):
    return codec.decode(stored(codec, value))


CODEC = make_codec()


class Word(str):
    """A subclass of text."""


# ---------------------------------------------------------------- settings that change under live data


def usable_compressors():
    for name, path in COMPRESSORS.items():
        try:
            compressors_for(path, {})[1][compressors_for(path, {})[0]]
        except CodecError:
            yield pytest.param(path, id=name, marks=pytest.mark.skip(f"{name} is not installed"))
        else:
            yield pytest.param(path, id=name)


USABLE = list(usable_compressors())
LONG = {"text": "abc" * 200, "number": 7}


@pytest.mark.parametrize("path", USABLE)
@pytest.mark.parametrize("value", [LONG, [], "short", b"", "x" * 5000], ids=lambda value: type(value).__name__)
def test_compressed_values_are_read_by_any_settings(path, value):
    writer = make_codec(compressor=path)

    assert writer.decode(stored(writer, value)) == value
    assert CODEC.decode(stored(writer, value)) == value
    assert writer.decode(stored(CODEC, value)) == value
    assert make_codec(serializer=JSON, compressor=ZLIB).decode(stored(writer, value)) == value
    assert len(stored(writer, LONG)) < 150


@pytest.mark.parametrize("compressor", [None, ZLIB])
def test_json_values_are_read_by_any_settings(compressor):
    writer = make_codec(serializer=JSON, compressor=compressor)

    values: list[object] = [LONG, [], 1.5, -2.0, None, True, "short", 2**70]
    for value in values:
        assert CODEC.decode(stored(writer, value)) == value
        assert writer.decode(stored(CODEC, value)) == value


def test_json_values_are_not_signed_and_survive_another_key():
    writer = make_codec("one", serializer=JSON)

    assert stored(writer, {"a": 1})[0] == 5
    assert make_codec("two").decode(stored(writer, {"a": 1})) == {"a": 1}


def test_msgpack_values_are_read_by_any_settings():
    pytest.importorskip("msgpack")
    writer = make_codec(serializer=MSGPACK)

    assert CODEC.decode(stored(writer, LONG)) == LONG


def test_a_record_that_names_an_absent_library_or_an_unknown_plugin_is_an_error():
    with pytest.raises(CodecError, match="names serializer 200"):
        Plugins("serializer", {})[200]
    with pytest.raises(CodecError, match="is not installed"):
        Plugins("compressor", {1: lambda: __import__("no_such_library")})[1]


@pytest.mark.parametrize("plugins", [(0, 99), (200, 0), (200, 99)])
def test_a_record_of_a_plugin_that_is_not_configured_is_taken_for_anothers(plugins):
    assert 99 not in CODEC.compressors
    assert 200 not in CODEC.serializers
    start, payload = bytes((4, *plugins)), pickle.dumps(1)
    record = start + Signer(["secret"]).sign(start + payload) + payload

    for codec in (CODEC, ACCEPTING):
        with pytest.raises(CodecError):
            codec.decode(record)


class Reversing:
    """A compressor of a site's own, and a serializer whose text is not bytes."""

    def compress(self, value):
        return b"\x04r" + value[::-1]

    def decompress(self, value):
        if not value.startswith(b"\x04r"):
            raise ValueError("not mine")
        return value[2:][::-1]

    def dumps(self, value):
        return repr(value)

    def loads(self, value):
        return eval(value)


def of_my_own(**fields):
    plugins = Plugins("own", {200: Reversing, PICKLE: lambda: pickle})
    return Codec(Signer(["s"]), plugins, plugins, serializer=200, compressor=200, **fields)


def test_plugins_of_a_sites_own_are_signed():
    codec = of_my_own()

    assert stored(codec, [1])[:3] == bytes((4, 200, 200))
    assert codec.decode(stored(codec, [1])) == [1]
    with pytest.raises(CodecError):
        CODEC.decode(stored(codec, [1]))


def test_plugins_are_made_once_and_numbered_by_their_path():
    plugins = Plugins("own", {1: Reversing})

    assert plugins[1] is plugins[1]
    assert plugin_number("a.b", {"a.b": 7}) == 7
    assert 128 <= plugin_number("my.Own", {}) < 256
    assert plugin_number("my.Own", {}) == plugin_number("my.Own", {})


def test_a_serializer_may_change_its_mind_and_the_value_is_a_miss():
    renamed = stored(CODEC, Word("w")).replace(b"Word", b"Gone")
    resigned = b"\x03" + Signer(["secret"]).sign(renamed[17:]) + renamed[17:]

    with pytest.raises(CodecError, match="cannot be deserialized: AttributeError"):
        CODEC.decode(resigned)


# ---------------------------------------------------------------- what others wrote

ACCEPTING = make_codec(accept_unsigned=True)


@pytest.mark.parametrize("value", [None, True, 1.5, "text", b"bytes", [1], {"a": 1}], ids=repr)
@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
def test_pickles_of_other_backends_are_read_only_while_accepted(value, protocol):
    raw = pickle.dumps(value, protocol)

    assert ACCEPTING.decode(raw) == value
    with pytest.raises(CodecError, match="not signed"):
        CODEC.decode(raw)


@pytest.mark.parametrize("value", [None, True, 1.5, -0.5, "text", [1], {"a": 1}], ids=repr)
def test_json_of_django_redis_is_read_while_accepted(value):
    codec = make_codec(serializer=JSON, accept_unsigned=True)

    assert codec.decode(serializers_for(JSON, {})[1][1].dumps(value)) == value


@pytest.mark.parametrize("path", USABLE)
def test_compressed_pickles_of_django_redis_are_read_while_accepted(path):
    number, compressors = compressors_for(path, {})
    codec = make_codec(compressor=path, accept_unsigned=True)

    assert codec.decode(compressors[number].compress(pickle.dumps(LONG))) == LONG
    assert codec.decode(pickle.dumps([])) == []


def test_foreign_values_that_begin_like_ours_are_read_while_accepted():
    """LZ4 frames begin with 0x04, the sign of a signed record."""
    codec = of_my_own(accept_unsigned=True)

    assert codec.decode(Reversing().compress(b"[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]")) == [*range(1, 11)]


def test_accepting_unsigned_values_does_not_accept_damaged_ones_of_ours():
    for value in ("text", b"bytes", (1,)):
        with pytest.raises(CodecError):
            ACCEPTING.decode(stored(CODEC, value)[:-1] + b"\xff")
    with pytest.raises(CodecError):
        ACCEPTING.decode(b"")
