"""``manage.py distcache``: one command, whose sub-commands live in ``management/console``.

Exit codes: 0 ok, 1 degraded, 2 critical, 64 called wrongly. Called from Python (``call_command``), whatever is not
0 raises ``CommandError`` with that ``returncode``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.core.management.color import no_style

from distcache_django.management.console.screen import OK, USAGE, Screen, SubCommand

__all__ = ["Command"]

_PACKAGE = "distcache_django.management.console"
_OWN = {name: f"{_PACKAGE}.{name}" for name in ("status", "ring", "locate", "doctor", "agent")}
#: Sub-commands that other packages bring: where they are, and what to say of them without importing them.
_DELEGATED = {
    "benchmark": ("distcache_django.benchmark", "Measure this cache, beside other clients if wanted."),
    "demo": ("example_project.demo", "Run the example shop on several nodes, with faults, and report."),
}
_MISSING = {
    "benchmark": "the benchmark needs the extra 'bench': pip install 'distcache_django[bench]'",
    "demo": "the demo is part of the source tree, not of the installed package: run it in a checkout",
}


class Command(BaseCommand):
    """Show, explain and examine the nodes behind a cache alias."""

    help = "Show, explain and examine the nodes behind a cache alias."
    # Settings that cannot work are reported by the sub-commands, with their exit code.
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return Django's parser, with this command's exit code for wrong usage."""
        return _with_usage_code(super().create_parser(prog_name, subcommand, **kwargs))

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the sub-commands."""
        commands = parser.add_subparsers(
            dest="subcommand", metavar="SUBCOMMAND", required=True, parser_class=_SubParser
        )
        for name, path in _OWN.items():
            module: SubCommand = importlib.import_module(path)
            sub = _added(commands, name, module.HELP)
            sub.add_argument("--using", metavar="ALIAS", default="default", help="which entry of CACHES")
            sub.add_argument("--json", action="store_true", help="print JSON")
            module.add_arguments(sub)
        for name, (path, text) in _DELEGATED.items():
            _added(commands, name, text).delegate_to = path

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the sub-command and end with its exit code."""
        name = options["subcommand"]
        code, reason = self._delegated(name, options) if name in _DELEGATED else self._own(name, options)
        if code == OK:
            return
        if getattr(self, "_called_from_command_line", False):
            sys.exit(code)
        raise CommandError(f"distcache {name}: {reason}", returncode=code)

    def _own(self, name: str, options: Mapping[str, Any]) -> tuple[int, str]:
        stream = options.get("stdout") or sys.stdout
        is_coloured = options["force_color"] or stream.isatty()
        module: SubCommand = importlib.import_module(_OWN[name])
        return module.run(options, Screen(stream, self.style if is_coloured else no_style()))

    def _delegated(self, name: str, options: Mapping[str, Any]) -> tuple[int, str]:
        # Plain streams: Django's wrappers end every write with a line feed, and progress is written in parts.
        streams = options.get("stdout") or sys.stdout, options.get("stderr") or sys.stderr
        code: int = _delegate(name).run(argparse.Namespace(**options), *streams)
        return code, f"ended with {code}"


class _SubParser(CommandParser):
    """Parse one sub-command; the options of a delegated one are declared when it is chosen."""

    delegate_to: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.delegate_to is not None:
            self.delegate_to = None
            _delegate(self.prog.rpartition(" ")[2]).add_arguments(self)
        return super().parse_known_args(args, namespace)


def _delegate(name: str) -> Any:
    path = _DELEGATED[name][0]
    try:
        return importlib.import_module(path)
    except ImportError as error:
        raise CommandError(f"distcache {name}: {_MISSING[name]} ({error})", returncode=USAGE) from error


def _added(commands: Any, name: str, text: str) -> Any:
    """Return a new sub-parser, which takes Django's own options too, before or after its name."""
    sub = commands.add_parser(name, help=text, description=text, formatter_class=DjangoHelpFormatter)
    silent: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    for flag in ("--no-color", "--force-color", "--traceback"):
        sub.add_argument(flag, action="store_true", **silent)
    for option in ("--settings", "--pythonpath"):
        sub.add_argument(option, **silent)
    sub.add_argument("-v", "--verbosity", type=int, choices=range(4), **silent)
    return _with_usage_code(sub)


def _with_usage_code(parser: CommandParser) -> CommandParser:
    parser.error = partial(_refuse, parser)  # type: ignore[method-assign] # Django makes the outer parser itself
    return parser


def _refuse(parser: CommandParser, message: str) -> NoReturn:
    if not parser.called_from_command_line:
        raise CommandError(f"Error: {message}", returncode=USAGE)
    parser.print_usage(sys.stderr)
    parser.exit(USAGE, f"{parser.prog}: error: {message}\n")
