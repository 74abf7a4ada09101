# Every target stands on `setup`, which makes .venv once and again only when its inputs change.

PYTHON ?= python3
# Passed to pip for torch alone, e.g. TORCH_FLAGS="--index-url https://download.pytorch.org/whl/cpu".
TORCH_FLAGS ?=
# Passed to the program behind a target, e.g. make bench ARGS="--quick --json".
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.complete
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help setup demo test lint bench acceptance faults audit docs lock clean

help:
	@echo "make setup       the environment in .venv (Python 3.11+)"
	@echo "make demo        train on the built-in sample, classify three sentences, show the report's path"
	@echo "make test        lint and tests"
	@echo "make lint        ruff and mypy"
	@echo "make acceptance  what a release must show, on real data"
	@echo "make faults      kill, fill, corrupt: minutes long"
	@echo "make audit       known weaknesses of the locked dependencies (needs the network)"
	@echo "make bench       ours against peers, side by side        ARGS='--quick --json'"
	@echo "make docs        rewrite the generated parts of docs/"
	@echo "make lock        resolve requirements.lock anew          UPGRADE=--upgrade for newer versions"
	@echo "make clean       remove .venv and caches"

setup: $(STAMP)

# The hashed part first, so that torch finds all it needs and brings nothing but itself (and, where its build is
# for CUDA, the CUDA libraries). --no-deps: the lock is complete, and nothing outside it may slip in.
$(STAMP): requirements.lock requirements-torch.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pennyweight needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ": say make setup PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(PIP) --require-hashes --no-deps -r requirements.lock
	$(PIP) $(TORCH_FLAGS) -r requirements-torch.txt
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/pennyweight demo $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: export OMP_NUM_THREADS ?= 2
test: lint
	$(BIN)/python -m pytest --durations=10 $(ARGS)

acceptance: setup
	$(BIN)/python -m pytest -m acceptance $(ARGS)

faults: export OMP_NUM_THREADS ?= 1
faults: setup
	$(BIN)/python -m pytest -m faults $(ARGS)

audit: .venv-audit/bin/pip-audit
	@.ci/audit

.venv-audit/bin/pip-audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip --disable-pip-version-check install --quiet pip-audit==2.10.1

bench: setup
	$(BIN)/python benchmarks/train.py $(ARGS)

docs: setup
	$(BIN)/python docs/generate.py

# uv resolves for every platform and Python at once; pip installs. torch takes part in the resolution but stays out of
# the file, and so do the CUDA libraries that its PyPI build asks for on Linux.
UV := .venv-lock/bin/uv
CUDA := cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13 triton
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --disable-pip-version-check install --quiet uv==0.13.8
	printf '%s\n' $(CUDA) > .venv-lock/excludes.txt
	$(UV) pip compile pyproject.toml --extra embedded --extra track --extra search --extra dev \
		--constraint requirements-torch.txt --excludes .venv-lock/excludes.txt --no-emit-package torch \
		--universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
		--custom-compile-command "make lock" --output-file requirements.lock --quiet $(UPGRADE)

clean:
	rm -rf .venv .venv-audit .venv-lock .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
