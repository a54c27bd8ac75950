# Two commands: `make demo` and `make test`. Each installs what it needs into .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test test-slow lint install clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/.installed ## Train a small VAE and DiT on the world (at most 10 minutes), then sample four videos
	$(BIN)/python tools/demo.py

test: .venv/.installed lint ## Lint and the default test suite
	$(BIN)/python -m pytest -q -n 2

test-slow: .venv/.installed ## The tests that take longer
	$(BIN)/python -m pytest -q -m 'slow and not gpu'

lint: .venv/.installed ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: .venv/.installed ## Install the pinned set into .venv

.venv/.installed: pyproject.toml constraints.txt tools/install_system.sh
	bash tools/install_system.sh
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean: ## Remove what runs and tools wrote; keeps .venv
	rm -rf runs out
