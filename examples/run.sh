#!/usr/bin/env bash
# Sets everything up in .venv and tunes the digits model: a small real network with real data.
#
#   examples/run.sh [AUTOPREC TUNE OPTION ...]      e.g. examples/run.sh --max-drop 0.002
#
# PYTHON names another interpreter, VENV another folder than .venv, OUT another run directory.
set -euo pipefail
cd "$(dirname "$0")/.."

.ci/setup
set -- tune examples/digits/digits.onnx \
    --calib examples/digits/calib.npz --eval examples/digits/eval.npz \
    --metric top1 --max-drop 0.01 --seed 0 --out "${OUT:-runs/digits}" "$@"
echo "== autoprec $*"
exec "${VENV:-.venv}/bin/autoprec" "$@"
