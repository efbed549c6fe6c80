"""Full keys are Django's own, with its warnings; what a site overrides is obeyed."""

import warnings

import pytest
from django.core.cache.backends.base import BaseCache, CacheKeyWarning
from hypothesis import given
from hypothesis import strategies as st

from distcache_django.backends.keys import KeySpace, escape_glob
from distcache_django.testing.memory_node import _glob

KEYS = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(max_codepoint=130), max_size=20),
    st.integers(),
    st.text("k", min_size=235, max_size=260),
    st.text("é", min_size=235, max_size=260),
    st.binary(max_size=5),
    st.tuples(st.integers()),
)
VERSIONS = st.none() | st.integers(-3, 300) | st.text("v1 ", max_size=3)
PREFIXES = st.sampled_from(["", "app", "a b", "a:b", "é", "keys", "x" * 240])


def made(function, *args, **kwargs):
    """Return what a call returns and the texts it warns with."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*args, **kwargs)
    assert all(issubclass(warning.category, CacheKeyWarning) for warning in caught)
    return result, [str(warning.message) for warning in caught]


def cache_of(cls=BaseCache, **params):
    return cls(params)


@given(KEYS, VERSIONS, PREFIXES, st.integers(1, 3))
def test_keys_and_warnings_are_djangos(key, version, prefix, default_version):
    cache = cache_of(KEY_PREFIX=prefix, VERSION=default_version)

    assert made(KeySpace(cache).full, key, version) == made(cache.make_and_validate_key, key, version=version)


@given(st.lists(KEYS, min_size=1, max_size=6), VERSIONS, PREFIXES)
def test_many_keys_are_what_each_would_be(keys, version, prefix):
    space = KeySpace(cache_of(KEY_PREFIX=prefix))
    singles = [made(space.full, key, version) for key in keys]

    fulls, texts = made(space.full_many, keys, version)

    assert fulls == [full for full, _ in singles]
    assert texts == [text for _, found in singles for text in found]


def test_the_version_of_a_cache_may_change():
    cache = cache_of(VERSION=1)
    space = KeySpace(cache)

    cache.version = 7

    assert space.full("k", None) == ":7:k"
    assert space.full_many(["k"], None) == [":7:k"]


class OwnMake(BaseCache):
    def make_key(self, key, version=None):
        return f"own/{key}"


class OwnValidate(BaseCache):
    def validate_key(self, key):
        if key.endswith("bad"):
            raise ValueError(key)


class OwnBoth(BaseCache):
    def make_and_validate_key(self, key, version=None):
        return f"both/{key}/{version}"


def test_an_overridden_method_is_obeyed():
    assert KeySpace(cache_of(OwnMake)).full("k", 3) == "own/k"
    assert KeySpace(cache_of(OwnBoth)).full("k", 3) == "both/k/3"
    assert KeySpace(cache_of(OwnBoth)).full_many(["k", "l"], 3) == ["both/k/3", "both/l/3"]
    space = KeySpace(cache_of(OwnValidate))
    assert space.full("a b", None) == ":1:a b"
    with pytest.raises(ValueError, match="bad"):
        space.full("bad", None)
    with pytest.raises(ValueError, match="bad"):
        space.full_many(["good", "bad"], None)


def test_a_key_function_is_obeyed():
    cache = cache_of(KEY_FUNCTION=lambda key, prefix, version: f"{prefix}|{version}|{key}", KEY_PREFIX="p")
    space = KeySpace(cache)

    assert space.full("k", None) == "p|1|k"
    assert space.full("k", 5) == "p|5|k"
    with pytest.warns(CacheKeyWarning):
        space.full("a b", None)


@given(st.text(max_size=20))
def test_an_escaped_glob_matches_its_text_only(text):
    pattern = _glob(escape_glob(text))

    assert pattern.fullmatch(text)
    assert not pattern.fullmatch(text + "x")


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10),
    st.sampled_from(["", "app", "a*b", "a:b", "keys"]),
)
def test_reverse_undoes_full(key, prefix):
    space = KeySpace(cache_of(KEY_PREFIX=prefix))

    full, _ = made(space.full, key, 3)

    assert space.reverse(full) == key


def test_patterns_select_keys_of_one_version_and_prefix():
    space = KeySpace(cache_of(KEY_PREFIX="a*b"))
    matches = _glob(space.pattern("user:*", 2)).fullmatch

    assert matches("a*b:2:user:5")
    assert not matches("a*b:1:user:5")
    assert not matches("aXb:2:user:5")
    assert _glob(space.pattern("*")).fullmatch("a*b:1:k")


def test_a_key_of_a_sites_own_function_is_not_taken_apart():
    space = KeySpace(cache_of(KEY_FUNCTION=lambda key, prefix, version: f"{version}~{key}"))

    assert space.reverse("1~k") == "1~k"
