"""The demo: replay a real shop's requests on several cache nodes, break two of them, and report.

`manage.py distcache demo` and `python -m example_project.demo` both call `add_arguments` and `run`.
"""

import argparse
import contextlib
from pathlib import Path
from typing import Any, TextIO

DEFAULT_SECONDS = 40.0
DEFAULT_PRODUCTS = 1_000
DEFAULT_WRITES = 40.0
WRITES_OF_COUNTED_RUN = 20.0
# Of a run of so many requests: they would meet most of 1,000 products once, or not at all.
PRODUCTS_OF_COUNTED_RUN = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the demo's options."""
    load = parser.add_argument_group("load")
    load.add_argument("--trace", type=Path, metavar="FILE", help="replay this trace, packed (.xz) or not")
    load.add_argument("--seconds", type=_positive, help=f"how long to send (default: {DEFAULT_SECONDS:g})")
    load.add_argument("--requests", type=_count, metavar="N", help="send N requests, spread over the seconds (then 20)")
    load.add_argument("--clients", type=_count, default=6, help="how many clients send (default: %(default)s)")
    load.add_argument("--full-speed", action="store_true", help="after the warm-up too, send as fast as answers come")
    load.add_argument(
        "--writes", type=_rate, metavar="N", help="writes a second beside (default: 40; 20 with --requests)"
    )
    load.add_argument("--seed", type=int, default=1, help="what data and requests are drawn from")
    site = parser.add_argument_group("site")
    site.add_argument("--nodes", type=_nodes, default=4, help="how many cache nodes (default: %(default)s)")
    site.add_argument(
        "--products",
        type=_count,
        help=f"size of the shop (default: {DEFAULT_PRODUCTS}; {PRODUCTS_OF_COUNTED_RUN} with --requests)",
    )
    site.add_argument("--workers", type=_count, default=2, help="server processes (default: %(default)s)")
    site.add_argument(
        "--database",
        choices=["auto", "postgresql", "sqlite"],
        default="auto",
        help="default: PostgreSQL if it runs",
    )
    site.add_argument("--no-faults", action="store_true", help="leave the nodes alone")
    site.add_argument("--serve", action="store_true", help="keep the site up afterwards, until Ctrl-C")
    with contextlib.suppress(argparse.ArgumentError):  # the parser may have a --json of its own, a flag
        parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report here")


def run(options: Any, stdout: TextIO, stderr: TextIO) -> int:
    """Run the demo and return its exit code.

    0: all it asserts holds; 1: something does not; 2: it could not run; 130: Ctrl-C.
    """
    from example_project.demo import play  # noqa: PLC0415 (asking for --help loads none of it)

    if options.writes is None:
        options.writes = WRITES_OF_COUNTED_RUN if options.requests else DEFAULT_WRITES
    options.products = options.products or (PRODUCTS_OF_COUNTED_RUN if options.requests else DEFAULT_PRODUCTS)
    return play.run(options, stdout, stderr)


def _positive(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 3600:
        raise argparse.ArgumentTypeError("must be between 1 and 3600")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError("must be between 0 and 1000")
    return value


def _nodes(text: str) -> int:
    value = int(text)
    if not 2 <= value <= 16:
        raise argparse.ArgumentTypeError("must be between 2 and 16: one is paused, another is killed")
    return value
