#!/usr/bin/env bash
# Tests and benchmark of the GPU path in under nine minutes, without a network. One JSON object on standard output.
#
#   benchmarks/gpu.sh                 on the CUDA device at hand
#   benchmarks/gpu.sh --rehearsal     the whole on a CPU with tiny shapes
#
# PYTHON names the interpreter (default: .venv's, else python3). What it lacks is installed from wheels in the folder
# that WHEELS names, if one is named; nothing is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON="${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}"
export PYTHONPATH="$PWD/src" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if [ -n "${WHEELS:-}" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl
fi

failed=0
if [ "${1:-}" = --rehearsal ]; then
    export PENNYWEIGHT_GPU_TESTS_ON=cpu
    "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu tests/gpu -k "minilm or modernbert or stopped or again" >&2 || failed=1
else
    timeout 180 "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu tests/gpu >&2 || failed=1
fi
"$PYTHON" benchmarks/gpu.py "$@"
exit "$failed"
