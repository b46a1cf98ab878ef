# `make run` sets everything up and runs the pipeline; `make test` sets everything up and runs every check.
.DEFAULT_GOAL := help
.PHONY: help setup run test check compiled lock clean
SHELL  := /bin/bash
PYTHON ?= python3
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin
TORCH  := torch==2.13.0
DEVICE := $(if $(shell nvidia-smi -L 2>/dev/null),gpu,cpu)
LOCK   := requirements/$(DEVICE).txt
READY  := $(VENV)/ready-$(DEVICE)
CORES  := $(shell nproc 2>/dev/null || echo 2)
# One worker more than cores, as some wait, each with one thread: the tests' models are too small for two. A file's tests
# stay together, and those of vLLM. A worker takes up to 3 GB.
WORKERS ?= $(shell echo $$(($(CORES) < 8 ? $(CORES) + 1 : 8)))
export PATH := $(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## a virtual environment with the locked packages (does nothing when it is up to date)

# pip chooses torch and what it needs: its configuration may name a build without CUDA, and uv does not read it. uv
# unpacks, several files at a time. The rest is installed as locked, without resolving: the lock is complete but for
# torch. Python compiles a module when it is first imported: all 33,000 take longer than the checks, and a run imports a
# fifth of them.
$(READY): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "curate needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(LOCK) uv
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --only-binary :all: -d $(VENV)/wheels -c $(LOCK) $(TORCH)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-index --find-links $(VENV)/wheels $(TORCH)
	rm -r $(VENV)/wheels
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# The first time vLLM is compiled on the core that the reference's imports leave idle.
run: setup ## the whole pipeline (dvc repro), from raw pairs to the report
	@test -e $(VENV)/warm || { python -c 'import vllm.entrypoints.llm, vllm.v1.worker.cpu_worker'; touch $(VENV)/warm; } > /dev/null 2>&1 &
	dvc repro
	@echo "The report: $(CURDIR)/report/index.html"

test: setup ## lint, types and all tests
	@$(MAKE) --no-print-directory -j2 check compiled
	python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: setup ## lint and types only
	ruff check .
	ruff format --check .
	mypy

# On the core that mypy leaves idle: one process compiles what every worker of the tests imports first.
compiled: setup
	@python -m pytest --collect-only -qq > /dev/null 2>&1 || true

lock: setup ## resolve requirements/*.in again
	cd requirements && for device in cpu gpu; do \
	  uv pip compile --quiet --python-platform x86_64-manylinux_2_28 --python-version 3.11 --excludes excludes.txt --overrides overrides.txt \
	    --no-header --no-annotate $$device.in -o $$device.txt; done

clean: ## the virtual environment and caches (never data, runs or the score store)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
