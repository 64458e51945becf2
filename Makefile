# Wheels only (--no-build): a bare machine has no compilers.
# Every target that has a "## " text shows in `make help`.
SHELL := /bin/bash
PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Most tests wait, for one process or another: three side by side keep two cores busy.
WORKERS ?= 3
# Each of some hundred Consuls and Prometheuses waits for its disk; in memory, where there is room, none has to.
ROOMY_KB := 12000000
IN_MEMORY := $(shell test -w /dev/shm && test "$$(df -k --output=avail /dev/shm | tail -1)" -gt $(ROOMY_KB) && echo /dev/shm)
PYTEST := PYTEST_DEBUG_TEMPROOT=$(IN_MEMORY) $(BIN)/python -m tests.again
CODE := control_plane services compose observability tests

.DEFAULT_GOAL := help
.PHONY: help setup programs up down test test-docker test-long drill test-service lint lint-containers scan format types go-test dashboards bench bench-peers capacity chaos soak fuzz images collector-image features lock wheel release-notes reference docs screenshots clean

help: ## List every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@echo "setup: Python packages into $(VENV) (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "setup: python3 -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --no-build --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(READY) ## Python environment from the lock file

up: $(READY) ## Start everything here and make a real tool call per service
	@$(BIN)/tekup up

down: $(READY) ## Stop everything that `make up` started
	@$(BIN)/tekup down

programs: $(READY)
	@$(BIN)/python -m compose.local.programs consul traefik chromium rg rsync go conformance prometheus promtool alertmanager amtool loki jaeger collector hadolint dclint > /dev/null

test: $(READY) programs lint types go-test ## Lint, types, unit, contract and local end-to-end tests
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "not docker and not long"

# All that is to hold anywhere is asked of prod; of dev and staging what a client does from birth to revocation, and of
# staging what only an environment with everything has. `make test-docker PART=` asks all of it of each.
PART = tests/e2e/test_protocol.py
test-docker: $(READY) ## Tests that need a Docker engine; on a bare Debian machine, as root, one is installed
	@$(BIN)/python -m compose.local.programs consul prometheus promtool alertmanager amtool loki jaeger collector osv-scanner > /dev/null
	$(BIN)/python -m tests.support.engine sh -euc '$(BIN)/python -m tests.again -m "docker and not production and not long"; $(BIN)/python -m tests.again -m "anywhere and not long" --environment=dev $(PART); $(BIN)/python -m tests.again -m "(anywhere or production) and not long" --environment=staging $(PART) $(if $(PART),tests/e2e/test_production.py); $(BIN)/python -m tests.again -m "(anywhere or production) and not long" --environment=prod; $(BIN)/python -m compose.images tested'

test-long: $(READY) ## Races, soaks and drills
	$(BIN)/pytest -m long

drill: $(READY) programs ## Disaster drills: lose it, bring it back, recovery times against their bounds; ARGS="-m 'drill and not docker'"
	timeout 3600 $(BIN)/python -m tests.support.engine $(BIN)/pytest -q -m drill --environment=staging tests/e2e $(ARGS)

TESTED = $(if $(S),$(wildcard tests/unit/services/$(S) tests/contract/services/test_$(S).py $(S)/tests))
test-service: $(READY) ## One service alone: make test-service S=search
	@test -n "$(TESTED)" || { echo "S=$(S) names no service with tests; for example: make test-service S=search"; exit 2; }
	$(BIN)/pytest -m "not docker and not long" $(TESTED)

lint: $(READY) ## Formatting and lint
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)

lint-containers: $(READY) ## Lint Dockerfile and Compose files
	@$(BIN)/python -m tests.lint.containers

scan: $(READY) ## What is in an image, and known faults in it: make scan I=tekup/mcp-hub:latest
	@test -n "$(I)" || { echo "I names no image; for example: make scan I=tekup/mcp-hub:latest"; exit 2; }
	@$(BIN)/python -m compose.images.scan $(I) $(ARGS)

