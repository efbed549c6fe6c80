"""Read the example's settings from environment variables, and say which one is wrong."""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"", "0", "false", "no", "off"}


def flag(name: str, default: bool) -> bool:
    """Read a yes/no variable."""
    value = os.environ.get(name)
    if value is None:
        return default
    word = value.strip().lower()
    if word not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name} must be one of {sorted((TRUE | FALSE) - {''})}, not {value!r}")
    return word in TRUE


def seconds(name: str, default: float) -> float:
    """Read a duration."""
    try:
        return float(os.environ.get(name) or default)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a number of seconds, not {os.environ[name]!r}") from None


def words(name: str, default: str = "") -> list[str]:
    """Read a list separated by commas or white space."""
    return os.environ.get(name, default).replace(",", " ").split()


def nodes(name: str, default: str) -> dict[str, str] | list[str]:
    """Read the cache nodes: `name=url` pairs give a mapping, bare URLs a list.

    A name is what a key is placed by, so a node keeps its keys when its URL changes.
    """
    entries = words(name, default)
    pairs = [entry.partition("=") for entry in entries]
    named = ["://" not in before and bool(after) for before, _, after in pairs]
    if not any(named):
        return entries
    if not all(named):
        raise ImproperlyConfigured(f"{name} mixes name=url pairs with bare URLs: name all nodes, or none")
    return {before: after for before, _, after in pairs}


def database(name: str, default: str) -> dict[str, Any]:
    """Read a database URL: `postgresql://user:password@host:port/name` or `sqlite:///path`."""
    url = urlsplit(os.environ.get(name) or default)
    if url.scheme in {"postgres", "postgresql"}:
        return _postgres(url.path, url.username, url.password, url.hostname, url.port, dict(parse_qsl(url.query)))
    if url.scheme == "sqlite":
        return _sqlite(unquote(url.path))
    raise ImproperlyConfigured(f"{name} must start with postgresql:// or sqlite://, not {url.scheme!r}")


def _postgres(
    path: str,
    user: str | None,
    password: str | None,
    host: str | None,
    port: int | None,
    options: Mapping[str, str],
) -> dict[str, Any]:
    remaining = dict(options)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(path.lstrip("/")) or "postgres",
        "USER": unquote(user or ""),
        "PASSWORD": unquote(password or ""),
        "HOST": remaining.pop("host", host or ""),
        "PORT": str(port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": remaining,
    }


def _sqlite(path: str) -> dict[str, Any]:
    # As in SQLAlchemy: three slashes begin a path relative to the working directory, four an absolute one.
    name = path.removeprefix("/") or ":memory:"
    # WAL lets readers go on beside the one writer; IMMEDIATE takes the write lock before reading, so that
    # two writers wait for each other where they would otherwise fail.
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
