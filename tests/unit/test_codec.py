"""Values survive the way there and back; damaged, forged and foreign bytes never become a value."""

import datetime
import decimal
import enum
import math
import pickle
import zlib
from collections import OrderedDict

import pytest
from django.utils.safestring import SafeString, mark_safe
from hypothesis import example, given
from hypothesis import strategies as st

from distcache_django.codec import Codec, Signer
from distcache_django.conf.plugins import SAFE_SERIALIZERS, compressors_for, serializers_for
from distcache_django.exceptions import CodecError

JSON = "django_redis.serializers.json.JSONSerializer"
ZLIB = "django_redis.compressors.zlib.ZlibCompressor"


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


class Colour(enum.IntEnum):
    RED = 1


class Word(str):
    """A subclass of text, as Django's SafeString is one."""


class Number(int):
    """A subclass of int."""


SUNG: list[str] = []


def sing():
    """Shout when a canary is unpickled."""
    SUNG.append("sung")


class Canary:
    """Call ``sing`` when it is unpickled."""

    def __reduce__(self):
        return (sing, ())


@pytest.fixture
def canary():
    SUNG.clear()
    yield Canary
    SUNG.clear()


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS | st.dates() | st.decimals(allow_nan=False) | st.uuids() | st.frozensets(st.integers()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)

# ---------------------------------------------------------------- there and back


@given(VALUES)
def test_any_value_comes_back_as_it_was(value):
    found = round_trip(CODEC, value)

    assert found == value
    assert type(found) is type(value)


@given(st.text(st.characters()))
@example("\ud800")
def test_text_comes_back_with_lone_surrogates_too(text):
    assert round_trip(CODEC, text) == text


@pytest.mark.parametrize(
    "value",
    [
        True, False, None, 0, -1, 1.5, -0.0, math.inf, "", "é\0", b"", b"\x80\x04", (), [None], {"a": (1, 2)},
        Colour.RED, Word("w"), Number(5), mark_safe("<b>"), bytearray(b"x"), OrderedDict(a=1),
        decimal.Decimal("1.10"), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), ValueError,
    ],
    ids=repr,
)  # fmt: skip
def test_types_are_kept(value):
    found = round_trip(CODEC, value)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1, -(2**63) + 1])
def test_integers_that_a_node_can_count_with_are_raw(value):
    assert CODEC.encode(value) == value
    assert type(CODEC.encode(value)) is int


@pytest.mark.parametrize("value", [2**63, -(2**63), 2**64, 10**100, True, Number(5), Colour.RED])
def test_other_integers_are_not_raw(value):
    assert isinstance(CODEC.encode(value), bytes)
    assert round_trip(CODEC, value) == value


@given(st.integers())
def test_integers_come_back_whatever_the_compressor(value):
    assert round_trip(make_codec(compressor=ZLIB), value) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_is_read(protocol):
    assert CODEC.decode(make_codec(pickle_protocol=protocol).encode([1, "a"])) == [1, "a"]


def test_what_cannot_be_pickled_raises_the_serializers_own_error():
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        CODEC.encode(lambda: None)


def test_safe_text_does_not_become_text():
    assert isinstance(round_trip(CODEC, mark_safe("<b>")), SafeString)


# ---------------------------------------------------------------- damage

FORMS = {
    "text": stored(CODEC, "text é"),
    "empty text": stored(CODEC, ""),
    "bytes": stored(CODEC, b"bytes"),
    "pickle": stored(CODEC, [1, 2]),
    "signed": stored(make_codec(compressor=ZLIB), "x" * 100),
    "checked": stored(make_codec(serializer=JSON), {"a": 1}),
}


def is_refused(codec, raw):
    try:
        codec.decode(raw)
    except CodecError:
        return True
    return False


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("codec", [CODEC, make_codec(serializer=JSON, compressor=ZLIB)], ids=["plain", "json"])
def test_no_damage_of_one_byte_makes_another_value(codec, form):
    raw = FORMS[form]
    for index in range(len(raw)):
        for byte in set(range(256)) - {raw[index]}:
            damaged = raw[:index] + bytes([byte]) + raw[index + 1 :]
            assert is_refused(codec, damaged), f"byte {index} became {byte:#x}"


