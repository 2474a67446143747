# Everything a developer runs. `make` alone lists the targets; .venv is made and kept up to date as needed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup up down nightly nights test test-long durations lint bench lock clean

PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,\
	$(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))))
BIN := .venv/bin
INSTALLED := .venv/installed
PLATFORMS := $(patsubst compose/%/processes.py,%,$(wildcard compose/*/processes.py))
GAMEDAY := $(BIN)/gameday $(if $(PLATFORM),--platform $(PLATFORM))

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer here. Remedy: install one, or make PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

setup: $(INSTALLED)  ## .venv with all packages, as locked

up: setup  ## start a reference platform: make up PLATFORM=NAME, trades when left out, as in down and nightly
	$(GAMEDAY) up

down: setup  ## stop it
	$(GAMEDAY) down

nightly: setup  ## the main job: start the reference platform, run every failure test, print verdicts, write the report
	$(GAMEDAY) up
	$(GAMEDAY) run --all

nights: setup  ## the night of each platform, one after the other
	@code=0; for platform in $(PLATFORMS); do \
		$(MAKE) --no-print-directory nightly PLATFORM=$$platform || code=$$?; \
		$(BIN)/gameday --platform $$platform down || code=$$?; \
	done; exit $$code

test: setup  ## one test of each kind, for every change: unit and tidy, lint, against real servers, as a user would
	$(BIN)/python -m tests.suites run test unit tidy
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m tests.suites run test contract e2e

test-long: setup  ## all other tests, or one suite of them: make test-long SUITE=NAME; docs/tests.md says what each holds
	$(BIN)/python -m tests.suites $(if $(SUITE),run $(SUITE),long)

durations: setup  ## docs/tests.md, from the suites that were run last
	$(BIN)/python -m tests.durations

lint: setup  ## style, types, and the directions of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## the measurements behind the README's figures
	@for b in benchmarks/[a-z]*.py; do echo "== $$b"; $(BIN)/python -m "benchmarks.$$(basename "$$b" .py)"; done

lock: setup  ## resolve requirements.lock again from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra iceberg --extra formats --extra brokers --extra embedded --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
		--quiet --upgrade --output-file requirements.lock

clean:  ## stop the stack, and an engine of our own; remove .venv, the state folder and everything stored
	@test ! -x $(BIN)/python || for what in "docker.local down" "engine clean" $(PLATFORMS:%="up clean --platform %"); do $(BIN)/python -m compose.$$what; done
	rm -rf .venv .durations build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
