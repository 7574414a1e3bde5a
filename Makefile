# `make run` shows a module at work, `make test` checks everything; each sets up what it needs in .venv first.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

BACKENDS := memory redis filesystem
BACKEND ?= memory

# What the tests need of the extras in pyproject.toml.
EXTRAS := dev,fast,redis,aws,azure,azapp,completion,kafka,mqtt,nats,postgres,secrets

# The first Python that is new enough.
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
BIN := .venv/bin

# $(call apt,PACKAGES,WHAT): installs Debian packages, or says how to where only root may.
define apt
if [ "$$(id -u)" = 0 ]; then \
	echo "installing $(1)" && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(1) >/dev/null; \
else echo "$(2) is missing; type: sudo apt install $(1)" >&2; exit 1; fi
endef

# $(call need,PROGRAM,PACKAGES): the same where PROGRAM is missing.
define need
@command -v $(1) >/dev/null || $(call apt,$(2),$(1))
endef

.PHONY: run known-backend test test-pythons fuzz bench wheel bindings setup-run setup-test clean

run: known-backend setup-run
	@$(BIN)/python examples/build.py keyvalue-demo-c
	@$(MAKE) run-$(BACKEND)

known-backend:
	@test -n "$(filter $(BACKEND),$(BACKENDS))" || { echo "BACKEND=$(BACKEND): there are $(BACKENDS)" >&2; exit 2; }

.PHONY: run-memory run-redis run-filesystem
run-memory:
	$(BIN)/slight-py run examples/build/keyvalue-demo-c.wasm -c examples/keyvalue-demo-c/slightfile.toml

run-filesystem:
	$(BIN)/slight-py run examples/build/keyvalue-demo-c.wasm -c examples/keyvalue-demo-c/slightfile-filesystem.toml

# In a Redis of its own, at a socket rather than a port, which may be taken.
run-redis: .venv/redis
	$(call need,redis-server,redis-server)
	@directory=$$(mktemp -d); \
	redis-server --port 0 --unixsocket $$directory/redis.sock --save '' >$$directory/log & redis=$$!; \
	trap 'kill $$redis; wait $$redis || true; rm -r $$directory' EXIT; \
	for _ in $$(seq 50); do test -S $$directory/redis.sock && break; sleep 0.1; done; \
	export REDIS_ADDRESS=unix://$$directory/redis.sock; \
	command="$(BIN)/slight-py run examples/build/keyvalue-demo-c.wasm -c examples/keyvalue-demo-c/slightfile-redis.toml"; \
	echo "REDIS_ADDRESS=$$REDIS_ADDRESS $$command"; $$command

test: setup-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@$(MAKE) --jobs=2 test-compiler-and-images test-rest

# What the tests start is not this make's: rustc complains of a jobserver that is named in its environment and not there.
APART := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL

# Two halves of the tests, which take as long as each other and are run side by side.
.PHONY: test-compiler-and-images test-rest
test-compiler-and-images:
	$(APART) $(BIN)/python -m pytest tests/bindgen tests/unikernel
	$(APART) $(BIN)/python -m tests.pythons --part --extras $(EXTRAS)
test-rest:
	$(APART) $(BIN)/python -m pytest --ignore=tests/bindgen --ignore=tests/unikernel

# All tests, with every version of Python that the machine has.
test-pythons: setup-test
	$(BIN)/python -m pytest
	$(BIN)/python -m tests.pythons --extras $(EXTRAS)

# Looks for what breaks the runtime, for MINUTES, with the cases of SEED where it is given.
MINUTES ?= 10
fuzz: .venv/test
	@$(BIN)/python examples/build.py bare-c keyvalue-demo-c kv-2022-c on-server-init
	$(BIN)/python -m tests.fuzz run --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

bench: setup-test
	@$(BIN)/python examples/build.py http-server-demo-rust keyvalue-demo-rust
	$(BIN)/python -m bench.calls
	$(BIN)/python -m bench.http $(SAVED)
	@$(BIN)/python examples/build.py component-hello-c component-echo-c
	@if command -v wasmtime >/dev/null; then $(BIN)/python -m bench.components $(SAVED); \
	else echo 'not measured, as there is no wasmtime on PATH: components beside `wasmtime serve` (see bench/README.md)'; fi
	$(BIN)/python -m bench.profile $(SAVED)
	$(BIN)/python -m bench.image $(SAVED)

# The package in dist/, with the kernel of native images in it: who installs it needs no Rust.
wheel: setup-run
	$(BIN)/python -m unikernel.native unikernel/native/kernel.elf
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

# With SAVE=1, numbers, plots and tables go into docs/.
SAVED := $(if $(SAVE),--save)