@pytest.mark.parametrize("form", FORMS)
def test_no_truncation_or_addition_makes_another_value(form):
    raw = FORMS[form]
    for damaged in [raw[:length] for length in range(len(raw))] + [raw + b"\0", raw + b"x"]:
        assert is_refused(CODEC, damaged)


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_an_integer_or_an_error(raw):
    try:
        value = CODEC.decode(raw)
    except CodecError:
        return
    assert type(value) is int


@pytest.mark.parametrize("raw", [b"-", b"1.5", b"0x1", b"1 2", b"9" * 5000, b"1\xff", b"--1"])
def test_what_starts_like_an_integer_and_is_none_is_an_error(raw):
    with pytest.raises(CodecError):
        CODEC.decode(raw)


@pytest.mark.parametrize("raw", [b"1_000", b"12\n", b"1 "])
def test_only_the_form_in_which_a_node_writes_integers_is_one(raw):
    """``INCR`` refuses these; reading them as numbers would hide that they were damaged."""
    with pytest.raises(CodecError):
        CODEC.decode(raw)


def test_text_with_a_right_checksum_that_is_not_text_is_an_error():
    record = b"\x01\xff\xfe"
    forged = record + zlib.crc32(record).to_bytes(4, "little")

    with pytest.raises(CodecError):
        CODEC.decode(forged)


# ---------------------------------------------------------------- forgery


def payloads_of(canary):
    pickled = pickle.dumps(canary())
    signature = Signer(["another site's"]).sign(pickled)
    return {
        "bare": pickled,
        "zeros": b"\x03" + bytes(16) + pickled,
        "another key": b"\x03" + signature + pickled,
        "general": b"\x04\x00\x00" + bytes(16) + pickled,
        "checked": b"\x05\x00\x00" + pickled + zlib.crc32(b"\x05\x00\x00" + pickled).to_bytes(4, "little"),
        "unknown": b"\x06" + pickled,
        "short": b"\x03" + pickled[:10],
    }


@pytest.mark.parametrize("form", ["bare", "zeros", "another key", "general", "checked", "unknown", "short"])
@pytest.mark.parametrize("serializer", [None, JSON])
def test_nothing_unsigned_is_ever_unpickled(canary, form, serializer):
    with pytest.raises(CodecError):
        make_codec(serializer=serializer).decode(payloads_of(canary)[form])

    assert SUNG == []


def test_the_canary_sings_when_it_is_unpickled(canary):
    CODEC.decode(stored(CODEC, canary()))

    assert SUNG == ["sung"]


def test_a_checked_form_that_names_pickle_is_refused_even_with_unsigned_values_accepted(canary):
    with pytest.raises(CodecError):
        make_codec(serializer=JSON, accept_unsigned=True).decode(payloads_of(canary)["checked"])

    assert SUNG == []


def test_a_signature_does_not_carry_over_to_another_form():
    signed = stored(make_codec(compressor=ZLIB), [1])
    assert signed[:3] == b"\x04\x00\x01"

    for start in (b"\x04\x00\x00", b"\x04\x01\x01", b"\x04\x00\x02"):
        with pytest.raises(CodecError):
            CODEC.decode(start + signed[3:])
    with pytest.raises(CodecError):
        CODEC.decode(b"\x03" + signed[3:])


# ---------------------------------------------------------------- keys


def test_the_first_secret_signs_and_all_are_accepted():
    old, new = make_codec("old"), make_codec("new", "old")

    assert new.decode(stored(old, [1])) == [1]
    with pytest.raises(CodecError):
        old.decode(stored(new, [1]))


def test_text_and_bytes_secrets_are_the_same():
    assert Signer(["é"]).sign(b"x") == Signer(["é".encode()]).sign(b"x")


@pytest.mark.parametrize("secrets", [[], [""], ["a", ""], [b""]])
def test_a_signer_needs_secrets(secrets):
    with pytest.raises(ValueError, match="secret"):
        Signer(secrets)


def test_secrets_are_not_shown():
    assert "hunter2" not in repr(make_codec("hunter2"))
