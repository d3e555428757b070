"""ONNX's own operator tests through units, lowering and sensitivities: a table of counts, and each that is not right.

    python tests/benchmarks/conformance.py OUT.jsonl [--variant plain|sandwich] [--share S] [--skip S] [--seed N]
                                                     [--match REGEX]

Every model is fine (valid, and near the original), refused with a reason, or skipped (it says nothing about tuning);
otherwise it is invalid, wrong or a crash. `KNOWN` in `tests/helpers/conformance/known.py` holds what mathematics makes
wrong, by exact names; an entry that was not needed fails the benchmark, as everything bad does that is not in it. A
process that dies counts as a crash of the model that it had, and the next one goes on behind it.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import re
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
from tests.helpers.conformance.known import unneeded, why_known


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
    parser.add_argument("--skip", type=float, default=0.0, help="the share that is passed over before it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--match", default="", help="only tests in whose names this is found")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    ort.set_default_logger_severity(4)
    tests = [test for test in all_tests() if re.search(args.match, test.name)]
    random.Random(args.seed).shuffle(tests)
    tests = tests[round(len(tests) * args.skip) : round(len(tests) * (args.skip + args.share))]
    args.out.write_text("", encoding="utf-8")
    began, done = time.time(), 0
    while done < len(tests):
        done = _in_child(tests, done, args.variant, args.out)
    lines = [json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]
    print(f"{len(tests)} models, variant {args.variant}, seed {args.seed}, {time.time() - began:.0f} s")
    sys.exit(_print(lines, args.variant))


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


def _print(lines: list[dict[str, Any]], variant: str) -> int:
    """Print the table, what is bad, and what is in the list in vain; returns 1 where there is any of these."""
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    bad = []
    for line in lines:
        for key, (word, why) in line["rows"].items():
            known = word in BAD and why_known(variant, line["name"], key)
            counts[key]["known" if known else word] += 1
            if word in BAD and not known:
                bad.append(f"{line['name']} {key}: {word}: {why}"[:260])
    seen = {line["name"]: {key: row[0] for key, row in line["rows"].items()} for line in lines}
    bad += [f"{entry}: in the list of known ones, and not needed" for entry in unneeded(variant, seen)]
    words = (*WORDS, "known")
    print(f"{'':32s}" + "".join(f"{word:>9s}" for word in words))
    for key in sorted(counts):
        print(f"{key:32s}" + "".join(f"{counts[key][word]:9d}" for word in words))
    print("\n".join(bad))
    return 1 if bad else 0


if __name__ == "__main__":
    main()
