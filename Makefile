# setup | setup-systems | setup-clients | demo | test | check | bench | format, and lock | clean. ARGS go to the command: make demo ARGS="--seconds 30"

FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
SOURCES := $(wildcard opportune state flows api bench tests)
# Suites that start processes and a broker run one after the other, the others side by side.
SERIAL := $(wildcard tests/kafka tests/integration tests/api tests/crash)
PARALLEL := $(filter-out $(addsuffix /,$(SERIAL)) tests/__pycache__/,$(wildcard tests/*/))
QUICK := $(wildcard tests/unit tests/contracts tests/language tests/simulation)
PYTEST := $(BIN)/python -m pytest

.PHONY: setup setup-systems setup-clients demo test check lint imports types bench format lock clean

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed: install it, or say PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c '$(FITS)' || { echo "$(PYTHON) is neither Python 3.11 nor 3.12"; exit 1; }
	@echo "Installing the locked packages into .venv: this takes some minutes, the first time only."
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What the tests of warehouse sources need beside `make setup`: drivers, lakes, a server that speaks S3. PostgreSQL itself is a
# package of the system.
setup-systems: setup .venv/.systems

.venv/.systems: requirements-systems.lock .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-systems.lock
	@touch $@

# The event clients of npm, of servers and of browsers, that tests/api drives: needs node and npm, and for browsers Chromium.
setup-clients: .cache/clients/.ready

.cache/clients/.ready: tests/api/clients/package.json
	@mkdir -p .cache/clients
	cp $< .cache/clients/
	cd .cache/clients && npm install --silent --no-audit --no-fund --ignore-scripts --no-package-lock --omit=optional
	@touch $@

demo: setup
	$(BIN)/opportune demo examples/shop $(ARGS)

test: setup
	@status=0; \
	$(PYTEST) -n 2 --dist worksteal $(PARALLEL) $(ARGS) || status=1; \
	$(PYTEST) $(SERIAL) $(ARGS) || status=1; \
	exit $$status

check: lint imports types
	OPPORTUNE_STEPS=0 $(PYTEST) -n 2 --dist worksteal $(QUICK)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

imports: setup
	$(BIN)/lint-imports

types: setup
	$(BIN)/mypy $(SOURCES)

bench: setup
	$(BIN)/python -m bench $(ARGS)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Keeps the pinned versions that still fit; to take newer ones, remove requirements.lock first.
lock:
	@mkdir -p .cache
	test -x .cache/lock/bin/pip-compile || { $(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install --quiet pip-tools; }
	$(call compile,dev,requirements.lock,Every package that `make setup` installs)
	$(call compile,dev --extra systems,requirements-systems.lock,Every package that `make setup-systems` installs)

# compile EXTRAS FILE WHAT: one lock file.
define compile
	rm -f .cache/$(2)
	test ! -f $(2) || cp $(2) .cache/$(2)
	.cache/lock/bin/pip-compile --quiet --extra $(1) --strip-extras --allow-unsafe --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
		-o .cache/$(2) pyproject.toml
	{ echo '# $(3), with its hashes. Made from pyproject.toml by `make lock`; do not edit.'; \
	  echo '# Valid for Python 3.11 and 3.12 on Linux x86-64.'; \
	  cat .cache/$(2); } > $(2)
endef

clean:
	rm -rf .venv .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
