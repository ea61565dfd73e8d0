# Works with any POSIX sh and GNU make; every path is relative, so the checkout may live anywhere.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# The one of analytics loads millions of rows for minutes: python -m bench.analytics.
BENCHES := $(filter-out __init__ analytics generate,$(basename $(notdir $(wildcard bench/*.py)))) generate
BENCH ?=
# Processes that share the test files, in the order of tests/conftest.py: one more than cores, since many tests wait.
WORKERS ?= 3
BY_FILE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
PROTOS := $(shell find protos -name '*.proto')
PIP_INSTALL := -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes
PIP := $(BIN)/python $(PIP_INSTALL)
# Each process of a stack and of a test run would compile every module anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup setup-export run quick test test-containers test-hostile test-clients check bench images k8s lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

setup: .venv/.runtime gen/.stamp ## Make .venv and gen/; `make run` does it by itself

run: setup ## Start the stack and generate two texts; ARGS=--once ends then; POINTSMAN_CONFIG names a catalog
	@$(BIN)/python -m dev demo $(ARGS)

quick: .venv/.dev gen/.stamp ## Run the fast unit tests, in half a minute; ARGS goes to pytest
	$(BIN)/python -m pytest -q $(BY_FILE) -m "not simulation" --ignore=tests/unit/dev tests/unit $(ARGS)

test: .venv/.dev gen/.stamp ## Run every test that needs no network; ARGS goes to pytest; WORKERS=0 runs one by one
	$(BIN)/python -m pytest -q $(BY_FILE) $(ARGS)

test-containers: .venv/.dev gen/.stamp ## Run contract and integration tests, and the image, on redis:7 and postgres:15 (Docker)
	@$(BIN)/python -c 'import docker; docker.from_env().ping()' 2>/dev/null || { echo "No Docker engine answers." >&2; exit 1; }
	POINTSMAN_TEST_ENGINES=containers $(BIN)/python -m pytest -q $(BY_FILE) tests/contract tests/integration $(ARGS)

test-hostile: .venv/.dev gen/.stamp ## Attack a real stack in every way known, let providers fail for long; POINTSMAN_HOSTILE_SEED varies it
	$(BIN)/python -m pytest -q tests/hostile $(ARGS)

test-clients: .venv/.runtime gen/.stamp .venv-clients/.installed ## Run OpenAI's client, LangChain, LlamaIndex, instructor and pydantic-ai on a real stack
	.venv-clients/bin/python -m pytest -q --confcutdir=tests/clients tests/clients $(ARGS)

setup-export: .venv/.export ## Install what `pointsman export` needs besides; its test skips without it

check: .venv/.dev gen/.stamp ## Lint, format, types, import rules, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/buf lint protos
	$(BIN)/python dev/hygiene.py

bench: .venv/.runtime gen/.stamp ## Run every benchmark, or one: BENCH=limits ARGS=--help; figures come last, as JSON
	$(if $(ARGS),$(if $(BENCH),,$(error ARGS are of one benchmark: make bench BENCH=<name> ARGS=..., of $(BENCHES))))
	@set -e; for name in $(or $(BENCH),$(BENCHES)); do echo "== bench.$$name"; $(BIN)/python -m "bench.$$name" $(ARGS); done

images: ## Build the container images: of all services, and the one with the simulator
	docker build --target production --tag pointsman:dev .
	docker build --target development --tag pointsman-development:dev .

k8s: ## Render the Kubernetes manifests of both overlays
	@kubectl kustomize k8s/overlays/dev
	@echo '---'
	@kubectl kustomize k8s/overlays/prod

lock: ## Resolve the dependencies anew (needs uv)
	uv pip compile pyproject.toml --extra embedded --universal --generate-hashes --no-header --no-emit-index-url -o requirements.lock
	uv pip compile pyproject.toml --extra embedded --extra dev --universal --generate-hashes --no-header --no-emit-index-url -c requirements.lock -o requirements-dev.lock
	uv pip compile pyproject.toml --extra export --universal --generate-hashes --no-header --no-emit-index-url -c requirements.lock -o requirements-export.lock
	uv pip compile --group clients --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -o requirements-clients.lock

clean: ## Remove what setup and the checks made; the data in .data stays
	rm -rf .venv .venv-clients gen .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -not -path './web/*' -prune -exec rm -rf {} +

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Pointsman needs Python 3.11 or later as \`$(PYTHON)\`; name another: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "Making .venv ..."
	@$(PYTHON) -m venv .venv

.venv/.runtime: requirements.lock | .venv/pyvenv.cfg
	@echo "Installing requirements.lock ..."
	@$(PIP) -r requirements.lock
	@touch $@

# The development lock holds every run-time package too.
.venv/.dev: requirements-dev.lock requirements.lock | .venv/pyvenv.cfg
	@echo "Installing requirements-dev.lock ..."
	@$(PIP) -r requirements-dev.lock
	@touch .venv/.runtime $@

.venv/.export: requirements-export.lock .venv/.dev
	@echo "Installing requirements-export.lock ..."
	@$(PIP) -r requirements-export.lock
	@touch $@

# Of others' programs, in versions that need not agree with ours.
.venv-clients/.installed: requirements-clients.lock | .venv/pyvenv.cfg
	@echo "Installing requirements-clients.lock ..."
	@$(PYTHON) -m venv .venv-clients
	@.venv-clients/bin/python $(PIP_INSTALL) -r requirements-clients.lock
	@touch $@

gen/.stamp: $(PROTOS) dev/generate.py | .venv/.runtime
	@echo "Generating gen/ from protos/ ..."
	@$(BIN)/python dev/generate.py
	@touch $@
