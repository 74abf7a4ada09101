#!/usr/bin/env bash
# Tests and benchmark of the GPU path in under nine minutes, without a network. One JSON object on standard output.
#
#   benchmarks/gpu.sh                 on the CUDA device at hand
#   benchmarks/gpu.sh --rehearsal     the whole on a CPU with tiny shapes
#
# PYTHON names the interpreter (default: .venv's, else python3). What it lacks is taken from wheels in the folder that
# WHEELS names, if one is named, and put into a temporary folder; nothing is downloaded. What fails is named, and the
# rest goes on.
set -uo pipefail
cd "$(dirname "$0")/.."

PYTHON="${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}"
export PYTHONPATH="$PWD/src" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
carried="$(mktemp -d)"
trap 'rm -rf "$carried"' EXIT
if [ -n "${WHEELS:-}" ]; then
    install=("$PYTHON" -m pip install --quiet --no-index --no-deps --target "$carried")
    "${install[@]}" "$WHEELS"/*.whl >&2 || for wheel in "$WHEELS"/*.whl; do
        "${install[@]}" "$wheel" >&2 || echo "not installed: $wheel" >&2
    done
    export PYTHONPATH="$carried:$PYTHONPATH"
fi

failed=0
if ! "$PYTHON" benchmarks/gpu.py --missing pytest hypothesis; then
    echo "the tests are left out: they need pytest and hypothesis" >&2
    failed=1
elif [ "${1:-}" = --rehearsal ]; then
    export PENNYWEIGHT_GPU_TESTS_ON=cpu
    "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu tests/gpu -k "minilm or modernbert or stopped or again" >&2 || failed=1
else
    # Another version of a package may warn where ours do not, and an older pytest will do; a test that hangs is
    # interrupted, so that pytest still says what failed before.
    timeout -s INT -k 10 180 "$PYTHON" -m pytest -q -p no:cacheprovider -o minversion=7 -W default -m gpu tests/gpu >&2 ||
        failed=1
fi
"$PYTHON" benchmarks/gpu.py "$@" || failed=1
exit "$failed"
