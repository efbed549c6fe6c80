"""What every test may use: the fixtures the package ships for its users' suites."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db.backends.signals import connection_created

pytest_plugins = ["distcache_django.testing.plugin"]

#: Connections that threads of tests opened, and did not end with a request as those of a site do.
_opened: list[tuple[threading.Thread, Any]] = []


def _note(connection: Any, **_: Any) -> None:
    if threading.current_thread() is not threading.main_thread():
        _opened.append((threading.current_thread(), connection.connection))


connection_created.connect(_note, dispatch_uid="tests.conftest")


@pytest.fixture(autouse=True)
def threads_take_their_connections_along() -> Iterator[None]:
    """Close what threads that have ended had opened: nobody else will."""
    yield
    for thread, raw in _opened[:]:
        if not thread.is_alive():
            _opened.remove((thread, raw))
            raw.close()
