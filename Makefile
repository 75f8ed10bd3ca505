# `make run` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin

# The tests start hundreds of short programs. Without cached bytecode they take a third longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check words bench bench-books bench-passages fuzz faults mutate-security clocks setup clean

run: setup
	@$(BIN)/dewey start

test: setup
	@$(BIN)/pytest -n 4 --dist worksteal -m "not alone"
	@$(BIN)/pytest -m alone

check: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(MAKE) --no-print-directory test

# Collects every marked sentence into the catalogue and lists missing translations.
words: setup
	@$(BIN)/python translations/gather.py

bench: setup
	@$(BIN)/python benchmarks/throughput.py

# Recall and precision of passages, and the speed on each TEXT="novel.txt …".
bench-passages: setup
	@$(BIN)/python benchmarks/passages.py $(TEXT)

# Reads each book of the folder CORPUS beside ebooklib with BeautifulSoup.
bench-books: setup
	@test -n "$(CORPUS)" || { echo 'dewey: CORPUS must name a folder of books: make bench-books CORPUS=path' >&2; exit 2; }
	@$(BIN)/python benchmarks/books.py $(CORPUS)

# Two thousand generated outcomes on each broker, and two thousand damaged books.
fuzz: setup
	@FUZZ_CASES=2000 $(BIN)/pytest tests/books/test_fuzz.py
	@FUZZ_OUTCOMES=2000 $(BIN)/pytest -n 2 tests/faults/test_settling.py -k generated

faults: setup
	@$(BIN)/python tests/faults

# Takes out each security control. Its test must fail.
mutate-security: setup
	@$(BIN)/python tests/security $(CONTROLS)

# Runs the time-dependent tests (or TESTS=…) at awkward times, in other zones, in random order. Needs cc.
clocks: setup
	@$(BIN)/python tests/clocks.py $(TESTS)

setup: .venv/installed $(BIN)/dewey

# The stamp is the target: an interrupted set-up is repeated, a finished one is skipped.
.venv/installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'dewey: Python 3.11 or newer is required. Name one: make PYTHON=/path/to/python3.11' >&2; exit 2; }
	@echo 'Installing into .venv (once) …'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# Not part of the stamp: an existing .venv gets the command too.
$(BIN)/dewey: | .venv/installed
	@ln -sfn ../../bin/dewey $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
