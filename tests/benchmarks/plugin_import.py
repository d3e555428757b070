"""What autoprec's pytest plugin adds to the start of every pytest run.

    python tests/benchmarks/plugin_import.py [REPEATS]

Each time is taken in an interpreter of its own, after pytest itself was imported; the first is thrown away, because
it may have to compile.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

MEASURE = (
    "from time import perf_counter as now; a = now(); import pytest; b = now(); import autoprec.pytest_plugin; "
    "print(1e3 * (b - a), 1e3 * (now() - b))"
)


def main(repeats: int) -> None:
    times = []
    for _ in range(repeats + 1):
        done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
        times.append([float(word) for word in done.stdout.split()])
    for name, ms in zip(("pytest", "the plugin, after it"), zip(*times[1:], strict=True), strict=True):
        print(f"{name}: median {statistics.median(ms):.1f} ms, worst {max(ms):.1f} ms of {repeats}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
