# Two commands on a fresh machine: `make run` and `make test`. Python 3.11 or newer is all they need.
PYTHON ?= python3
BIN := .venv/bin

# Most of what runs here are short programs, hundreds of them in the tests: compiled anew each, they take a third longer.
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

# Gathers every marked sentence into the catalogue and says what is to be translated.
words: setup
	@$(BIN)/python translations/gather.py

bench: setup
	@$(BIN)/python benchmarks/throughput.py

# Two thousand generated outcomes on each broker.
fuzz: setup
	@FUZZ_OUTCOMES=2000 $(BIN)/pytest -n 2 tests/faults/test_settling.py -k generated

faults: setup
	@$(BIN)/python tests/faults

# Runs the tests in which times matter (or TESTS=…) at awkward times, in other zones, in random order. Needs cc.
clocks: setup
	@$(BIN)/python tests/clocks.py $(TESTS)

setup: .venv/installed

# The stamp is the target, so a set-up that was cut short is done again and a finished one costs nothing.
.venv/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'dewey: Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3.11' >&2; exit 2; }
	@echo 'Installing into .venv (once) …'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