format: $(READY) ## Format and fix
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

types: $(READY) ## Strict types over source and tests
	$(BIN)/mypy

go-test: $(READY) ## Unit tests of the policy plugin
	cd traefik/plugin && $$(cd ../.. && $(BIN)/python -m compose.local.programs go) test ./...

fuzz: $(READY) ## Feed the gate and its tables whatever comes, for FOR seconds each (60)
	cd traefik/plugin && go=$$(cd ../.. && $(BIN)/python -m compose.local.programs go) && for target in FuzzARequest FuzzTables; do \
		$$go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(or $(FOR),60)s . || exit 1; done

dashboards: $(READY) ## Write Grafana's dashboards from observability/dashboards
	$(BIN)/python -m observability.dashboards

bench: $(READY) ## Figures, as ratios against a peer in the same run; ARGS=--help
	PYTHONPATH=. $(BIN)/python -m tests.bench $(ARGS)

bench-peers: $(READY) programs ## The gate beside other people's gateways, in one run; ARGS="--docs"
	PYTHONPATH=. $(BIN)/python -m tests.bench.gateways $(ARGS)

capacity: $(READY) programs ## What more gates, services, instances and clients cost; ARGS="--docs"
	PYTHONPATH=. $(BIN)/python -m tests.capacity $(ARGS)

chaos: $(READY) programs ## Faults under load, every call accounted for; ARGS="--seeds 1 2 3", --list
	PYTHONPATH=. $(BIN)/python -m tests.chaos $(ARGS)

soak: $(READY) programs ## All services and versions that come and go; nothing fails, nothing grows: make soak MINUTES=20
	PYTHONPATH=. $(BIN)/python -m tests.soak --minutes $(or $(MINUTES),20)

images: $(READY) ## Container images, their sizes against their bounds; ARGS="search --version 1.1.0"
	$(BIN)/python -m compose.images build $(ARGS)

collector-image: $(READY) ## The collector's image, for staging and production
	$(BIN)/python -m compose.images collector $(ARGS)

features: $(READY) ## Each feature id with the tests that prove it
	$(BIN)/python tests/features.py

lock: $(READY) ## Resolve requirements.lock anew from pyproject.toml, and what each image takes of it
	$(BIN)/uv pip compile --quiet --no-build --python-version 3.11 --universal --generate-hashes --extra dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --no-build --python-version 3.11 --universal --no-annotate --no-header --constraint requirements.lock --extra all --extra search-embeddings pyproject.toml -o wheel.lock
	$(BIN)/python -m compose.images lock

wheel: $(READY) ## The whole platform as one wheel, in dist/: pip install dist/*.whl, then tekup up
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/hatchling build --target wheel

# From the heading of the version to the next; of a version that is not released yet, what stands under Unreleased.
release-notes: $(READY) ## What CHANGELOG.md says of this version
	@version=$$($(BIN)/tekup --version); grep -q "^## \[$$version\]" CHANGELOG.md || version=Unreleased; \
	awk -v heading="## [$$version]" 'index($$0, heading) == 1 {shown = 1; next} shown && /^## \[/ {exit} shown' CHANGELOG.md

reference: $(READY) ## Write docs/reference anew from the code
	@$(BIN)/python -m tests.reference

docs: $(READY) ## The docs as plain pages, in build/docs
	@$(BIN)/mkdocs build --quiet --strict --site-dir build/docs && echo build/docs/index.html

SHOTS := build/screenshots
screenshots: $(READY) ## Take the pictures of docs/pictures anew, by the console's own test
	@rm -rf $(SHOTS) && mkdir -p $(SHOTS)
	TEKUP_SCREENSHOTS=$(SHOTS) $(BIN)/pytest -q -m long tests/e2e/test_console.py -k pictures
	@for page in overview service; do cp $(SHOTS)/$$page-light-wide.png docs/pictures/$$page.png; done

clean: ## Remove what the tools leave; keeps .venv and .tekup
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist bench-results chaos-results soak-results
