"""Hold the benchmark's SQL, one statement or script a file, each with a header that says what it is for."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["read_sql"]


def read_sql(name: str) -> str:
    """Return the text of ``name.sql`` without its comments: libraries that parse SQL would read them too."""
    text = files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip()
