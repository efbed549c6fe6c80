"""Build the documentation: Sphinx, MyST, furo; warnings are errors (`make docs`)."""

import tomllib
from pathlib import Path

_project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]

project = _project["name"]
author = "distcache_django contributors"
copyright = "2026, distcache_django contributors"
release = version = _project["version"]

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4
nitpicky = True

html_theme = "furo"
html_title = f"{project} {version}"
# Nothing is loaded from outside: the built pages can be read without a network.
html_theme_options = {"source_view_link": ""}
