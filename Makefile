# make demo   the main job on real models and real documents
# make test   all tests that need neither torch nor a GPU
# Everything is installed into .venv (and .venv-torch); nothing outside this folder but the pulled models.

PY      := .venv/bin/python
TORCHPY := .venv-torch/bin/python
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find crates -name '*.rs' -o -name Cargo.toml)
PYTEST  := -m pytest -q
# Not for torch, which takes all cores by itself.
CORES   := -n auto --maxprocesses 4
NO_AMX  := -mno-amx-tile -mno-amx-int8 -mno-amx-bf16

.PHONY: help demo test test-rust test-python test-torch check bench fuzz reliability clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
	@echo 'make test-torch | check | bench | fuzz | reliability | clean'

# The first line of every goal: a tool that is missing is named before anything is installed or built.
.venv/.native: $(SOURCES)
	@sh scripts/setup.sh .venv docs
	@touch $@

.venv/.test: .venv/.native
	@sh scripts/install.sh .venv --group test
	@touch $@

.venv/.check: .venv/.native
	@sh scripts/install.sh .venv --group check
	@touch $@

.venv-torch/.ready: .venv/.native
	@sh scripts/setup.sh .venv-torch docs
	@sh scripts/install.sh .venv-torch --group test --group torch
	@touch $@

demo: .venv/.native
	@$(PY) examples/demo/demo.py

test: test-rust test-python

# All packages are selected, the bindings too: the same features as the wheel, so nothing is compiled twice.
test-rust: .venv/.native
	cargo test --release --locked --workspace -q

test-python: .venv/.test
	$(PY) $(PYTEST) $(CORES)

test-torch: .venv-torch/.ready
	$(TORCHPY) $(PYTEST) -m torch

check: .venv/.test .venv/.check
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m mypy.stubtest ai_os_diffusion._native --ignore-disjoint-bases
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -q -- -D warnings

# Built by gcc 12, llama.cpp crashes in its AMX code: its tile configuration names too few bytes as input.
.venv-torch/.bench: .venv-torch/.ready
	@CMAKE_ARGS="-DGGML_NATIVE=ON -DCMAKE_C_FLAGS='$(NO_AMX)' -DCMAKE_CXX_FLAGS='$(NO_AMX)'" \
		sh scripts/install.sh .venv-torch --group bench
	@touch $@

bench: .venv-torch/.bench
	$(TORCHPY) benchmarks/run.py

fuzz:
	sh scripts/fuzz.sh

reliability: .venv/.test
	AIOS_CRASH_SEEDS=100 cargo test --release --locked -p arrow_storage --test power_loss --test torn_or_damaged -- --nocapture
	AIOS_KILLS=2000 AIOS_DAMAGES=2000 $(PY) $(PYTEST) tests/durability tests/evolution
	AIOS_HUB_ANSWERS=5000 $(PY) $(PYTEST) tests/models/hub
	AIOS_DOCUMENTS=3000 AIOS_PDF_MUTATIONS=500 $(PY) $(PYTEST) tests/property tests/ingestion

clean:
	rm -rf target .venv .venv-torch .cache
