# The lock pins every package with its hashes; nothing outside it is installed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Part of what the tests do is waiting; many more processes than cores would starve each other.
SPREAD := -n 3 --dist worksteal
UV := .cache/uv/bin/uv
IMAGE ?= aup-worker

.DEFAULT_GOAL := help
.PHONY: help demo test check format contract servers infra-check host-tests image image-tests sbom simulate mutants fuzz bench scaling soak lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## the whole job on an embedded AWS, in under a minute
	@$(BIN)/aup-worker demo $(ARGS)

test: $(VENV)/.develop ## every test that needs nothing but pip
	$(BIN)/python -m pytest -m "not servers and not hosts" $(SPREAD) $(ARGS)

check: $(VENV)/.develop ## lint, format, types and the layers of the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.develop ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

servers: $(VENV)/.develop ## download the real servers that the contract is tested on
	@$(BIN)/python -m tests.servers.download

contract: servers ## the contract on DynamoDB Local, ministack and fauxqs
	$(BIN)/python -m pytest -m servers $(SPREAD) $(ARGS)

simulate: $(VENV)/.develop ## 10,000 simulated disasters (SEEDS=n for another number, SEED=n for one with its story)
	@$(BIN)/python -m tests.simulation

mutants: $(VENV)/.develop ## break the code on purpose, fault by fault, and see a test fail
	@$(BIN)/python -m tests.mutants $(ARGS)

fuzz: $(VENV)/.develop ## 100,000 generated bodies (BODIES=n), then 200,000 found by coverage (RUNS=n)
	@$(BIN)/python -m tests.fuzz
	@RUNS=$${RUNS:-200000} $(BIN)/python -m tests.fuzz.guided

bench: $(VENV)/.develop ## what the worker costs, on a stub of AWS (ARGS=--quick asserts the ratios only)
	@$(BIN)/python -m tests.bench $(ARGS)

scaling: $(VENV)/.develop ## how the number of tasks follows bursts and failures, simulated; writes the chart (ARGS="--rate 5000/s" for one rate)
	@$(BIN)/python -m tests.scaling $(ARGS)

soak: servers ## workers killed at random on real servers, behind faults (SECONDS=n, WORKERS=n)
	@$(BIN)/python -m tests.soak $(ARGS)

infra-check: $(VENV)/.develop .cache/tools/hadolint/.complete ## check what infra/ holds, each with its own tool
	@$(BIN)/python -m tests.infra.check_templates
	@$(BIN)/python -m tests.infra.check_hosts

host-tests: $(VENV)/.develop ## boot a systemd and run the service on it (needs root on Linux)
	$(BIN)/python -m pytest -m hosts $(ARGS)

image-tests: $(VENV)/.develop ## build and run the image in a host made for it (needs root, debootstrap, `make servers`)
	@$(BIN)/python -m tests.infra.image_host $(ARGS)

image: ## build the image (IMAGE_BUILD_OPTIONS for the engine's own options)
	@engine=$$(command -v podman || command -v docker) || { echo "podman or docker is needed" >&2; exit 2; }; \
	$$engine build $(IMAGE_BUILD_OPTIONS) --file infra/Dockerfile --tag $(IMAGE) \
		--build-arg VERSION="$$(sed -n 's/^__version__ = "\(.*\)"$$/\1/p' worker/__init__.py)" \
		--build-arg REVISION="$$(git rev-parse HEAD)" .

sbom: .cache/tools/cyclonedx/.complete ## the bill of materials of what the service runs on, as CycloneDX JSON
	@mkdir -p dist
	@.cache/tools/cyclonedx/bin/python infra/sbom.py >dist/aup-worker.cdx.json
	@echo dist/aup-worker.cdx.json

lock: ## resolve the locks anew
	@test -x $(UV) || { $(PYTHON) -m venv .cache/uv && .cache/uv/bin/python -m pip install -q uv; }
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--extra demo --extra build pyproject.toml -o infra/locks/requirements.lock
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--all-extras -c infra/locks/requirements.lock pyproject.toml -o infra/locks/requirements-dev.lock
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
		tests/infra/checkov.in -o tests/infra/checkov.lock
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--extra otel -c infra/locks/requirements-dev.lock pyproject.toml -o infra/locks/requirements-run.lock
	echo hatchling | $(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--no-annotate -c infra/locks/requirements.lock - -o infra/locks/requirements-build.lock

clean: ## remove what make made
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

# Tools that would not get on with our own dependencies, each locked in a place of its own.
.cache/tools/%/.complete: infra/tools/%.lock
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) has no working venv module: install it (on Debian: apt-get install python3-venv)" >&2; exit 2; }

$(VENV)/.run: $(VENV)/bin/python infra/locks/requirements.lock pyproject.toml
	@echo "installing from infra/locks/requirements.lock"
	@$(PIP) install --require-hashes -r infra/locks/requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.develop: $(VENV)/.run infra/locks/requirements-dev.lock
	@echo "installing from infra/locks/requirements-dev.lock"
	@$(PIP) install --require-hashes -r infra/locks/requirements-dev.lock
	@touch $@
