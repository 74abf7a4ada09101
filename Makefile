# Every target depends on `setup`, which makes .venv anew only when its inputs change.

PYTHON ?= python3
# Passed to pip for torch alone, e.g. TORCH_FLAGS="--index-url https://download.pytorch.org/whl/cpu".
TORCH_FLAGS ?=
# Passed to the program behind a target, e.g. make bench ARGS="--quick --json".
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.complete
UV_VERSION := 0.13.8
EXTRAS := --extra embedded --extra track --extra search --extra onnx --extra openvino --extra serve --extra dev
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help setup demo test lint rehearsal wheel site bench acceptance isa random lowest scale faults audit docs lock clean

help:
	@echo "make setup       the environment in .venv (Python 3.11+)"
	@echo "make demo        train on the built-in sample, classify three sentences, show the report's path"
	@echo "make test        lint, tests, and the wheel in an environment of its own"
	@echo "make lint        ruff and mypy"
	@echo "make wheel       build, install without the repository, run the demo   ARGS=--whole installs all anew"
	@echo "make site        the documentation as pages in build/site, and their tests"
	@echo "make acceptance  what a release must show: on real data, then isa, random, lowest and scale"
	@echo "make isa         tests that depend on arithmetic, for four kinds of processor"
	@echo "make random      all tests in random order               ARGS=--random-order-seed=N to repeat one"
	@echo "make lowest      all tests on the lowest versions that pyproject.toml allows, in .venv-lowest (7 GB)"
	@echo "make scale       tests on Ray and an S3 server, kills among them, in .venv-scale (400 MB on top of .venv)"
	@echo "make faults      kills, full disks, corrupted files: takes minutes"
	@echo "make audit       known vulnerabilities of the locked dependencies (needs the network)"
	@echo "make bench       ours against peers, side by side        ARGS='--quick --json'"
	@echo "make docs        rewrite the generated parts of docs/"
	@echo "make lock        resolve requirements.lock anew          UPGRADE=--upgrade for newer versions"
	@echo "make clean       remove .venv and caches"

setup: $(STAMP)

# The hashed part first, so that torch finds all it needs and brings nothing but itself (and, where its build is
# for CUDA, the CUDA libraries). --no-deps: the lock is complete, and nothing outside it may slip in.
$(STAMP): requirements.lock requirements-torch.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pennyweight needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ": run make setup PYTHON=python3.12")'
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

# Two processes of one thread each: most of the suite is Python and start-up, which a second thread does not speed up.
# A file's tests stay together, so that what its fixtures train is trained once.
test: export OMP_NUM_THREADS ?= 1
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10 $(ARGS)
	$(MAKE) -j 2 rehearsal wheel ARGS= >/dev/null

rehearsal: setup
	PYTHON=$(BIN)/python benchmarks/gpu.sh --rehearsal

wheel: export OMP_NUM_THREADS ?= 2
wheel: setup
	PYTHON=$(BIN)/python TORCH_FLAGS="$(TORCH_FLAGS)" scripts/try_wheel.sh $(ARGS)

# mkdocs reads the source and imports none of it, so that its environment needs nothing of .venv.
SITE := .venv-site
site: setup $(SITE)/.complete
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict --quiet
	$(BIN)/python -m pytest --quiet tests/test_site.py $(ARGS)

$(SITE)/.complete: requirements-docs.txt
	$(PYTHON) -m venv --clear $(SITE)
	$(SITE)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r requirements-docs.txt
	@touch $@

acceptance: setup
	$(BIN)/python -m pytest -m acceptance $(ARGS)
	$(MAKE) isa random lowest scale ARGS=

# oneDNN chooses its kernels by the processor; here it takes those of older ones, down to AVX2, then this one's own.
ISA := AVX2 AVX512_CORE AVX512_CORE_BF16 DEFAULT
NUMERIC := tests/model tests/train tests/predict tests/test_pairs.py tests/test_multi_label.py
isa: export OMP_NUM_THREADS ?= 2
isa: setup
	@for isa in $(ISA); do \
		echo "ONEDNN_MAX_CPU_ISA=$$isa"; \
		ONEDNN_MAX_CPU_ISA=$$isa $(BIN)/python -m pytest --quiet $(NUMERIC) $(ARGS) || exit 1; \
	done

random: export OMP_NUM_THREADS ?= 2
random: setup
	$(BIN)/python -m pytest --random-order $(ARGS)

# pandas is a dependency of datasets, not of ours; the constraint is Colab's version.
LOWEST := .venv-lowest
lowest: export OMP_NUM_THREADS ?= 2
lowest: export HF_HUB_OFFLINE = 1
lowest: $(LOWEST)/.complete
	$(LOWEST)/bin/python -m pytest $(ARGS)

$(LOWEST)/.complete: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet uv==$(UV_VERSION)
	echo "pandas==2.2.2" > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/uv pip compile pyproject.toml $(EXTRAS) --resolution lowest-direct \
		--python $(LOWEST)/bin/python --constraint $(LOWEST)/constraints.txt \
		--output-file $(LOWEST)/requirements.txt --quiet
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --quiet -r $(LOWEST)/requirements.txt
	$(LOWEST)/bin/uv pip install --python $(LOWEST)/bin/python --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Ray and moto are for these tests alone and stay out of requirements.lock. What .venv has is seen from here, not installed
# again: its folder is on the path, with the .pth files in it.
SCALE := .venv-scale
scale: export OMP_NUM_THREADS ?= 1
scale: export HF_HUB_OFFLINE = 1
scale: $(SCALE)/.complete
	$(SCALE)/bin/python -m pytest -m "acceptance or not acceptance" tests/scale tests/acceptance/test_examples.py $(ARGS)

$(SCALE)/.complete: $(STAMP)
	$(PYTHON) -m venv --clear $(SCALE)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> $$($(SCALE)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/venv.pth
	$(SCALE)/bin/python -m pip --disable-pip-version-check install --quiet --no-build-isolation -e ".[ray]" "moto[server]>=5.2,<5.3"
	@touch $@

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
	$(BIN)/python benchmarks/predict.py $(ARGS)
	$(BIN)/python benchmarks/serve.py $(ARGS)

docs: setup
	$(BIN)/python docs/generate.py

# uv resolves for every platform and Python at once; pip installs. torch takes part in the resolution but stays out of
# the file, and so do the CUDA libraries that its PyPI build asks for on Linux.
UV := .venv-lock/bin/uv
CUDA := cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13 triton
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --disable-pip-version-check install --quiet uv==$(UV_VERSION)
	printf '%s\n' $(CUDA) > .venv-lock/excludes.txt
	$(UV) pip compile pyproject.toml $(EXTRAS) \
		--constraint requirements-torch.txt --excludes .venv-lock/excludes.txt --no-emit-package torch \
		--universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
		--custom-compile-command "make lock" --output-file requirements.lock --quiet $(UPGRADE)

clean:
	rm -rf .venv .venv-site build .venv-audit .venv-lock .venv-lowest .venv-scale .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
