"""Run the benchmark without a Django project: `python -m distcache_django.benchmark ops --peers`."""

import argparse
import sys

from distcache_django.benchmark.cli import USAGE, add_arguments, run

parser = argparse.ArgumentParser(prog="python -m distcache_django.benchmark", description=__doc__)
add_arguments(parser)
try:
    arguments = parser.parse_args()
except SystemExit as stop:
    sys.exit(USAGE if stop.code == 2 else stop.code)
sys.exit(run(arguments, sys.stdout, sys.stderr))
