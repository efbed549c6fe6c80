"""Read one entry of ``CACHES`` into a frozen value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from django.core.cache.backends.base import get_key_func

from distcache_django.conf.nodes import NodeSettings, parse_location
from distcache_django.conf.options import read_options
from distcache_django.conf.plugins import plugin_problem
from distcache_django.conf.problems import Problems
from distcache_django.core.topology import NodeSpec, Topology
from distcache_django.transport.endpoint import Endpoint

__all__ = ["CacheSettings", "parse"]

#: Stand for the version and the key in a key while its pattern is made; no prefix contains them.
_ANY_VERSION = "\0"
_ANY_KEY = "\x01"
#: Keys whose common beginning is taken for that of all: hashes of so many share no digit by chance.
_SAMPLES = 32


@dataclass(frozen=True)
class CacheSettings:
    """Be what one alias is set to. Secrets stay out of the repr. Times are in seconds.

    ``pattern`` is a glob that matches all keys of the alias, whatever their version; ``None`` where a
    ``KEY_FUNCTION`` leaves nothing to tell them by.
    """

    nodes: tuple[NodeSettings, ...]
    topology: Topology
    key_prefix: str
    pattern: str | None
    deadline: float
    connect_timeout: float
    client: str
    connection_options: tuple[tuple[str, Any], ...] = field(repr=False)
    on_unavailable: str
    redirect: bool
    ttl_jitter: float
    signing_key: str | bytes | None = field(repr=False)
    accept_unsigned: bool
    serializer: str | None
    compressor: str | None
    pickle_protocol: int
    #: Votes that a read needs, and owners that have to have stored a write.
    read_votes: int
    write_owners: int
    max_clock_drift: float

    @property
    def cluster_key(self) -> tuple[object, ...]:
        """Return what two aliases have to have in common to share links and the health of nodes."""
        reachable = tuple((node.name, node.url) for node in self.nodes)
        return (reachable, self.deadline, self.connect_timeout, self.client, repr(self.connection_options))


def parse(location: object, params: Mapping[str, Any]) -> tuple[CacheSettings | None, Problems]:
    """Return the settings, or ``None`` where they cannot work, and everything that is wrong with them.

    Reads nothing but its arguments and connects to nothing.
    """
    problems = Problems()
    nodes = parse_location(location, problems)
    given = params.get("OPTIONS", {})
    options = read_options(given, problems)
    _check_combinations(options, given if isinstance(given, Mapping) else {}, problems)
    _check_connections(nodes, options, problems)
    prefix = str(params.get("KEY_PREFIX", ""))
    pattern, lead = _key_shapes(params.get("KEY_FUNCTION"), prefix, problems)
    topology = _topology(nodes, options, lead, problems) if not any(p.is_error for p in problems) else None
    if topology is None or any(problem.is_error for problem in problems):
        return None, problems
    return _settings(nodes, topology, prefix, pattern, options), problems


def _settings(
    nodes: tuple[NodeSettings, ...],
    topology: Topology,
    prefix: str,
    pattern: str | None,
    options: Mapping[str, Any],
) -> CacheSettings:
    deadline = min(options["DEADLINE"], options["SOCKET_TIMEOUT"] or options["DEADLINE"])
    ignore = options["IGNORE_EXCEPTIONS"]
    return CacheSettings(
        nodes=nodes,
        topology=topology,
        key_prefix=prefix,
        pattern=pattern,
        deadline=deadline,
        connect_timeout=min(options["SOCKET_CONNECT_TIMEOUT"], deadline),
        client=options["CLIENT"],
        connection_options=tuple(sorted(_connection_options(options).items())),
        on_unavailable=options["ON_UNAVAILABLE"] if ignore is None else ("miss" if ignore else "raise"),
        redirect=options["ON_NODE_DOWN"] == "redirect",
        ttl_jitter=options["TTL_JITTER"],
        signing_key=options["SIGNING_KEY"],
        accept_unsigned=options["ACCEPT_UNSIGNED"],
        serializer=options["SERIALIZER"],
        compressor=options["COMPRESSOR"],
        pickle_protocol=options["PICKLE_VERSION"],
        read_votes=_nodes_of(options["READ_CONSISTENCY"], topology.replication_factor),
        write_owners=_nodes_of(options["WRITE_CONSISTENCY"], topology.replication_factor),
        max_clock_drift=options["MAX_CLOCK_DRIFT"],
    )


def _nodes_of(level: str, replication_factor: int) -> int:
    """Return the number of nodes that a consistency level stands for."""
    return {"one": 1, "quorum": replication_factor // 2 + 1, "all": replication_factor}[level]


def _check_combinations(options: Mapping[str, Any], given: Mapping[str, Any], problems: Problems) -> None:
    for name, only in (("CONFLICT_RESOLUTION", "lww"), ("NEAR_CACHE", None)):
        if options[name] != only:
            problems.add("E007", f"OPTIONS[{name!r}]: this version knows only {only!r}.", f"Set it to {only!r}.")
    if options["IGNORE_EXCEPTIONS"] is not None and "ON_UNAVAILABLE" in given:
        problems.add("W003", "OPTIONS has both ON_UNAVAILABLE and IGNORE_EXCEPTIONS; the latter wins.", "Keep one.")
    _check_replication(options, problems)
    if options["ACCEPT_UNSIGNED"]:
        problems.add(
            "W002",
            "OPTIONS['ACCEPT_UNSIGNED'] is on: who can write to a node can run code in this site.",
            "Turn it off once the cut-over is done.",
        )
    _check_imports(options, problems)


def _check_replication(options: Mapping[str, Any], problems: Problems) -> None:
    """Say what does not go together at ``REPLICATION_FACTOR`` 2 and more."""
    factor = options["REPLICATION_FACTOR"]
    if factor < 2:
        return
    read, write = _nodes_of(options["READ_CONSISTENCY"], factor), _nodes_of(options["WRITE_CONSISTENCY"], factor)
    if read + write <= factor or 2 * write <= factor:
        problems.add(
            "W009",
            f"READ_CONSISTENCY {options['READ_CONSISTENCY']!r} ({read} of {factor} owners) and WRITE_CONSISTENCY "
            f"{options['WRITE_CONSISTENCY']!r} ({write} of {factor}): a read may return a value older than the last "
            "acknowledged one, and what was acknowledged may be lost with a node.",
            "Set both to 'quorum'.",
        )
    if options["ON_NODE_DOWN"] == "redirect":
        problems.add(
            "W011",
            f"OPTIONS['ON_NODE_DOWN']: 'redirect' has no effect with REPLICATION_FACTOR {factor}: "
            "the other owners of a key answer for one that is down.",
            "Remove it.",
        )


def _check_connections(nodes: tuple[NodeSettings, ...], options: Mapping[str, Any], problems: Problems) -> None:
    if any(problem.is_error for problem in problems):
        return
    for node in nodes:
        endpoint = Endpoint(
            node.name,
            node.url,
            deadline=options["DEADLINE"],
            connect_timeout=options["SOCKET_CONNECT_TIMEOUT"],
            client=options["CLIENT"],
            options=_connection_options(options),
        )
        if trouble := endpoint.problem():
            problems.add("E012", f"{trouble}.")


def _connection_options(options: Mapping[str, Any]) -> dict[str, Any]:
    connection = dict(options["CONNECTION_POOL_KWARGS"])
    connection.pop("max_connections", None)
    for option, name in (("USERNAME", "username"), ("PASSWORD", "password")):
        if options[option] is not None:
            connection[name] = options[option]
    return connection


def _check_imports(options: Mapping[str, Any], problems: Problems) -> None:
    for name in ("SERIALIZER", "COMPRESSOR"):
        if trouble := plugin_problem(options[name]):
            problems.add("E009", f"OPTIONS[{name!r}]: {trouble}")
    if options["CLIENT"] == "valkey" and find_spec("valkey") is None:
        hint = "pip install 'distcache_django[valkey]'"
        problems.add("E011", "OPTIONS['CLIENT'] is 'valkey', which is not installed.", hint)


def _key_shapes(
    setting: str | Callable[..., str] | None, prefix: str, problems: Problems
) -> tuple[str | None, str | None]:
    """Return the glob of all keys of the alias and the regular expression of what precedes a user's key.

    A ``KEY_FUNCTION`` may hide the key (a hash of it, say): then the glob covers what its keys begin with, or
    is ``None`` where they have nothing in common, and the expression is ``None``.
    """
    try:
        make = get_key_func(setting)
        samples = [str(make(f"{_ANY_KEY}{i or ''}", prefix, _ANY_VERSION)) for i in range(_SAMPLES)]
    except Exception as error:  # noqa: BLE001 - the site's own function may raise anything
        problems.add("E008", f"KEY_FUNCTION cannot make a key: {type(error).__name__}: {error}")
        return None, None
    before, found, after = samples[0].partition(_ANY_KEY)
    if not found:
        before, after = _common_start(samples), ""
    if not before.strip(_ANY_VERSION):
        problems.add(
            "W005", "KEY_FUNCTION makes keys that begin alike with nothing: clear() cannot tell them from others."
        )
        return None, None
    glob = f"{_glob_of(before)}*{_glob_of(after)}"
    lead = "[^:]*".join(re.escape(part) for part in before.split(_ANY_VERSION))
    return glob, lead if found else None


def _common_start(samples: Sequence[str]) -> str:
    first, last = min(samples), max(samples)
    differing = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(differing, len(first))]


def _glob_of(text: str) -> str:
    return re.sub(r"([*?\[\]^\\-])", r"\\\1", text).replace(_ANY_VERSION, "*")


def _topology(
    nodes: tuple[NodeSettings, ...], options: Mapping[str, Any], lead: str | None, problems: Problems
) -> Topology | None:
    if options["RANGES"] and lead is None:
        problems.add("E008", "OPTIONS['RANGES'] needs a KEY_FUNCTION that keeps the key readable.")
        return None
    factor = options["REPLICATION_FACTOR"]
    if factor > len(nodes):
        problems.add(
            "E013",
            f"OPTIONS['REPLICATION_FACTOR'] is {factor}, and LOCATION has {len(nodes)} "
            f"node{'s' if len(nodes) > 1 else ''}: each copy needs a node of its own.",
            "Lower it, or add nodes.",
        )
        return None
    specs = {node.name: NodeSpec(node.weight, node.zone) for node in nodes}
    try:
        return Topology.build(
            specs,
            replication_factor=factor,
            virtual_nodes=options["VIRTUAL_NODES"],
            ranges=options["RANGES"] or None,
            range_lead=lead or "",
        )
    except (ValueError, TypeError) as error:
        problems.add(
            "E008" if options["RANGES"] and _names_ranges(error) else "E004", f"The nodes cannot be placed: {error}"
        )
        return None


def _names_ranges(error: Exception) -> bool:
    return isinstance(error, TypeError) or "range" in str(error)
