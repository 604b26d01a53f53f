# The commands of a developer's day. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DEMO := specs/digits/mlp.nnspec

# torch on several threads beside other work is slower and less even than on one.
OMP_NUM_THREADS ?= 1
export OMP_NUM_THREADS

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu lint format docs benchmark clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## train a network on handwritten digits and write a report
	$(RUN) -m nnspec run $(DEMO)

test: $(STAMP) ## run all tests
	$(RUN) -m pytest -q -n auto --dist worksteal --durations 15 -rs

test-gpu: $(STAMP) ## run the tests that need a GPU (skipped where there is none)
	$(RUN) -m pytest -q -m gpu -rs

lint: $(STAMP) ## check style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright

format: $(STAMP) ## put the code into its canonical form
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: $(STAMP) ## write the generated pages of docs/
	$(RUN) -m nnspec.reference docs

benchmark: $(STAMP) ## measure speed; prints tables
	@for file in $$(grep -l __main__ benchmarks/*.py); do echo "$$file"; $(RUN) "$$file" || exit 1; done

clean: ## remove what the other commands made
	rm -rf $(VENV) build dist nnspec.egg-info runs reports .pytest_cache .hypothesis .ruff_cache

# The environment is made anew when what it installs has changed. pip takes torch from wherever it is set
# up to: the CPU build if that is installed first, else what the package index offers.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "nnspec needs Python 3.11 or newer, and '$(PYTHON)' is not there. Name yours: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "nnspec needs Python 3.11 or newer; '$(PYTHON)' is older. Name another: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)
