"""Collect what is wrong with settings, to be shown by ``manage.py check`` or raised at first use.

The ids are stable and never reused; ``docs/reference/checks.md`` lists them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from distcache_django.exceptions import InvalidDistcacheConfig

__all__ = ["Problem", "Problems", "nearest"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Be one finding; ids that start with ``distcache.E`` are errors, with ``distcache.W`` warnings."""

    id: str
    message: str
    hint: str = ""

    @property
    def is_error(self) -> bool:
        """Return whether the cache cannot work like this."""
        return self.id.startswith("distcache.E")


class Problems(list[Problem]):
    """Be a list of findings about one alias."""

    def add(self, number: str, message: str, hint: str = "") -> None:
        """Append a finding, with the number without its ``distcache.`` prefix."""
        self.append(Problem(f"distcache.{number}", message, hint))

    def raise_errors(self) -> None:
        """Raise ``InvalidDistcacheConfig`` with all errors, if there are any."""
        errors = [problem for problem in self if problem.is_error]
        if errors:
            texts = [f"({p.id}) {p.message}{' ' + p.hint if p.hint else ''}" for p in errors]
            raise InvalidDistcacheConfig("the cache's settings cannot work: " + "; ".join(texts), texts)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the known name most like ``name``, or all of them."""
    names, name = sorted(known), str(name)
    found = difflib.get_close_matches(name.upper(), names, 1, 0.6) or difflib.get_close_matches(name, names, 1, 0.6)
    return f"Did you mean {found[0]!r}?" if found else f"Known are {', '.join(names)}."
