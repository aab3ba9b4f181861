# make run      the main job: the whole chain, then the report; LAKE= FROM= TO= CONFIG= OUT= are passed on
# make test     the whole test suite; PYTEST_ARGS= is passed on
# make ui       the Dagster UI at http://localhost:3000
# make prove    the truth machines; LAKE= for your own lake
# make calibrate  size, coverage and power on simulated markets, into docs/calibration.md; CALIBRATE_ARGS= is passed on
# make bench    speed and memory beside the peers; BENCH_ARGS= is passed on
# make lint     ruff, check and format
# make types    mypy
# make env      only build the locked environment; PYTHON=python3.12 for another interpreter, with any target
# make lock     renew requirements.lock (needs uv)
# make clean    delete results and cache, not the study registry (artifacts/registry)
# make help     this list
.ONESHELL:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env run test ui bench prove calibrate lint types lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked
RUN_ARGS := $(if $(LAKE),--lake "$(LAKE)") $(if $(FROM),--from $(FROM)) $(if $(TO),--to $(TO)) \
            $(if $(CONFIG),--config "$(CONFIG)") $(if $(OUT),--out "$(OUT)")

help:
	@grep -E '^# make' Makefile | sed 's/^# //'

# The locked environment: every version and hash from requirements.lock, nothing else.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 needed, {sys.executable} is {v.major}.{v.minor}; say: make PYTHON=python3.12 ...")'
	echo "building the locked environment in $(VENV) (about a minute the first time)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if command -v uv >/dev/null 2>&1 &&
	  uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock &&
	  uv pip install --quiet --python $(BIN)/python --no-deps --editable .; then
	  :
	else
	  ! command -v uv >/dev/null 2>&1 || echo "uv failed (it does not read pip.conf); going on with pip" >&2
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	fi
	touch $(STAMP)

env: $(STAMP)

run: $(STAMP)
	@$(BIN)/majors-alts run $(RUN_ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

ui: $(STAMP)
	@source ./env.sh && dagster dev -w workspace.yaml

prove: $(STAMP)
	@$(BIN)/majors-alts prove $(if $(LAKE),--lake "$(LAKE)")

calibrate: $(STAMP)
	@$(BIN)/majors-alts prove --calibrate --write-docs $(CALIBRATE_ARGS)

bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/mypy

# Needs uv. No address of any index may reach the lock file.
lock:
	uv pip compile --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-emit-index-url --all-extras pyproject.toml -o requirements.lock

clean:
	find artifacts -mindepth 1 -maxdepth 1 ! -name registry -exec rm -rf {} +
	rm -rf cache/* && git checkout -q -- artifacts cache
