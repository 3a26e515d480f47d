# The lock pins every package with its hashes; nothing outside it is installed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Tests wait for a third of their time, so more processes than cores are useful.
SPREAD := -n 4 --dist worksteal
# Only these directories contain such tests; collecting the others takes time.
WITH_SERVERS := tests/contract tests/faults tests/infra tests/integration tests/process tests/servers
# Three processes of about the same length: with xdist each one would collect all tests.
QUICK_1 := $(addprefix tests/unit/,pipeline repository)
QUICK_2 := $(addprefix tests/unit/,observability aws runtime test_service.py)
QUICK_3 := tests/unit tests/architecture $(addprefix --ignore=,$(QUICK_1) $(QUICK_2))
UV := .cache/tools/uv/bin/uv
INSTALL := infra/tools/install.py
RESOLVE := $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate
LOCK = $(RESOLVE) --python-version 3.11 $(ARGS)
CURRENT := --override infra/locks/overrides.txt
IMAGE ?= aup-worker
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' worker/__init__.py)
# The architectures of Fargate; PLATFORM is one of them, by default that of the engine's host.
PLATFORMS ?= linux/amd64,linux/arm64
ENGINE ?= $(or $(shell command -v podman),$(shell command -v docker))
# The format of OCI images, podman's default, has no HEALTHCHECK.
IMAGE_OPTIONS = $(if $(findstring podman,$(ENGINE)),--format docker) $(IMAGE_BUILD_OPTIONS) --file infra/Dockerfile \
	--build-arg VERSION="$(VERSION)" \
	--build-arg REVISION="$$(git rev-parse HEAD)"

.DEFAULT_GOAL := help
.PHONY: help demo quick test check format contract pip-tests pythons browser-tests console-screenshots servers infra-check infra-files kubernetes-check monitoring-check terraform-check host-tests engine image image-push image-tests sbom dist dist-tests release-notes nightly simulate mutants fuzz bench bench-peers scaling soak lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.run ## run the demo on an embedded AWS, in less than a minute
	@$(BIN)/aup-worker demo $(ARGS)

test: $(VENV)/.develop ## run every test that needs only pip
	$(BIN)/python -m pytest -m "not servers and not hosts and not browser and not dist" $(SPREAD) $(ARGS)

quick: $(VENV)/.develop ## lint changed files, then run the unit and architecture tests
	@changed=$$(git diff --name-only --diff-filter=d HEAD -- '*.py'; git ls-files --others --exclude-standard -- '*.py'); \
	test -z "$$changed" || { $(BIN)/ruff check --quiet $$changed && $(BIN)/ruff format --check --quiet $$changed; }
	@$(MAKE) --no-print-directory --output-sync=target --jobs=3 quick-1 quick-2 quick-3

# Exit code 5: ARGS select no test of this part.
quick-%:
	@$(BIN)/python -m pytest -q $(QUICK_$*) $(ARGS) || test $$? = 5

check: $(VENV)/.develop ## check lint, format, types and the layers of the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.develop ## fix lint and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

servers: $(VENV)/.develop ## download the real servers for the contract tests
	@$(BIN)/python -m tests.servers.download

contract: servers ## run the contract tests on DynamoDB Local, ministack and fauxqs
	$(BIN)/python -m pytest -m servers $(SPREAD) $(ARGS) --ignore tests/infra/test_terraform.py $(WITH_SERVERS)

browser-tests: servers $(VENV)/.browser ## test the console in Chromium (Debian: apt-get install chromium; CHROMIUM=path for another)
	$(BIN)/python -m pytest -m browser -n 2 --dist loadfile $(ARGS) tests/browser

console-screenshots: servers $(VENV)/.browser ## take the screenshots of the console in the README
	@$(BIN)/python -m tests.browser.screenshots

pip-tests: servers .cache/pip-sdk/.complete ## run the wire, contract and integration tests on the packages that pip chooses without our locks
	.cache/pip-sdk/bin/python -m pytest -m "not hosts" $(SPREAD) $(ARGS) tests/wire tests/contract tests/integration

pythons: $(VENV)/.develop ## run the unit, wire, golden and evidence tests on each Python from 3.11 to 3.14 that is installed
	@$(BIN)/python -m tests.pythons $(SPREAD) $(ARGS)

simulate: $(VENV)/.develop ## run 10,000 simulations with faults (SEEDS=n for another number, SEED=n to print the course of one)
	@$(BIN)/python -m tests.simulation

