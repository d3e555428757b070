#!/usr/bin/env bash
# Sets everything up in .venv and runs every check: lint, format, types, tests.
#
#   tests/run.sh [PYTEST OPTION ...]      e.g. tests/run.sh -k lower
#
# PYTHON names another interpreter, VENV another folder than .venv. With AUTOPREC_TORCH=1 torch is installed and the
# tests of torch modules run, which are left out otherwise; with AUTOPREC_TORCH=hf those of transformers too.
set -uo pipefail
cd "$(dirname "$0")/.."

extras=(dev 'rtx?')
extra=${AUTOPREC_TORCH:-}
[ -z "$extra" ] || extras+=("${extra/#1/torch}?")  # 200 MB, and two minutes of CPU for their tests
.ci/setup "${extras[@]}" +postgresql || exit
bin=${VENV:-.venv}/bin
failed=()

step() {  # step NAME COMMAND ...: a failure is remembered, the other checks still run
    local name=$1 start=$SECONDS code=0
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" || code=$?
    printf '== %s: %s after %d s\n' "$name" "$([ "$code" = 0 ] && echo passed || echo FAILED)" $((SECONDS - start))
    [ "$code" = 0 ] || failed+=("$name")
}

step "lint" "$bin/ruff" check --output-format concise .
step "format" "$bin/ruff" format --check .
case $("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') in
    3.10) echo "== types: not checked, the NumPy of Python 3.10 has older annotations; 3.11 checks for 3.10" ;;
    3.11) step "types" "$bin/mypy" --strict --python-version 3.10 autoprec ;;
    *) step "types" "$bin/mypy" --strict autoprec ;;
esac
# Tests that measure time run alone, and first: the last figures printed are those of the whole suite.
if grep -rqs --include='test_*.py' 'mark\.serial' tests; then
    step "serial tests" "$bin/pytest" -m serial -n 0 "$@"
fi
# Bare pytest, not "python -m pytest": the checkout's root must stay off sys.path, or the folder
# calibration/ could be imported by that name.
step "tests" "$bin/pytest" -m "not serial" -n 2 --dist loadfile --no-loadscope-reorder --check-slow --durations 10 "$@"

printf '\n== all checks took %d s\n' "$SECONDS"
if [ ${#failed[@]} -gt 0 ]; then
    printf '== FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "== everything passed"
