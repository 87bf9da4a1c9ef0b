# The only door: `make help` lists what is behind it.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
TOOLS := .venv/tools
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11
IMAGE ?= skytally:latest
MINUTES ?= 60

.PHONY: help run serve demo test check lint contract localstack knative properties bench bench-quick bench-scale bench-parts drill format plot lock wheel image sbom audit clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(READY) ## start everything on this machine and take it through a vm's life; PORT=8080
	@$(BIN)/python localstack/run.py

serve: $(READY) ## all functions on one port, on SQLite and files; PORT=8080 SKYTALLY_HOME=.skytally PROCESSES=2
	@exec $(BIN)/python localstack/serve.py $(if $(PROCESSES),--processes $(PROCESSES))

demo: $(READY) ## a server with a pretended fleet, jobs, secrets and a closed month on its page; PORT=8080
	@$(BIN)/python -m localstack.demo

test: $(READY) lint ## every test, on every real server that this machine can run
	@$(BIN)/python -m localstack.provide
	@$(BIN)/python localstack/suite.py

check: $(READY) lint ## format, lint, types, import rules and unit tests, in seconds
	@$(BIN)/pytest -q tests/unit tests/test_readme.py -m "not slow"

lint: $(READY) ## format, lint, types and import rules; the page's scripts too
	@$(BIN)/ruff format --check --quiet . || { echo "run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/oxlint --format=unix functions/dashboard
	@$(BIN)/mypy --no-error-summary
	@report=$$($(BIN)/lint-imports --no-logo) || { echo "$$report"; exit 1; }

properties: $(READY) ## the properties of the whole system, with many new examples; takes hours
	@$(BIN)/pytest tests/properties --hypothesis-profile thorough --timeout 0

bench: $(READY) ## one table beside what others would use: ratios of interleaved rounds, on this machine; AUDITOR_BINARY AUDITOR_MIGRATIONS
	@$(BIN)/python -m tests.bench.bench_all $(if $(MARKDOWN),--markdown)

bench-quick: $(READY) ## the core of it, in two minutes
	@$(BIN)/python -m tests.bench.bench_all --quick $(if $(MARKDOWN),--markdown)

bench-scale: $(READY) ## fleets of 1,000 to 100,000 vms on both stores, and a storm of boots; half an hour
	@$(BIN)/python -m tests.bench.bench_scale $(if $(MARKDOWN),--markdown)
	@$(BIN)/python -m tests.bench.bench_storm $(if $(MARKDOWN),--markdown)

bench-parts: $(READY) ## each part by itself: stores, slow senders, jobs, views, pages, the image
	@$(BIN)/python -m tests.bench.bench_accounting
	@$(BIN)/python -m tests.bench.bench_secrets
	@$(BIN)/python -m tests.bench.bench_edge
	@$(BIN)/python -m tests.bench.bench_jobs
	@$(BIN)/python -m tests.bench.bench_dirac
	@$(BIN)/python -m tests.bench.bench_search
	@$(BIN)/python -m tests.bench.bench_alarms
	@$(BIN)/python -m tests.bench.bench_page
	@$(BIN)/python -m tests.bench.bench_image

drill: $(READY) ## a fleet while servers die, stores are away and disks full; every promise checked; MINUTES=60
	@$(BIN)/python -m tests.drill --minutes $(MINUTES)

format: $(READY) ## put the code into its one format
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

contract: $(READY) ## every adapter against the contract of its port, on the real servers
	@$(BIN)/python -m localstack.provide
	@$(BIN)/pytest -q tests/contract

localstack: $(READY) ## object contracts and journeys on LocalStack's S3, without Docker or an account
	@$(BIN)/pytest -q --object-store localstack -k "localstack or journeys" \
		tests/contract/test_objects.py tests/contract/test_objects_preflight.py tests/journeys/test_vm_life.py tests/journeys/test_fleet.py

knative: $(READY) ## a deployment on a real Knative node, from nothing to its removal; root on Debian, a quarter of an hour the first time
	@$(BIN)/python -m localstack.knative

plot: ## the page's chart library, made again from its pinned npm packages
	@work=$$(mktemp -d) && cp functions/dashboard/plot/* "$$work" && page=$$PWD/functions/dashboard && cd "$$work" && \
		npm ci --silent && node build.mjs "$$page/page/plot.min.js" "$$page/plot.LICENSE"; rm -rf "$$work"

lock: $(READY) ## write the lock files anew from pyproject.toml
	@$(COMPILE) pyproject.toml --extra dev --output-file requirements-dev.lock
	@$(COMPILE) pyproject.toml --constraint requirements-dev.lock --output-file requirements.lock
	@$(COMPILE) pyproject.toml --extra tools --constraint requirements-dev.lock --output-file requirements-tools.lock
	@$(COMPILE) --group build --constraint requirements-dev.lock --output-file requirements-build.lock

wheel: $(READY) ## one wheel for a host without this repository, into build/
	@rm -rf build/lib build/bdist.* build/skytally-*.whl  # What an earlier tree left there would go into the wheel.
	@$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir build .
	@rm -rf build/lib build/bdist.*
	@ls build/skytally-*.whl

image: ## build the one image of all functions, with docker, podman or buildah; IMAGE=skytally:latest
	@builder=$$(for tool in docker podman buildah; do $$tool info > /dev/null 2>&1 && echo $$tool && break; done); \
	test -n "$$builder" || { echo "no docker, podman or buildah works here: install one, or start docker's daemon" >&2; exit 1; }; \
	$$builder build --file functions/Dockerfile --tag $(IMAGE) .

sbom: $(TOOLS)/.ready ## what the image is made of, as CycloneDX, into build/sbom.json
	@mkdir -p build
	@$(TOOLS)/bin/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom.json
	@echo build/sbom.json

audit: $(TOOLS)/.ready ## known vulnerabilities of what the image is made of, where a service that knows them can be reached
	@$(BIN)/python localstack/audit.py $(TOOLS)/bin/pip-audit

clean: ## remove the environment and what tests left
	rm -rf .venv .coverage* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .bench screenshots

$(READY): requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: install one, or name it: make PYTHON=/path/to/python"; exit 1; }
	@echo "making the environment in .venv (a minute, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

$(TOOLS)/.ready: requirements-tools.lock $(READY)
	@echo "making the tools' environment in $(TOOLS) (once)"
	@test -x $(TOOLS)/bin/python || $(BIN)/python -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements-tools.lock
	@touch $@
