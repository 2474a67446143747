# Everything a developer runs. `make` alone lists the targets; .venv is made and kept up to date as needed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup nightly test test-docker lint bench lock clean

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,\
	$(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))))
BIN := .venv/bin
INSTALLED := .venv/installed

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer here. Remedy: install one, or make PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

setup: $(INSTALLED)  ## .venv with all packages, as locked

nightly: setup  ## the main job: start the embedded stack, run every failure test, print verdicts, write the report
	$(BIN)/gameday up
	$(BIN)/gameday run --all

test: setup  ## all tests: unit and tidy first, then lint, then against real servers, then as a user would
	$(BIN)/python -m pytest tests/unit tests/tidy
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest tests/contract
	$(BIN)/python -m pytest tests/e2e

test-docker: setup  ## the failure tests against containers, on a Docker engine of their own; as root (about 15 minutes)
	$(BIN)/python -m pytest tests/docker

lint: setup  ## style, types, and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## the measurements behind the README's figures
	@for b in benchmarks/[a-z]*.py; do echo "== $$b"; $(BIN)/python -m "benchmarks.$$(basename "$$b" .py)"; done

lock: setup  ## resolve requirements.lock again from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra iceberg --extra embedded --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
		--quiet --upgrade --output-file requirements.lock

clean:  ## stop the stack, and an engine of our own; remove .venv, the state folder and everything stored
	@test ! -x $(BIN)/python || for what in "docker.local down" "engine clean" "up clean"; do $(BIN)/python -m compose.$$what; done
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
