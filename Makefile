# Commands for users and developers. They need only Python 3.11 with venv and pip.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PYTHON_OLDEST ?= /usr/bin/python3.11
UV_VERSION := 0.13.9
export PYTHONDONTWRITEBYTECODE :=
ARGS ?=

.PHONY: help demo test test-oldest lint types layers deps format check bench docs lock snapshot clean distclean same replay fuzz properties chaos pace upgrade image-steps soak month year browser extras attack load rules paging cluster crawl services slurm

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "Python 3.11 is needed, found " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	@echo "Installing into $(VENV) (about 3 GB, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@echo "Compiling loops (a minute) ..."
	@$(BIN)/python -m dsa110_assets.stages.operations.kernels || echo "They are compiled when they are first called instead."
	@touch $@

WORKERS ?= 3
# Many tests wait for services: one process more than cores.

demo: $(VENV)/.installed ## Run two simulated nights from raw files to light curves through the platform; ARGS=--no-ui stops it at the end
	$(BIN)/dsa110 demo $(ARGS)

test: $(VENV)/.installed ## Run the test suite; WORKERS=2 for fewer processes
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

extras: ## Install the Debian packages that some targets and tests need (as root): Chromium; Prometheus, its Alertmanager and node exporter; nginx; Redis; systemd's tools, and what boots it in namespaces; polkit
	@for one in chromium prometheus prometheus-alertmanager prometheus-node-exporter nginx openssl redis-server ip pkcheck dbus-daemon mmdebstrap systemd-nspawn slirp4netns curl; do command -v $$one >/dev/null || missing="$$missing $$one"; done; \
		command -v systemd-analyze >/dev/null || missing="$$missing systemd"; \
		test -z "$$missing" || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$(echo "$$missing " | sed 's/ nginx / nginx-light /; s/ ip / iproute2 /; s/ pkcheck / polkitd /; s/ systemd-nspawn / systemd-container /') >/dev/null; }

browser: $(VENV)/.installed ## Try the pages in Debian's Chromium; DSA110_PICTURES=DIRECTORY keeps screenshots
	$(BIN)/python -m pytest dsa110_assets_tests/browser $(ARGS)

crawl: $(VENV)/.installed ## Open every page, link, button and file of a running platform in Chromium; ARGS="--start ADDRESS --token TOKEN --pictures DIRECTORY"; --press also sends forms
	$(BIN)/python -m dsa110_assets_tests.browser.crawl $(ARGS)

test-oldest: ## Run the quick tests on Debian's own Python 3.11; root runs them as nobody, in a fresh clone of the last commit
	@$(MAKE) --no-print-directory VENV=.venv-oldest PYTHON=$(PYTHON_OLDEST) .venv-oldest/.installed
	.ci/oldest $(ARGS)

lint: $(VENV)/.installed ## Check format and lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(VENV)/.installed ## Reformat the code and apply automatic fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.installed ## Check types of the package, strictly
	$(BIN)/basedpyright --level error

layers: $(VENV)/.installed ## Check that imports only go down the layers
	$(BIN)/lint-imports

deps: $(VENV)/.installed ## Check that pyproject.toml declares exactly the packages that are imported
	$(BIN)/deptry --no-ansi dsa110_assets
	$(BIN)/deptry --no-ansi --ignore DEP002,DEP004 dsa110_assets_tests benchmarks notebooks

check: lint types layers deps ## Run lint, types, layers and deps

bench: $(VENV)/.installed ## Measure one full-size tile from raw files to photometry: time and peak memory of each stage (10 GB of disk)
	$(BIN)/python -m benchmarks.full_tile $(ARGS)

same: $(VENV)/.installed ## Check that products have not changed: two tiles and an hour against a baseline; ARGS="--against main", ARGS=--record
	$(BIN)/python -m dsa110_assets_tests.same $(ARGS)

replay: $(VENV)/.installed ## Replay a real listing of file arrivals through the ingest queue: make replay LISTING=inventory.csv
	$(BIN)/python -m dsa110_assets_tests.chaos.replay $(LISTING) $(ARGS)

fuzz: $(VENV)/.installed ## Ingest 10 000 damaged raw files; ARGS="--mutations 500"
	$(BIN)/python -m dsa110_assets_tests.chaos.fuzz $(ARGS)

properties: $(VENV)/.installed ## Give every reader 10 000 odd inputs; CASES=500 for fewer
	DSA110_PROPERTY_CASES=$(or $(CASES),10000) $(BIN)/python -m pytest -n 2 --timeout 0 -k "property or there_and_back or every_column_keeps or every_parameter_takes" dsa110_assets_tests/inputs $(ARGS)

