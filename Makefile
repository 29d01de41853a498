# Two entry points for a fresh clone: make search, make test. Both make .venv if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Modules are compiled once, not again in every process that the tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: search test test-all run-test run-test-all lint style types audit fuzz lock clean

search: $(VENV)/.search
	$(BIN)/darts search

# Types are checked on one core while the tests begin on the other.
test test-all: $(VENV)/.dev style
	@$(MAKE) --no-print-directory --jobs=2 types run-$@

run-test run-test-all: $(VENV)/.dev
	@$(if $(filter %-all,$@),$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[ray]' \
		|| echo "Ray could not be installed; its tests are skipped.")
	$(BIN)/python -m pytest -q --numprocesses=auto --dist=loadfile $(if $(filter %-all,$@),-m '')

lint: style types

style: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(VENV)/.dev
	$(BIN)/mypy

# Strict: a package that could not be looked up is a failure, not a pass.
audit: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --strict --skip-editable

# A minute for each of what reads strangers' texts and files; the first error that is not ours ends it.
fuzz: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	@for target in $$(PYTHONPATH=tests $(BIN)/python -c "import fuzzing; print(*fuzzing.TARGETS)"); do \
		echo "--- $$target"; $(BIN)/python tests/fuzzing.py $$target 60 || exit 1; \
	done

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The analog table is an extra that a search can do without.
$(VENV)/.search: $(VENV)/bin/python pyproject.toml
	@echo "Installing into $(VENV): some minutes, most of them for PyTorch"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[analog]' \
		|| echo "The analog table could not be installed; the search runs without known accuracies."
	touch $@

# The versions that the tests were last run with; where an index has them no more, those that it has, and a line says so.
LOCKED := --constraint tests/constraints.txt

$(VENV)/.dev: $(VENV)/.search
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCKED) --editable '.[dev]' \
		|| { echo "NOT the locked versions of tests/constraints.txt: not all of them are to be had here"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; }
	touch $@

# From an environment that holds nothing else.
lock: $(VENV)/.dev
	@{ head -1 tests/constraints.txt; $(BIN)/python -m pip freeze --exclude-editable; } > tests/.constraints
	@mv tests/.constraints tests/constraints.txt

clean:
	rm -rf $(VENV) dist build
