# make demo: train the built-in example.   make test: run the tests.   Both set up .venv when it is missing.
PYTHON ?= python3
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
BIN := .venv/bin

.PHONY: demo test test-slow test-exhaustive test-stand-in test-kernels test-gpu check docs site tutorials clean

demo: .venv/ready
	$(BIN)/balrl train --preset famo2o-iql/point-maze

test: .venv/ready
	$(BIN)/python -m pytest -n auto

test-slow: .venv/ready
	$(BIN)/python -m pytest -n auto -m 'slow and not exhaustive'

# All agents through torch's compiler, captured on the stand-in, and all tutorials: an hour.
test-exhaustive: .venv/ready
	$(BIN)/python -m pytest -n auto -m exhaustive
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m exhaustive -p tests.stand_in.plugin tests/stand_in

# The CUDA path, on two devices that are none; a process of its own, because they must be there before torch. Needs g++.
test-stand-in: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -p tests.stand_in.plugin tests/stand_in

# On a real GPU; skipped without one.
test-gpu: .venv/ready
	$(BIN)/python -m pytest tests/gpu tests/execution

# How many kernels a compiled update is on a GPU; needs Triton, which is large and which nothing else here uses.
TRITON := triton==3.9.0
test-kernels: .venv/ready build/$(TRITON)
	OMP_NUM_THREADS=1 PYTHONPATH=build/$(TRITON) $(BIN)/python -m pytest -p tests.stand_in.plugin tests/stand_in/test_kernels.py

build/$(TRITON): .venv/ready
	$(BIN)/pip install --quiet --no-deps --target $@ "$(TRITON)"

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Pages that are made of code and of results, as they stand in docs/.
docs: .venv/ready
	$(BIN)/python scripts/make_docs.py
	PYTHONPATH=. $(BIN)/python scripts/make_results.py
	$(BIN)/python scripts/make_algorithms.py

# The documentation's site, build/site/index.html: strict.
site: .venv/ready
	$(BIN)/python scripts/make_site.py

# Run every tutorial and write its page; some ten minutes.
tutorials: .venv/ready
	$(BIN)/python scripts/make_tutorials.py

clean:
	rm -rf .venv build dist *.egg-info

# On a machine without an NVIDIA GPU the CPU build of torch; a plain install would download gigabytes of CUDA libraries.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "balrl needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "Setting up .venv; this takes a few minutes the first time."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@if command -v nvidia-smi >/dev/null 2>&1; then \
		$(BIN)/pip install --quiet "torch==$(TORCH)"; \
	else \
		$(BIN)/pip install --quiet "torch==$(TORCH)+cpu" 2>/dev/null || \
		$(BIN)/pip install --quiet "torch==$(TORCH)" --index-url https://download.pytorch.org/whl/cpu; \
	fi
	@$(BIN)/pip install --constraint constraints.txt --editable '.[dev]' >.venv/install.log 2>&1 || \
		{ tail -n 20 .venv/install.log; echo "Setting up .venv failed; the whole log is .venv/install.log"; exit 1; }
	@touch $@
