# Everything a checkout needs. `make demo` and `make test` work on a fresh machine with Python >= 3.11 and PyPI.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs coverage clean python print-python

# Candidates are run, not only looked up: a pyenv shim exists for versions that are not installed.
# One with ensurepip is preferred; failing that, dev.py tells what is missing.
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for need in 'sys, venv, ensurepip' 'sys'; do \
	for candidate in python3 python3.14 python3.13 python3.12 python3.11 python /usr/bin/python3 "$$HOME"/.pyenv/versions/3.*/bin/python; do \
		"$$candidate" -c "import $$need; sys.exit(not sys.version_info >= (3, 11))" </dev/null >/dev/null 2>&1 \
			&& { echo "$$candidate"; exit; }; \
	done; done)
endif

VENV ?= .venv
BENCH_VENV ?= .venv-bench
BIN := $(VENV)/bin
# Options of the command a target runs: make demo ARGS="--requests 2000"
ARGS ?=
# Requirements installed besides the package: make test VENV=.venv-61 WITH="Django>=6.1,<6.2"
WITH ?=
# A file of versions to hold to, for example constraints/tested.txt
CONSTRAINTS ?=
export CONSTRAINTS

# The example's settings want a key; these two targets serve loopback only. One in the environment wins.
demo bench: export SECRET_KEY ?= of-the-demo-on-this-machine-and-of-nothing-else-at-all

help:
	@echo "make demo      the example shop on four nodes, with faults, and a report   (ARGS=\"--requests 2000\")"
	@echo "make test      the whole test suite                                        (ARGS=\"-k ring\")"
	@echo "make lint      ruff, mypy, import contracts"
	@echo "make bench     the benchmark with its peers, on the newest Python found    (ARGS=\"ops --peers\")"
	@echo "make docs      the documentation, warnings are errors"
	@echo "make coverage  the suite with branches: 100 % of core, 95 % of the package"
	@echo "make clean     remove what these targets made"

python:
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found. Install one, or name it: make demo PYTHON=/path/to/python3" >&2; exit 2; }

print-python:
	@echo "$(PYTHON)"

demo: python
	@$(PYTHON) dev.py env --venv $(VENV) --extras demo,cli
	@$(BIN)/python manage.py distcache demo $(ARGS)

test: python
	@$(PYTHON) dev.py env --venv $(VENV) --extras demo,cli,test $(if $(WITH),--with "$(WITH)")
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

lint: python
	@$(PYTHON) dev.py env --venv $(VENV) --extras demo,cli,test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: python
	@$(PYTHON) dev.py bench-env --venv $(BENCH_VENV)
	@$(BENCH_VENV)/bin/python manage.py distcache benchmark $(if $(ARGS),$(ARGS),ops --peers)

docs: python
	@$(PYTHON) dev.py env --venv $(VENV) --extras demo,cli,docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

coverage: python
	@$(PYTHON) dev.py env --venv $(VENV) --extras demo,cli,test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist worksteal $(ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --include='distcache_django/core/*' --fail-under=100
	$(BIN)/coverage report --fail-under=95

clean:
	rm -rf $(VENV) $(BENCH_VENV) .venv-* build dist docs/_build htmlcov .coverage .coverage.* \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
