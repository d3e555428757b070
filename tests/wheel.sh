#!/usr/bin/env bash
# Builds the source distribution and, from it, the wheel; installs the wheel into a new environment and tests that,
# in a folder without the sources.
#
#   tests/wheel.sh [PYTEST ARGUMENT ...]      e.g. tests/wheel.sh tests -m "not slow"; without arguments a slice
#
# PYTHON  the interpreter to install for (default: python3); the continuous integration runs 3.10 to 3.13
# DIST    a folder with a wheel to test; by default both distributions are built
set -euo pipefail
cd "$(dirname "$0")/.."

# What packaging can break: files of data, lazy imports, entry points, the plugin of pytest, child processes.
slice=(
    tests/test_imports.py tests/test_exports.py tests/test_plan.py tests/test_dockerfile.py tests/recipes tests/report
    tests/compatibility/test_plans_and_baselines.py tests/backends/test_child_process.py tests/cli/test_schemas.py
    tests/backends/tensorrt/test_gpus.py tests/whole/test_pytest_plugin.py
)
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset PYTHONPATH

say() { printf '\n== %s\n' "$*"; }

"$python" -m venv "$scratch/venv"
bin=$scratch/venv/bin
dist=${DIST:-$scratch/dist}
if [ -z "${DIST:-}" ]; then
    say "building the source distribution, and the wheel from it"
    "$bin/python" -m pip install -q build
    "$bin/python" -m build --outdir "$dist" . | tail -n 1
fi
wheel=$(ls "$dist"/autoprec-*.whl)

say "installing $(basename "$wheel") for $("$python" -V)"
"$bin/python" -m pip install -q --prefer-binary "$wheel[dev]"
away=$scratch/away
mkdir "$away"
cp -r tests examples search_spaces calibration pyproject.toml README.md "$away"
cd "$away"
"$bin/python" - <<'CODE'
import sys
from pathlib import Path

import autoprec

home = Path(autoprec.__file__).resolve()
assert home.is_relative_to(Path(sys.prefix).resolve()), f"autoprec must come from the wheel, and is {home}"
CODE

say "the command, as the README shows it"
"$bin/autoprec" --version
"$bin/autoprec" tune examples/digits/digits.onnx --calib examples/digits/calib.npz --eval examples/digits/eval.npz \
    --metric top1 --max-drop 0.01 --trials 4 --quiet
"$bin/autoprec" report autoprec-runs/digits --quiet
"$bin/autoprec" --skill >/dev/null
"$bin/autoprec" --json-schema tune >/dev/null

say "the tests, with the sources away"
[ $# -gt 0 ] || set -- "${slice[@]}" -m "not slow and not serial"
"$bin/pytest" -q "$@"
