# Two commands matter: `make up` runs the stock assistant, `make test` tests it.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin

# pip brings root certificates of its own; where this machine trusts further ones (an intercepting proxy's, say),
# they are in the system's bundle.
SYSTEM_ROOTS := $(wildcard /etc/ssl/certs/ca-certificates.crt)
ifneq ($(SYSTEM_ROOTS),)
export PIP_CERT ?= $(SYSTEM_ROOTS)
endif
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Else each process that runs tests compiles all of them again.
unexport PYTHONDONTWRITEBYTECODE
# Twice quiet: a warning about an index that has a package not is no news, an error is.
PIP_INSTALL := $(BIN)/pip install --quiet --quiet

help:  ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: .venv/.cli  ## Make this machine ready and bring the stack up
	@$(BIN)/stockhelper setup --yes
	@$(BIN)/stockhelper up

down: .venv/.cli  ## Take the stack down; the data stays
	@$(BIN)/stockhelper down

test: .venv/.dev  ## Run the tests, on a real engine, PostgreSQL and docker compose (PYTEST=...: some of them)
	@$(call run-tests,--tier test $(PYTEST))

test-slow: .venv/.dev  ## Run the slow tests: what is about the machine, and sweeps
	@$(call run-tests,--tier slow $(PYTEST))

test-all: .venv/.dev  ## Run both, once
	@$(call run-tests,--tier all $(PYTEST))

test-fast: .venv/.dev  ## Run the tests that bring up no stack
	@$(call run-tests,--tier test $(or $(PYTEST),tests/unit tests/cli tests/migrations),$(if $(PYTEST),,fast))

# Tests of one file share a stack, and stay together; much of their time is waiting, which a third worker uses.
PYTEST_WORKERS ?= -n 3 --dist loadfile --no-loadscope-reorder
run-tests = $(BIN)/python -m tests.support.prepare $(2) && $(BIN)/python -m pytest $(PYTEST_WORKERS) $(1)

check-budget: .venv/.dev  ## Compare what the last whole runs have cost with tests/budgets.json
	@$(BIN)/python -m tests.support.budgets check

check: .venv/.dev  ## Lint and type-check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

soak: .venv/.dev  ## Test at random for long, with processes that stop at random (SOAK='--seed 7 --minutes 30')
	@$(BIN)/python -m tests.support.prepare
	@$(BIN)/python -m tests.soak $(SOAK)

bench: .venv/.dev  ## Measure the commands beside what one would pick instead, as ratios in one run
	@$(BIN)/python -m tests.support.prepare
	@$(BIN)/python -m tests.bench

bench-service: .venv/.bench  ## Measure the service beside the same answers written the usual way
	@$(BIN)/python -m tests.support.prepare
	@$(BIN)/python -m tests.bench.service

lock: .venv/.dev  ## Lock all Python requirements anew: hash-pinned, without any index's address
	@$(PIP_INSTALL) uv
	@$(LOCK) --python-version 3.11 pyproject.toml --group build -o requirements.txt
	@$(LOCK) --python-version 3.11 pyproject.toml --group dev -o requirements-dev.txt
	@$(LOCK) --python-version 3.11 --group pyproject.toml:bench --constraint requirements-dev.txt -o requirements-bench.txt
	@$(LOCK) --python-version 3.13 --group pyproject.toml:image -o docker/app/requirements.txt
	@$(LOCK) --python-version 3.13 docker/app/requirements-build.in -o docker/app/requirements-build.txt
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links

# --- the virtual environment; a stamp says which requirements are in it
.venv/.cli: requirements.txt pyproject.toml | .venv/bin/pip
	@echo "installing stockhelper into .venv ..."
	@test -e .venv/.dev || $(PIP_INSTALL) --require-hashes -r requirements.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q stockhelper_cli  # as pip does with all others: 0.1 s of each command
	@touch $@

.venv/.dev: requirements-dev.txt pyproject.toml | .venv/bin/pip
	@echo "installing stockhelper and what its tests need into .venv ..."
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q stockhelper_cli  # as pip does with all others: 0.1 s of each command
	@touch $@ .venv/.cli

.venv/.bench: requirements-bench.txt .venv/.dev
	@echo "installing what the service is measured beside into .venv ..."
	@$(PIP_INSTALL) --require-hashes -r requirements-bench.txt
	@touch $@

# Debian and Ubuntu ship Python without venv; as root it is installed, else named.
.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: Python 3.11 or newer is needed" >&2; \
	  echo "  why:  $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)" >&2; \
	  echo "  next: make up PYTHON=/path/to/python3.11" >&2; exit 4; }
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { \
	  rm -rf .venv; \
	  package=python$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing $$package ..."; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package >/dev/null \
	    && $(PYTHON) -m venv .venv; \
	  else \
	    echo "error: Python's venv module is missing" >&2; \
	    echo "  next: sudo apt-get install $$package" >&2; exit 4; \
	  fi; }

.PHONY: help up down test test-slow test-all test-fast soak check check-budget bench bench-service lock
