#!/usr/bin/env python
"""Run the administrative commands of the example project."""

import os
import sys


def main() -> None:
    """Run the command named on the command line.

    In a checkout with no configuration at all the commands run in debug mode; servers never do by themselves.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
    if "SECRET_KEY" not in os.environ:
        os.environ.setdefault("DEBUG", "1")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
