# Everything a newcomer needs: `make reproduce`, `make test`, `make lab`. Each builds the environment first if it is missing.
PYTHON  ?= python3.11
PARAMS  ?= demo
VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
UV      := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help env reproduce check test test-heavy house guards lab notebooks readme export hooks site clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: $(READY) ## create the environment in .venv

# pyradiomics 3.0.1 is a source release whose build needs numpy and an old setuptools beside it, and a C compiler;
# where the machine has none, the one in the `ziglang` wheel serves.
$(READY): constraints.txt settings.ini setup.py
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: '$(PYTHON)' was not found. Name it with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed: $(PYTHON) is $$($(PYTHON) -V). pyradiomics 3.0.1 builds on no later one."; exit 1; }
	@echo "Creating the environment in $(VENV) (about 7 GB; a minute or more for the download) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(UV) 'setuptools<81' wheel versioneer cython numpy
	@if command -v cc >/dev/null; then $(UV) --no-build-isolation-package pyradiomics pyradiomics==3.0.1; \
	 else echo "No C compiler found: using the one in the ziglang wheel."; $(UV) ziglang && \
	   printf '#!/bin/sh\nexec "$(CURDIR)/$(BIN)/python" -m ziglang cc "$$@"\n' > $(BIN)/zigcc && chmod +x $(BIN)/zigcc && \
	   CC="$(CURDIR)/$(BIN)/zigcc" LDSHARED="$(CURDIR)/$(BIN)/zigcc -shared" $(UV) --no-build-isolation-package pyradiomics pyradiomics==3.0.1; fi
	$(UV) --no-build-isolation-package pyradiomics --no-build-isolation-package ovf_dlr --editable '.[dev]'
	@touch $(READY)

reproduce: $(READY) ## the whole study on the embedded cohort, two backbones, every table and figure
	$(BIN)/ovf-dlr run --params $(PARAMS)

check: $(READY) ## seconds to two minutes: export and format are no-ops, ruff, the house, the fast tests
	before=$$(git diff -- nbs ovf_dlr | cksum); $(BIN)/nbdev_export && $(BIN)/nbdev_clean && \
	  test "$$before" = "$$(git diff -- nbs ovf_dlr | cksum)" || { echo "nbdev_export or nbdev_clean changed files: look at 'git diff', then run 'make check' again"; exit 1; }
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --no-cache --quiet .
	$(BIN)/python .ci/house.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 -m fast --durations=3

test: $(READY) ## the notebooks' own tests and tests/, in two processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2

test-heavy: $(READY) ## also the checks that take many minutes
	$(BIN)/python -m pytest tests -m "heavy or not heavy"

guards: $(READY) ## break one guard of the source after the other; some test must fail each time (heavy)
	$(BIN)/python -m pytest tests/test_guards.py -m heavy -rA

house: $(READY) ## rooms and their imports, lines, functions, parameters
	$(BIN)/python .ci/house.py

lab: $(READY) ## open JupyterLab
	$(BIN)/jupyter lab --notebook-dir .

notebooks: $(READY) ## execute the notebooks that show the smallest run in place, so that the site shows what the code makes today
	$(BIN)/ovf-dlr run --params smoke
	$(BIN)/jupyter execute --inplace nbs/*.ipynb nbs/reports/*.ipynb nbs/tutorials/cases.ipynb nbs/tutorials/scoring.ipynb
	$(BIN)/nbdev_clean

readme: $(READY) ## nbs/index.ipynb -> README.md
	$(BIN)/jupyter nbconvert --log-level ERROR --to markdown --stdout nbs/index.ipynb > README.md

hooks: $(READY) ## git hooks that keep nbs/ and ovf_dlr/ in step, and a merge driver for notebooks
	git config --local include.path ../.gitconfig

export: $(READY) ## format, nbs/ -> ovf_dlr/, and strip what does not belong in git
	$(BIN)/ruff format --quiet .
	$(BIN)/nbdev_export
	$(BIN)/nbdev_clean

site: $(READY) ## render the Quarto site into _docs (Quarto must be installed)
	@command -v quarto >/dev/null || { echo "Quarto is not installed: https://quarto.org/docs/get-started"; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -P .ci/build_site.py

clean: ## remove generated cohorts, caches and results
	rm -rf data/cohorts data/cache data/results _docs _proc
