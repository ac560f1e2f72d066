# Everything runs from .venv, which `make setup` prepares (any other target does so first).
.DEFAULT_GOAL := help
SHELL := /bin/bash

BIN := .venv/bin
# Test workers: as many as cores, four at most, one torch thread each.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$(( n < 4 ? n : 4 )))
# Further arguments: make test ARGS="-k exits", make demo ARGS="--out /tmp/demo"
ARGS ?=

.PHONY: help setup demo test fuzz crosscheck cloud-check peers lint format types imports check docs bench verified cost release lock build clean distclean

help: ## what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## prepare .venv (uv, Python 3.10, locked packages); nothing to do the second time
	@scripts/setup.sh

demo: setup ## the main job, offline: train, export, simulate in Lava, bridge, report
	@$(BIN)/neucodex demo $(ARGS)

test: setup ## all tests
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

crosscheck: setup ## our counts against Sinabs's and NeuroBench's, in .venv-crosscheck
	@scripts/crosscheck.sh -q $(ARGS)

cloud-check: setup ## the cloud's end on a newer Python and torch, without Lava, in .venv-cloud
	@scripts/cloud.sh -q $(ARGS)

peers: setup ## .venv-peers: snnTorch and SpikingJelly, for neucodex bench train
	@scripts/peers.sh

fuzz: setup ## 10,000 damaged NetX files and 100,000 wire messages; ARGS and WIRE_ARGS="--seed 7 --case 123"
	@$(BIN)/python tests/fuzz/campaign.py $(ARGS)
	@$(BIN)/python tests/fuzz/wire.py $(WIRE_ARGS)

lint: setup ## ruff: lint and format, changing nothing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup ## ruff: mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: setup ## pyright, strict
	@$(BIN)/pyright

imports: setup ## who may import whom
	@$(BIN)/lint-imports --no-logo

check: lint types imports test ## all of lint, types, imports and test

docs: setup ## the docs as HTML, into docs/_build; a warning is an error
	@$(BIN)/sphinx-build -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo docs/_build/html/index.html

bench: setup ## benchmarks; ARGS="sim" for one of them
	@$(BIN)/neucodex bench $(ARGS)

verified: setup ## run what docs/verified.md lacks and write it anew; results in runs/verified, resumable
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m benchmarks.verified $(ARGS)

cost: setup ## measure cost against SynOps and draw docs/cost.svg
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m benchmarks.cost $(ARGS)

release: setup ## RUNS=runs/NAME: finished runs become released bundles (docs/reproduce.md)
	@scripts/release.sh $(RUNS)

lock: setup ## write requirements.lock and those of crosscheck, peers and cloud anew
	@scripts/lock.sh

build: setup ## the wheel, into dist/
	@$(BIN)/python -m build --wheel --no-isolation

clean: ## remove caches and build output
	@rm -rf build dist docs/_build .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage htmlcov
	@find . -path "./.venv*" -prune -o -path ./.tools -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

distclean: clean ## remove .venv, .venv-*, and .tools as well
	@rm -rf .venv .venv-crosscheck .venv-cloud .venv-peers .tools
