"""ONNX's own operator tests through units, lowering and sensitivities: a table of counts, and each that is not right.

    python tests/benchmarks/conformance.py OUT.jsonl [--variant plain|sandwich] [--share S] [--seed N] [--match TEXT]

Every model is fine (valid, and near the original), refused with a reason, or skipped (it says nothing about tuning);
otherwise it is invalid, wrong or a crash. `KNOWN` in `tests/helpers/conformance/known.py` holds what mathematics makes
wrong. A process that dies counts as a crash of the model that it had, and the next one goes on behind it.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import onnxruntime as ort

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.helpers.conformance.cases import Skip, all_tests, case_of
from tests.helpers.conformance.judge import BAD, WORDS, Result, results_of
from tests.helpers.conformance.known import why_known

SECONDS = 120


def rows_of(test: Any, variant: str) -> dict[str, Result]:
    """Return all results of a test."""
    folder = Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        return results_of(case_of(test, variant), folder)
    except Skip as why:
        return {"model": Result("skipped", str(why))}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run the tests and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variant", choices=("plain", "sandwich"), default="sandwich")
    parser.add_argument("--share", type=float, default=1.0, help="the share of the tests that is drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--match", default="", help="only tests whose names have this in them")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    ort.set_default_logger_severity(4)
    tests = [test for test in all_tests() if args.match in test.name]
    random.Random(args.seed).shuffle(tests)
    tests = tests[: round(len(tests) * args.share)]
    args.out.write_text("", encoding="utf-8")
    began, done = time.time(), 0
    while done < len(tests):
        done = _in_child(tests, done, args.variant, args.out)
    lines = [json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]
    print(f"{len(tests)} models, variant {args.variant}, seed {args.seed}, {time.time() - began:.0f} s")
    _print(lines)


def _in_child(tests: list[Any], start: int, variant: str, out: Path) -> int:
    """Run the tests from `start` in a child, and return the index behind the last that is in the file."""
    child = os.fork()
    if child == 0:
        with out.open("a", encoding="utf-8") as file:
            for test in tests[start:]:
                rows = rows_of(test, variant)
                file.write(json.dumps({"name": test.name, "rows": rows}) + "\n")
                file.flush()
        os._exit(0)
    os.waitpid(child, 0)
    done = len(out.read_text(encoding="utf-8").splitlines())
    if done < len(tests):  # the child died
        with out.open("a", encoding="utf-8") as file:
            died = {"process": ("crash", "the process died")}
            file.write(json.dumps({"name": tests[done].name, "rows": died}) + "\n")
        done += 1
    return done


def _print(lines: list[dict[str, Any]]) -> None:
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    bad = []
    for line in lines:
        for key, (word, why) in line["rows"].items():
            known = why_known(line["name"], key) if word == "wrong" else None
            counts[key]["known" if known else word] += 1
            if word in BAD and not known:
                bad.append(f"{line['name']} {key}: {word}: {why}"[:260])
    words = (*WORDS, "known")
    print(f"{'':32s}" + "".join(f"{word:>9s}" for word in words))
    for key in sorted(counts):
        print(f"{key:32s}" + "".join(f"{counts[key][word]:9d}" for word in words))
    print("\n".join(bad))


if __name__ == "__main__":
    main()
