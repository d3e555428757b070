"""Damages files of every kind at random, and counts what their readers make of them.

    python tests/benchmarks/hostile_files.py --count 1000 --seed 0 [KIND ...]

For each kind: how many files were read and how many refused in words, every other error (there should be none), and the
slowest file in CPU seconds.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from autoprec.errors import AutoprecError
from tests.helpers.hostile_files import Readers


def tried(readers: Readers, kind: str, seeds: range) -> str:
    """One line about a kind of file."""
    counts: collections.Counter[str] = collections.Counter()
    slowest, errors = 0.0, []
    for seed in seeds:
        path, read = readers.damage(kind, seed)
        begun = time.process_time()
        try:
            read(path)
            counts["read"] += 1
        except AutoprecError:
            counts["refused"] += 1
        except Exception as error:
            counts["errors"] += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            errors.append(f"  seed {seed}: {error!r:.200} at {where.filename}:{where.lineno}")
        slowest = max(slowest, time.process_time() - begun)
        readers.tidy(path)
    line = ", ".join(f"{counts[what]} {what}" for what in ("read", "refused", "errors"))
    return "\n".join([f"{kind}: {line}; slowest {slowest:.2f} s", *errors])


def main() -> None:
    """Try all kinds, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        readers = Readers(Path(folder))
        for kind in asked.kinds or readers.kinds:
            print(tried(readers, kind, range(asked.seed, asked.seed + asked.count)), flush=True)


if __name__ == "__main__":
    main()