attack: $(VENV)/.installed ## Send 10 000 requests made from the OpenAPI text, and 5 000 forms to the pages; CASES=500 for fewer
	DSA110_ATTACK_CASES=$(or $(CASES),10000) $(BIN)/python -m pytest -n 2 -s --timeout 0 -k "test_no_request or test_no_form" dsa110_assets_tests/api/test_attacks.py $(ARGS)

chaos: $(VENV)/.installed ## Kill each stage at each commit point, then services 100 times at random; ARGS="--kills 1000"
	$(BIN)/python -m dsa110_assets_tests.chaos.kill_matrix
	$(BIN)/python -m dsa110_assets_tests.chaos.kills $(ARGS)

cluster: $(VENV)/.installed ## Run three worker hosts that die, freeze, are cut off and come back (as root, needs make extras); ARGS="--seed 2"
	$(BIN)/python -m dsa110_assets_tests.chaos.cluster $(ARGS)

upgrade: $(VENV)/.installed ## Upgrade a recorded platform that is at work, and let it carry on; nothing may be lost (three minutes)
	$(BIN)/python -m dsa110_assets_tests.upgrade.carry_on $(ARGS)

image-steps: $(VENV)/.installed ## Carry out the steps of the Dockerfile in a clean Debian 12, without containers (as root, needs mmdebstrap, 5 GB of disk)
	$(BIN)/python -m dsa110_assets_tests.deploy.image_steps $(ARGS)

services: $(VENV)/.installed ## Follow deploy/README.md on a clean Debian 12 that boots systemd in namespaces, and kill its services (as root, needs make extras, 8 GB of disk); ARGS="--again --parts kills"
	$(BIN)/python -m dsa110_assets_tests.deploy.services $(ARGS)

slurm: $(VENV)/.installed ## Run workers as pilot jobs of Debian's Slurm on this machine; they are canceled and run out of time (as root, needs make extras and slurmctld slurmd slurm-client munge)
	$(BIN)/python -m pytest -s -n0 --timeout 0 dsa110_assets_tests/deploy/pilot_jobs.py $(ARGS)

pace: $(VENV)/.installed ## Run the telescope at four times its pace; measure memory and lag; ARGS="--minutes 20"
	$(BIN)/python -m dsa110_assets_tests.chaos.pace $(ARGS)

soak: $(VENV)/.installed ## Run two full turns of the sky (48 hours of telescope time), small tiles, in build/soak; stops after 100 minutes, the same command goes on; ARGS="--every 3", ARGS="--hours 0.5 --every 2"
	$(BIN)/python -m dsa110_assets_tests.chaos.soak $(ARGS)

month: $(VENV)/.installed ## Run and check a simulated month of one strip, 30 nights to candidates (15 minutes, 3 GB of disk in build/month)
	$(BIN)/python -m benchmarks.month $(ARGS)

year: $(VENV)/.installed ## Measure and check sensors, commands and nights on registries of 30, 100 and 365 nights (15 GB of disk in build/year); ARGS="--nights 30 --sources 2000" takes 2 minutes
	$(BIN)/python -m benchmarks.year $(ARGS)

load: $(VENV)/.installed ## Measure pages and API on the registry of a year under 50 users, 10 minutes; ARGS="--minutes 60", ARGS="--beside 3"
	$(BIN)/python -m benchmarks.api_load $(ARGS)

docs: $(VENV)/.installed ## Build the documentation in build/docs, with references of commands, settings, products and tables
	$(BIN)/mkdocs build --quiet --strict
	@echo "build/docs/index.html; serve it at http://127.0.0.1:8001 with: $(BIN)/mkdocs serve -a 127.0.0.1:8001"

paging: $(VENV)/.installed ## See somebody paged by the real Prometheus and Alertmanager, at the real pace (20 minutes)
	$(BIN)/python -m pytest -s --timeout 0 dsa110_assets_tests/deploy/paging.py $(ARGS)

rules: $(VENV)/.installed ## Write Prometheus' alert rules from the table of alerts, deploy/prometheus/alerts.yml
	$(BIN)/python -m dsa110_assets.stages.operations.alert_rules deploy/prometheus/alerts.yml

snapshot: $(VENV)/.installed ## Accept the present asset graph as reviewed
	$(BIN)/python -W ignore -m dsa110_assets_tests.orchestration.graph_snapshot --write

lock: $(VENV)/.installed ## Update requirements.lock from pyproject.toml (wheels only, hashes, no index addresses)
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --only-binary :all: --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-annotate --no-header --group dev --extra distributed pyproject.toml -o requirements.lock

clean: ## Remove what the demo and the tests made
	@if [ -x $(BIN)/dsa110 ]; then $(BIN)/dsa110 demo --stop >/dev/null 2>&1 || true; fi
	rm -rf demo chaos pace orchestration-benchmark .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -path './.venv*' -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

distclean: clean ## Also remove the virtual environments
	rm -rf $(VENV) .venv-oldest *.egg-info
