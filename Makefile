# Everything a developer or an operator types. `make help` lists it.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3.14 python3 python,$(shell command -v $(p) 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
DATA := $(or $(DPS_DATA_DIR),var)
STATIC_SOURCES := $(shell find static -type f)
SDK := tests/sdk/node_modules
AXE := tests/e2e/node_modules
# Workers of the test run; each has a database of its own.
TEST_WORKERS ?= auto

.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-pkits test-thorough test-import test-postgres test-history test-sdk sdk-needs axe bench bench-quick lint format lock clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-15s %s\n", $$1, $$2}'

setup: $(VENV)/.runtime $(DATA)/static/.collected ## install what the service needs, into .venv

run: setup ## start portal and device API; Ctrl-C stops them
	@$(BIN)/python manage.py migrate --noinput --verbosity 0
	@$(BIN)/python manage.py first_start
	@exec $(BIN)/python -m dpsportal.serving

demo: setup ## as run, with a simulated fleet in which every outcome occurs
	@$(BIN)/python manage.py migrate --noinput --verbosity 0
	@$(BIN)/python manage.py first_start
	@$(BIN)/python manage.py demo_fleet --forever & fleet=$$!; trap 'kill $$fleet 2>/dev/null || true' EXIT; \
	  $(BIN)/python -m dpsportal.serving

test: $(VENV)/.dev axe ## run the whole test suite, browsers and proxies included where they are found
	$(BIN)/pytest -n $(TEST_WORKERS) --dist worksteal tests

# Without npm, or without a registry, the tests that need it skip and say so; DPS_E2E=required makes that a failure.
axe: tests/e2e/package.json tests/e2e/package-lock.json
	@test $(AXE)/.installed -nt tests/e2e/package-lock.json || { npm ci --prefix tests/e2e --ignore-scripts --no-audit --no-fund \
	  --loglevel=error && touch $(AXE)/.installed; } || echo "axe-core could not be installed: no page is checked for accessibility."

test-pkits: $(VENV)/.pkits ## path validation against the NIST PKITS certificates (installs a large package)
	$(BIN)/pytest -o addopts= -q tests/pkits

test-thorough: $(VENV)/.dev ## the properties that are tried in random worlds, in all of these worlds
	DPS_THOROUGH=1 $(BIN)/pytest -n $(TEST_WORKERS) --dist worksteal $(shell grep -rl --include='*.py' 'tests.chance import' tests)

test-import: $(VENV)/.dev ## an import of 100,000 lines, killed at random moments, ends as an unbroken run
	DPS_IMPORT_LINES=100000 $(BIN)/pytest -n0 tests/management/test_import_enrollments.py -k as_a_process

test-postgres: $(VENV)/.dev ## what touches the database, on a throw-away PostgreSQL server of its own
	tests/with-postgres $(BIN)/pytest -n $(TEST_WORKERS) --dist worksteal $(addprefix tests/,actions audit device_api models nodes past preview service_api transfer)

test-history: $(VENV)/.dev ## both verifiers against every way of changing a history of 100,000 rows
	DPS_HISTORY_ROWS=100000 $(BIN)/pytest -k every_tampering tests/audit/test_verify.py

test-sdk: $(VENV)/.sdk $(SDK)/.installed ## the vendor's own SDKs, for devices and for management, on port 443 (Node.js, swtpm)
	$(BIN)/pytest -o addopts= -q tests/sdk

sdk-needs: $(VENV)/.dev
	@$(BIN)/python -m tests.sdk.needs

bench: $(VENV)/.dev ## what registrations, refusals and pages cost, up to a million enrollments; also as JSON in the data folder
	$(BIN)/python -m benchmarks --json $(DATA)/benchmarks/results.json

bench-quick: $(VENV)/.dev ## the same in two minutes, at small sizes
	$(BIN)/python -m benchmarks --size quick --json $(DATA)/benchmarks/quick.json

lint: $(VENV)/.dev ## ruff, mypy, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy dpsportal enrollments
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev ## let ruff put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.dev ## pin what the requirements*.in files ask for
	for set in requirements requirements-dev requirements-pkits requirements-sdk; do \
	  $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --strip-extras \
	    --allow-unsafe -o $$set.txt $$set.in; done

clean: ## remove what can be made again; the data folder stays
	rm -rf $(VENV) $(SDK) $(AXE) .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis .import_linter_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "dpsportal needs Python 3.11 or newer."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dpsportal needs Python 3.11 or newer; $(PYTHON) is older. Set PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt | $(VENV)/bin/python
	@echo "Installing what dpsportal needs into $(VENV) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(VENV)/bin/python
	@echo "Installing what tests and lint need into $(VENV) …"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $@ $(VENV)/.runtime

$(VENV)/.pkits: requirements-pkits.txt $(VENV)/.dev
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-pkits.txt
	@touch $@

$(VENV)/.sdk: requirements-sdk.txt $(VENV)/.dev
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-sdk.txt
	@touch $@

$(SDK)/.installed: tests/sdk/package.json tests/sdk/package-lock.json | sdk-needs
	@npm ci --prefix tests/sdk --ignore-scripts --no-audit --no-fund
	@touch $@

$(DATA)/static/.collected: $(STATIC_SOURCES) $(VENV)/.runtime
	@$(BIN)/python manage.py collectstatic --noinput --verbosity 0
	@touch $@
