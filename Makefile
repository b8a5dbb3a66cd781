# The one command runner: people, the README and .ci/run call the same targets. Everything stays inside this folder.
PYTHON ?= python3
FUZZ_SECONDS ?= 60

# Two environments: one to build, test and show the library, one that also holds the libraries it is measured against.
VENV       := .venv
BENCH_VENV := .venv-bench

RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find crates \( -name '*.rs' -o -name Cargo.toml \) -not -path '*/target/*')

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint lint-rust lint-python test-rust test-python fuzz sanitize bench clean
# A recipe that fails leaves no half-made stamp behind.
.DELETE_ON_ERROR:
# Cargo and pytest use all cores by themselves; two recipes at once would fight for one environment.
.NOTPARALLEL:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-demo ## build, make sample files, load them on all cores, write demo.h5 and a plot
	@$(VENV)/bin/python examples/methylation.py

test: lint test-rust test-python fuzz ## lint everything, run every Rust, Python and documentation test, and fuzz

lint: lint-rust lint-python ## formatting, clippy, ruff, mypy --strict and the stubs against the built module

fuzz: ## run each fuzz target for FUZZ_SECONDS
	tools/fuzz $(FUZZ_SECONDS)

sanitize: ## run the tests of the arena under the address and the thread sanitizer
	tools/sanitize

bench: $(BENCH_VENV)/.stamp-bench ## measure against the peers: tables, benchmarks/results/*.json and the README's picture
	$(BENCH_VENV)/bin/python -m benchmarks $(ARGS)

clean: ## remove every built, installed and generated file
	rm -rf target build $(VENV) $(BENCH_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf demo.h5 demo-data demo-*.png benchmarks/data python/onecopy/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lint-rust: $(VENV)/.stamp-pip
	cargo fmt --all --check
	rustfmt --check --edition 2024 fuzz/fuzz_targets/*.rs
	PYO3_PYTHON="$(CURDIR)/$(VENV)/bin/python" cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo clippy --package onecopy-arena --package onecopy --features crash-points --all-targets --locked -- -D warnings

lint-python: $(VENV)/.stamp-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m mypy.stubtest onecopy._native --allowlist tools/stubtest-allowlist

# The extension crate is left out: its symbols are resolved by the interpreter that loads it, which a test binary is not.
test-rust:
	cargo test --workspace --exclude onecopy-python --locked --quiet
	cargo test --package onecopy-arena --features crash-points --test crash --locked --quiet
	cargo test --package onecopy --features crash-points --test crash --locked --quiet
	RUSTFLAGS="--cfg loom" cargo test --package onecopy-sync --lib --release --locked --quiet --target-dir target/loom
	RUSTFLAGS="--cfg loom" cargo test --package onecopy-arena --package onecopy-collections --lib --release --locked --quiet --target-dir target/loom models

test-python: $(VENV)/.stamp-test
	cargo build --package onecopy --example echo --locked --quiet
	$(VENV)/bin/python -W error -m pytest --quiet --doctest-modules python/onecopy tests

# ---- environments -------------------------------------------------------------------------------------------------------
# A stamp is younger than what it was made from, so a second run has nothing to do.

%/.stamp-pip: tools/make-venv
	@tools/make-venv "$(PYTHON)" $*
	@touch $@

%/.stamp-onecopy: %/.stamp-pip $(RUST_SOURCES)
	@echo "building onecopy for $* (a minute or two the first time)"
	@$*/bin/python -m pip install --group build
	@VIRTUAL_ENV="$(CURDIR)/$*" $*/bin/maturin develop --release --locked --quiet
	@touch $@

%/.stamp-test: %/.stamp-onecopy
	@echo "installing what the tests need"
	@$*/bin/python -m pip install --group test --group lint --group demo
	@touch $@

%/.stamp-demo: %/.stamp-onecopy
	@echo "installing what the demo needs"
	@$*/bin/python -m pip install --group demo
	@touch $@

%/.stamp-bench: %/.stamp-onecopy
	@echo "installing the libraries to compare with"
	@$*/bin/python -m pip install --group bench
	@touch $@

.PRECIOUS: %/.stamp-pip %/.stamp-onecopy %/.stamp-test %/.stamp-demo %/.stamp-bench
