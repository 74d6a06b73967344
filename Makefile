# Everything a developer does, by name.  `make test` is what the build server runs (.ci/run).

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
TYPES := build/types
FOLDERS := agents chunker engine store
SECONDS ?= 10
MINUTES ?= 5

.PHONY: help setup packages test lint types sanitize unit pitr chaos-follow demo bench clean

help: ## say this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(READY) ## make .venv, with this tree and its tools in it

$(READY): pyproject.toml .ci/setup.sh .ci/python.sh $(wildcard */native/* */*/native/*)
	@.ci/setup.sh

packages:
	@.ci/packages.sh

# One after the other, so that the tests' summary is the last thing to be read.
test: packages ## set up what is missing, then check style, types, memory and behaviour
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory sanitize
	@$(MAKE) --no-print-directory unit

lint: $(READY) ## check style and layout
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

# mypy finds the product where an installation would have it: strandline/engine and so on.
types: $(READY) ## check types, strictly
	@mkdir -p $(TYPES)/strandline
	@for folder in $(FOLDERS); do ln -sfn ../../../$$folder $(TYPES)/strandline/$$folder; done
	@ln -sfn ../../../strandline/__init__.py $(TYPES)/strandline/__init__.py
	@MYPYPATH=$(TYPES) $(BIN)/mypy --namespace-packages --explicit-package-bases -p strandline

sanitize: $(READY) ## try to break the C, built with sanitizers; SECONDS=600 for long, SEED=n again
	@.ci/sanitize.sh $(SECONDS) $(SEED)

# A file's tests stay together: they share its servers.
unit: $(READY) ## run the tests, two files at once; PYTEST_ARGS="-k name" to choose, JOBS=0 for one after the other
	@$(BIN)/pytest --numprocesses $(or $(JOBS),2) --dist loadfile $(PYTEST_ARGS)

pitr: packages ## restore a busy database to GOALS=200 random goals; SEED=n again
	@$(MAKE) --no-print-directory setup
	@STRANDLINE_TEST_GOALS=$(or $(GOALS),200) STRANDLINE_SEED=$(SEED) $(BIN)/pytest tests/pitr -s

chaos-follow: packages ## kill and cut around `strandline follow`; MINUTES=60 for long, SEED=n again
	@$(MAKE) --no-print-directory setup
	@STRANDLINE_TEST_CHAOS_SECONDS=$$(( $(MINUTES) * 60 )) $(if $(SEED),STRANDLINE_SEED=$(SEED)) $(BIN)/pytest -s -k chaos tests/test_mariadb_follow.py

demo: packages ## see it work, on a database of its own
	@$(MAKE) --no-print-directory setup
	@$(BIN)/python -m bench.demo

bench: $(READY) ## measure it; SUITE=peers to choose, see bench/README.md
	@$(BIN)/python -m bench $(or $(SUITE),engine)

clean: ## remove what was built (but not .venv)
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis $(READY)
	@rm -f chunker/_*.so chunker/_*.pyd engine/format/_*.so engine/format/_*.pyd
	@find $(FOLDERS) strandline tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
