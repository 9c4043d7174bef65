.DEFAULT_GOAL := help
.PHONY: help setup browser npm test test-cli check bench demo format lock clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV = $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
PIP := $(BIN)/python -m pip --disable-pip-version-check
GET_UV = { test -x "$(UV)" || $(PIP) install --quiet uv; }
# The first interpreter here that is new enough.
PYTHON = $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
TEST_SETTINGS := DJANGO_SETTINGS_MODULE=tests.settings
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
# What does not depend on the database is tested on SQLite alone.
ONCE := browser connect_pages demo docs key_pages openapi outbound return_page return_urls sandbox \
	simulate tooling
# Stripe's CLI, as npm unpacks it.
CLI_VERSION := 1.52.0
CLI := $(VENV)/stripe-cli-$(CLI_VERSION)
# A JavaScript library that verifies tokens, to see that others can verify ours.
JOSE_VERSION := 6.2.17
JOSE := $(VENV)/jose-$(JOSE_VERSION)
NPM_INSTALL := npm install --no-save --no-package-lock --no-audit --no-fund --ignore-scripts \
	--loglevel=error --prefix

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## Install everything into .venv

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Allegro needs Python 3.11 or newer; none was found." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Could not create $(VENV); Debian and Ubuntu need the package python3-venv." >&2; exit 1; }

# An index that only pip's own configuration names is out of uv's sight: pip is the fallback.
$(STAMP): requirements.txt requirements-dev.txt | $(BIN)/python
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(VENV) has a Python older than 3.11; run: make clean setup" >&2; exit 1; }
	$(GET_UV) && $(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python requirements-dev.txt || \
	  $(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@

browser: setup
	@.ci/browser

test: browser ## Run the tests on SQLite, then on PostgreSQL; ARGS="-k refund" narrows them
	DATABASE_URL= $(PYTEST) $(ARGS)
	$(BIN)/python -m tests.postgres $(PYTEST) $(ONCE:%=--ignore tests/test_%.py) $(ARGS)

test-cli: setup $(CLI) $(JOSE) ## Run Stripe's CLI and a JavaScript JWT library (from npm) against the product
	STRIPE_CLI=$$(echo $(CLI)/node_modules/@stripe/cli-*/bin/stripe) JOSE=$(abspath $(JOSE)) \
	  DATABASE_URL= $(BIN)/python -m pytest tests/cli $(ARGS)

# Unpacked beside its place first, so that a broken download is not taken for it.
$(CLI): | $(BIN)/python npm
	@rm -rf $(CLI).new
	$(NPM_INSTALL) $(CLI).new @stripe/cli@$(CLI_VERSION)
	@ls $(CLI).new/node_modules/@stripe/cli-*/bin/stripe >/dev/null && mv $(CLI).new $(CLI)

$(JOSE): | $(BIN)/python npm
	@rm -rf $(JOSE).new
	$(NPM_INSTALL) $(JOSE).new jose@$(JOSE_VERSION)
	@mv $(JOSE).new $(JOSE)

npm:
	@command -v npm >/dev/null && command -v node >/dev/null || \
	  { echo "The tests with other people's tools need Node.js and npm, which were not found." >&2; exit 1; }

check: setup ## Lint, format, types, import rules, migrations, compiled requirements
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(TEST_SETTINGS) $(BIN)/python manage.py makemigrations --check --dry-run
	$(TEST_SETTINGS) $(BIN)/python manage.py check
	$(BIN)/python -m pytest -q tests/test_tooling.py -k requirements

bench: setup ## Run the benchmarks (20 minutes); ARGS="--seed 7" repeats one
	$(BIN)/python -m bench.crash $(ARGS)
	$(BIN)/python -m bench.kills $(ARGS)
	$(BIN)/python -m tests.postgres $(BIN)/python -m bench.mixed $(ARGS)
	$(BIN)/python -m tests.postgres $(BIN)/python -m bench.backlog $(ARGS)

demo: setup .env ## Run the whole product on this machine
	$(BIN)/python manage.py demo

.env: | $(STAMP)
	@umask 077 && $(BIN)/python -m allegro.new_env > .env.new || { rm -f .env.new; exit 1; }
	@mv .env.new .env

format: setup ## Rewrite the code to the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup ## Compile pyproject.toml into the requirements files
	@$(GET_UV)
	$(COMPILE) pyproject.toml --extra worker -o requirements.txt
	$(COMPILE) pyproject.toml --extra worker --group dev -c requirements.txt -o requirements-dev.txt

clean: ## Remove .venv and what the tools left behind
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