mutants: $(VENV)/.develop ## run mutation tests: each deliberate fault must make a test fail
	@$(BIN)/python -m tests.mutants $(ARGS)

fuzz: $(VENV)/.develop ## run 100,000 generated bodies (BODIES=n), then 200,000 coverage-guided ones (RUNS=n)
	@$(BIN)/python -m tests.fuzz
	@RUNS=$${RUNS:-200000} $(BIN)/python -m tests.fuzz.guided

bench: $(VENV)/.develop ## measure the cost of the worker on a stub of AWS (ARGS=--quick checks only the ratios)
	@$(BIN)/python -m tests.bench $(ARGS)

bench-peers: $(VENV)/.develop ## compare the worker with other consumers of SQS, each installed from its lock
	@$(BIN)/python -m tests.bench --peers $(ARGS)

scaling: $(VENV)/.develop ## simulate the scaling policy under bursts and failures, and write the chart (ARGS="--rate 5000/s" for one rate)
	@$(BIN)/python -m tests.scaling $(ARGS)

soak: servers ## kill workers at random on real servers behind a faulty proxy (SECONDS=n, WORKERS=n)
	@$(BIN)/python -m tests.soak $(ARGS)

infra-check: $(VENV)/.develop .cache/tools/hadolint/.complete kubernetes-check monitoring-check ## check all of infra/ that needs no server
	@$(BIN)/python -m tests.infra.check_templates
	@$(BIN)/python -m tests.infra.check_hosts

kubernetes-check: $(VENV)/.develop ## render infra/kubernetes, validate it against the schemas, and audit it
	@$(BIN)/python -m tests.infra.check_kubernetes

monitoring-check: $(VENV)/.develop ## check the rules and the dashboard of Prometheus, and test each alert
	@$(BIN)/python -m tests.infra.check_monitoring

terraform-check: servers ## check the Terraform module, and apply, change and destroy it on an emulator
	$(BIN)/python -m pytest tests/infra/test_terraform.py -rs $(ARGS)

infra-files: $(VENV)/.develop ## write the files of infra/ that derive from others
	@$(BIN)/python -m tests.infra.generate

host-tests: $(VENV)/.develop ## run the service on a systemd booted for it (needs root on Linux)
	$(BIN)/python -m pytest -m hosts $(ARGS) tests/infra

image-tests: $(VENV)/.develop ## build and run the image on a host created for it (needs root, debootstrap, `make servers`)
	@$(BIN)/python -m tests.infra.image_host $(ARGS)

