"""`python -m example_project.demo`: run the demo without Django's command line."""

import argparse
import sys

from example_project import demo


def main() -> int:
    """Parse the options and run the demo."""
    parser = argparse.ArgumentParser(prog="python -m example_project.demo", description=demo.__doc__)
    demo.add_arguments(parser)
    return demo.run(parser.parse_args(), sys.stdout, sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
