"""python tests/benchmarks/as_asked.py [WORD]: every plan of every pattern, or of those with a word in their names.

Says which plans ONNX Runtime does not run as asked, or of which autoprec says something else.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.helpers.as_asked import disagreements
from tests.helpers.runtime_patterns import patterns


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    begun, plans, wrong = time.process_time(), 0, 0
    wanted = [names for names in patterns() if word in " ".join(names)]
    for names in wanted:
        count, found = disagreements(*names)
        plans, wrong = plans + count, wrong + bool(found)
        for text in found:
            print(text, flush=True)
    print(f"{len(wanted)} patterns, {plans} plans, {wrong} patterns wrong, {time.process_time() - begun:.0f} s of CPU")


if __name__ == "__main__":
    main()
