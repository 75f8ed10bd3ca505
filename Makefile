# `make run` and `make test` work on a fresh machine. They require only Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

# The tests start hundreds of short programs. Without cached bytecode they take a third longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check words bench fuzz faults clocks setup clean

run: setup
	@$(BIN)/flask start

test: setup
	@$(BIN)/pytest -n 4 --dist worksteal -m "not alone"
	@$(BIN)/pytest -m alone

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory test

# Collects every marked text into the catalogues and counts the missing translations.
words: setup
	@$(BIN)/python translations/gather.py

bench: setup
	@$(BIN)/python benchmarks/throughput.py

# Two thousand generated outcomes on each broker.
fuzz: setup
	@FUZZ_OUTCOMES=2000 $(BIN)/pytest -n 2 tests/faults/test_settling.py -k generated

faults: setup
	@$(BIN)/python tests/faults

# Runs the tests that depend on times (or TESTS=…) at awkward times, in other zones, in random order. Requires cc.
clocks: setup
	@$(BIN)/python tests/clocks.py $(TESTS)

setup: .venv/installed

# The target is a stamp file, so an interrupted set-up is repeated and a finished one is skipped.
.venv/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'dewey: Python must be 3.11 or newer. Select one with make PYTHON=/path/to/python3.11' >&2; exit 2; }
	@echo 'Installing into .venv (once) …'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