# Writes the generated bindings anew, after a change in wit/ or in the generator.
bindings: setup-run
	for each in $(BINDINGS); do \
		$(BIN)/slight-py bindgen $${each%%:*} $(INTERFACES) --out-dir $${each#*:}; done
	$(BIN)/slight-py bindgen $(MACHINE) --out-dir unikernel/native/src/bindings
	for each in $(WASI); do \
		$(BIN)/slight-py bindgen python --package wit/wasi/$${each%%:*} $$(echo $${each#*:} | tr , ' ') \
			--deps wit/wasi --out-dir capabilities/bindings; done
	cd examples/custom-capability && for language in 'python slight_greeter' 'c .'; do set -- $$language; \
		$(CURDIR)/$(BIN)/slight-py bindgen $$1 --import greeter.wit --out-dir $$2; done

INTERFACES := $(foreach each,keyvalue http-server http-client messaging configs distributed-locking sql blob-store compat/kv,\
	--import wit/$(each).wit) --export wit/http-handler.wit --export wit/http-server-export.wit

# What the native machine offers.
MACHINE := rust --side host $(foreach each,keyvalue compat/kv http-server,--import wit/$(each).wit) \
	--export wit/http-handler.wit --export wit/http-server-export.wit

# The packages of WASI, and whose imports and exports are meant: those of a world or of interfaces. The features are not
# yet in any version, and offered as they are.
WASI := cli-0.2:--world=command,--features=network-error-code \
	http-0.2:--world=proxy,--features=informational-outbound-responses \
	cli-0.3:--world=command http-0.3:--world=middleware \
	clocks-0.2:--interface=timezone,--interface=wall-clock,--features=clocks-timezone \
	clocks-0.3:--interface=timezone,--interface=system-clock,--interface=types,--features=clocks-timezone \
	keyvalue-0.2.0-draft:--world=watch-service keyvalue-0.2.0-draft2:--world=watch-service \
	config-0.2.0-draft:--interface=runtime config-0.2.0-draft:--interface=store \
	config-0.2.0-draft-2024-09-27:--world=imports config-0.2.0-rc.1:--world=imports logging-0.1.0-draft:--world=imports

# Their languages, and where they are.
BINDINGS := python:capabilities/bindings c:examples/bindings/c rust:examples/bindings/rust

# A virtual environment. Debian's Python comes without the module that makes one.
.venv/made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is missing; type: sudo apt install python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call apt,python3-venv,Python's venv)
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/run: .venv/made pyproject.toml slight_py/_store.c slight_py/_slots.c bindgen/runtime/_support.c
	@echo "setting up .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . ziglang==0.17.0
	@touch $@

.venv/redis: .venv/run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[redis]'
	@touch $@

# The tests run with the store in C and without it, so here a compiler is no option.
.venv/test: .venv/made pyproject.toml slight_py/_store.c slight_py/_slots.c bindgen/runtime/_support.c
	$(call need,cc,gcc)
	@$(BIN)/python -c 'import os, sys, sysconfig; \
		sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || \
		$(call apt,python3-dev,The headers of Python)
	@echo "setting up .venv for the tests"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@ .venv/run .venv/redis

setup-run: .venv/run

setup-test: .venv/test
	$(call need,redis-server,redis-server)
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || $(call apt,postgresql,PostgreSQL)
	$(call need,etcd,etcd-server)
	$(call need,etcdctl,etcd-client)
	$(call need,mosquitto,mosquitto)
	$(call need,nats-server,nats-server)
	$(call need,java,default-jre-headless)
	$(call need,mvn,maven)
	$(call need,openssl,openssl)
	$(call need,wrk,wrk)
	$(call need,clippy-driver,rust-clippy)
	$(call need,rustfmt,rustfmt)
	$(call need,curl,curl)
	$(call need,tinyproxy,tinyproxy)
	$(call need,qemu-system-x86_64,qemu-system-x86)
	$(call need,qemu-img,qemu-utils)
	$(call need,mkfs.erofs,erofs-utils)
	@ls /usr/src/linux-source-*.tar.xz >/dev/null 2>&1 && command -v flex bison bc xz >/dev/null && \
		test -e /usr/include/libelf.h || \
		$(call apt,linux-source make gcc binutils flex bison bc xz-utils libelf-dev,What the kernel of an image is built with)
	@$(BIN)/python -c 'from unikernel import kernel; [kernel.obtain(kind=each, progress=print) for each in ("built", "cloud")]'
	@$(BIN)/python -c 'from examples.build import find_rustc; find_rustc()' 2>/dev/null || \
		$(call apt,rustc cargo libstd-rust-dev-wasm32 lld,Rust for wasm)
	@$(BIN)/python -m tests.rust_toolchain
	@$(BIN)/python -m unikernel.native >/dev/null
	@$(BIN)/python -m tests.component_toolchain
	@$(BIN)/python -m tests.uhyve >/dev/null
	@$(BIN)/python -c 'from slight_py.javascript import engine; engine.objects(None, print)'
	$(call need,npm,npm)
	@$(BIN)/python -m tests.azurite_server
	@$(BIN)/python -m tests.kafka_server

clean:
	rm -rf .venv .venv-3.* build dist examples/build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