image: engine ## build the image for the host or PLATFORM=linux/arm64 (IMAGE_BUILD_OPTIONS for options of the engine)
	$(ENGINE) build $(if $(PLATFORM),--platform $(PLATFORM)) $(IMAGE_OPTIONS) --tag $(IMAGE) .
	@built=$$($(ENGINE) image inspect --format '{{.Os}}/{{.Architecture}}' $(IMAGE)) && \
	case "$(PLATFORM)" in ''|$$built|$$built/*) echo "$(IMAGE) is built for $$built";; \
		*) echo "$(IMAGE) is built for $$built, expected $(PLATFORM); does the engine emulate it?" >&2; exit 1;; esac

image-push: engine ## build the image for PLATFORMS and push it to the registry that IMAGE names
ifneq ($(findstring podman,$(ENGINE)),)
	$(ENGINE) build --platform $(PLATFORMS) $(IMAGE_OPTIONS) --manifest $(IMAGE) .
	$(ENGINE) manifest push --all $(IMAGE) docker://$(IMAGE)
else
	$(ENGINE) buildx build --platform $(PLATFORMS) $(IMAGE_OPTIONS) --tag $(IMAGE) --push .
endif

engine:
	@test -n "$(ENGINE)" || { echo "podman or docker is required" >&2; exit 2; }

sbom: .cache/tools/cyclonedx/.complete ## write the software bill of materials as CycloneDX JSON
	@mkdir -p dist
	@.cache/tools/cyclonedx/bin/python infra/sbom.py >dist/aup-worker.cdx.json
	@echo dist/aup-worker.cdx.json

dist: .cache/tools/release/.complete ## build wheel and sdist of the current commit, reproducibly, and list what they contain
	@.cache/tools/release/bin/python infra/dist.py

dist-tests: dist $(VENV)/.develop ## check wheel and sdist, install them with pip and pipx without our locks, and run the demo from there
	$(BIN)/python -m pytest -m dist $(ARGS) tests/dist

release-notes: ## print the changes of VERSION from the changelog, by default of this version
	@awk -v heading="## [$(VERSION)]" '/^## /{found = index($$0, heading) == 1; any += found; next} found; \
		END {exit !any}' CHANGELOG.md || { echo "CHANGELOG.md has no section [$(VERSION)]" >&2; exit 2; }

nightly: ## run what takes longer than .ci/run, one after the other (needs what its targets need)
	@.ci/nightly

# uv takes the overrides for the packages that pin others too narrowly; pip, which does not, installs with --no-deps.
lock: .cache/tools/uv/.complete ## resolve the lock files again (ARGS=--upgrade for current releases)
	@test -x $(UV) || { echo "make lock needs uv: set PIP_INDEX_URL in place of the configuration of pip, and run make clean" >&2; exit 2; }
	$(LOCK) $(CURRENT) $(addprefix --extra=,build console demo) pyproject.toml -o infra/locks/requirements.lock
	$(LOCK) $(CURRENT) --all-extras -c infra/locks/requirements.lock pyproject.toml -o infra/locks/requirements-dev.lock
	$(LOCK) $(CURRENT) --extra otel -c infra/locks/requirements-dev.lock pyproject.toml -o infra/locks/requirements-run.lock
	$(LOCK) $(addprefix --extra=,build console demo otel test) pyproject.toml -o infra/locks/requirements-pip.lock
	echo hatchling | $(LOCK) -c infra/locks/requirements.lock - -o infra/locks/requirements-build.lock
	$(LOCK) -c infra/locks/requirements-dev.lock tests/browser/playwright.in -o tests/browser/playwright.lock
	$(LOCK) infra/tools/release.in -o infra/tools/release.lock
	$(LOCK) infra/tools/uv.in -o infra/tools/uv.lock
	@for tool in checkov grafana kubernetes; do \
		$(LOCK) tests/infra/$$tool.in -o tests/infra/$$tool.lock || exit; \
	done
	@for peer in boto3 fanferro powertools sqs_workers taskiq; do \
		$(RESOLVE) --python-version $$(test $$peer = fanferro && echo 3.12 || echo 3.11) \
			tests/bench/peers/locks/$$peer.in -o tests/bench/peers/locks/$$peer.lock || exit; \
	done

clean: ## remove everything that make created
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis dist

# Tools whose dependencies conflict with ours, each in its own virtual environment.
.cache/tools/%/.complete: infra/tools/%.lock .cache/tools/uv/.complete
	@rm -rf $(@D) && $(PYTHON) -m venv --without-pip $(@D)
	@$(@D)/bin/python $(INSTALL) $< $(UV)
	@touch $@

# Without uv, pip installs everything. uv does not read the files of pip's configuration.
.cache/tools/uv/.complete: infra/tools/uv.lock $(VENV)/bin/python
	@rm -rf $(@D) && mkdir -p $(@D)
	@if $(PIP) config list | grep -Eq '^[a-z]+\.(index-url|no-index|proxy|client-cert|trusted-host)='; \
		then echo "the configuration of pip names an index or a proxy; pip installs everything"; \
		else $(PIP) install --no-deps --require-hashes --target $(@D) -r $< || echo "uv cannot be installed; pip installs everything"; fi
	@touch $@

# Resolved without overrides: the requirements of all packages are met.
.cache/pip-sdk/.complete: infra/locks/requirements-pip.lock pyproject.toml .cache/tools/uv/.complete
	@rm -rf $(@D) && $(PYTHON) -m venv --without-pip $(@D)
	@$(@D)/bin/python $(INSTALL) $< $(UV)
	@$(PIP) --python $(@D)/bin/python install --no-build-isolation -e .
	@$(PIP) --python $(@D)/bin/python check
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is required; install it, or pass make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) has no working venv module; install it (on Debian: apt-get install python3-venv)" >&2; exit 2; }

$(VENV)/.run: $(VENV)/bin/python .cache/tools/uv/.complete infra/locks/requirements.lock pyproject.toml
	@$(BIN)/python $(INSTALL) infra/locks/requirements.lock $(UV)
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.develop: $(VENV)/.run infra/locks/requirements-dev.lock
	@$(BIN)/python $(INSTALL) infra/locks/requirements-dev.lock $(UV)
	@touch $@

$(VENV)/.browser: $(VENV)/.develop tests/browser/playwright.lock
	@$(BIN)/python $(INSTALL) tests/browser/playwright.lock $(UV)
	@touch $@
