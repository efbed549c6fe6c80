"""The lock: one holder at a time, given up or taken away, and a token by which the protected can tell who is late."""

from collections.abc import Callable
from typing import Any

import pytest

from distcache_django.exceptions import LockNotOwned
from tests.support.nodes import Nodes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.servers


def test_lock_excludes_others_until_released(cache: Any) -> None:
    first, second = cache.lock("job", timeout=60), cache.lock("job", timeout=60)

    assert first.acquire(blocking=False) is True
    assert second.acquire(blocking=False) is False
    first.release()
    assert second.acquire(blocking=False) is True


def test_lock_is_held_inside_its_block_only(cache: Any) -> None:
    with cache.lock("job", timeout=60):
        assert cache.lock("job").acquire(blocking=False) is False

    assert cache.lock("job", timeout=60).acquire(blocking=False) is True


def test_lock_is_given_up_when_the_block_fails(cache: Any) -> None:
    with pytest.raises(LookupError), cache.lock("job", timeout=60):
        raise LookupError

    assert cache.lock("job", timeout=60).acquire(blocking=False) is True


def test_waiting_for_a_lock_ends(cache: Any) -> None:
    cache.lock("job", timeout=60).acquire()

    assert cache.lock("job", sleep=0.01, blocking_timeout=0.05).acquire() is False
    with pytest.raises(LockNotOwned), cache.lock("job", blocking=False):
        pytest.fail("entered a block whose lock another holds")


def test_lock_of_a_dead_holder_expires(cache: Any, nodes: Nodes) -> None:
    late = cache.lock("job", timeout=0.05)
    late.acquire()

    wait_until(lambda: cache.lock("job", timeout=60).acquire(blocking=False), what="a lock that has expired")
    with pytest.raises(LockNotOwned):
        late.release()
    assert cache.lock("job").acquire(blocking=False) is False


def test_lock_without_timeout_does_not_expire(cache: Any, nodes: Nodes) -> None:
    cache.lock("job").acquire()

    assert nodes.pttl(":1:job") == -1


def test_lock_is_prolonged_by_its_holder_only(cache: Any, nodes: Nodes) -> None:
    held, other = cache.lock("job", timeout=10), cache.lock("job", timeout=10)
    held.acquire()

    assert held.extend(60) is True
    assert nodes.pttl(":1:job") > 40_000
    with pytest.raises(LockNotOwned):
        other.extend(60)


def test_token_grows_with_every_holder(make_cache: Callable[..., Any]) -> None:
    tokens = []
    for _ in range(5):
        lock = make_cache().lock("job", timeout=60)
        with lock:
            tokens.append(lock.token)
        assert lock.token is None

    assert tokens == sorted(set(tokens))


def test_locks_of_other_keys_and_versions_are_apart(cache: Any) -> None:
    cache.lock("job", timeout=60).acquire()

    assert cache.lock("other", timeout=60).acquire(blocking=False) is True
    assert cache.lock("job", version=2, timeout=60).acquire(blocking=False) is True


def test_release_of_what_is_not_held_raises(cache: Any) -> None:
    with pytest.raises(LockNotOwned):
        cache.lock("job").release()
