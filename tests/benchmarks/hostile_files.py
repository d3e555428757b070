"""Damages files of every kind at random, and counts what is made of them: by their readers, or by the command line.

    python tests/benchmarks/hostile_files.py --count 1000 --seed 0 [--verbs] [KIND ...]

For each kind: how many files were read and how many refused in words, every other error (there should be none), and
the slowest file in CPU seconds. With --verbs each file is given to the verbs that read files of its kind, in this
process; a command that takes more than a minute of CPU counts as an error.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[2]))

from autoprec.cli import main as autoprec
from autoprec.errors import EXIT_USAGE, AutoprecError
from tests.helpers.hostile_files import RUN, Readers

HANG_S = 60
DIGITS = Path(__file__).parents[2] / "examples" / "digits"
OF_A_RUN = (
    ("front", "RUN", "--model", "MODEL"),
    ("report", "RUN", "--format", "json"),
    ("baseline", "RUN", "-o", "b.json"),
)
VERBS: dict[str, tuple[tuple[str, ...], ...]] = {
    "plan": (("build", "FILE", "MODEL", "--out", "lowered.onnx"),),
    "baseline": (("gate", "MODEL", "--baseline", "FILE", "--eval", "DATA", "--no-annotations"),),
    "space": (("units", "MODEL", "--space", "FILE"),),
    "recipe": (("tune", "MODEL", "--calib", "DATA", "--recipe", "FILE", "--dry-run"),),
    "archive": (("tune", "SMALL", "--calib", "FILE", "--dry-run"),),
    "model": (("units", "FILE", "--json"), ("tune", "FILE", "--calib", "SMALL_DATA", "--dry-run")),
    **dict.fromkeys(("ranges", "sensitivities", "latency", "study", "search", "evidence", "trials"), OF_A_RUN),
}
"""Kind -> the commands that read such a file; FILE is the damaged one, RUN a run directory that has it."""


def tried(readers: Readers, kind: str, seeds: range, judge: Callable[[Path, Any], bool]) -> str:
    """One line about a kind of file; `judge` says whether a file was read, and raises what nobody expects."""
    counts: collections.Counter[str] = collections.Counter()
    slowest, errors = 0.0, []
    for seed in seeds:
        path, read = readers.damage(kind, seed)
        begun = time.process_time()
        try:
            counts["read" if judge(path, read) else "refused"] += 1
        except Exception as error:
            counts["errors"] += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            errors.append(f"  seed {seed}: {error!r:.200} at {where.filename}:{where.lineno}")
        slowest = max(slowest, time.process_time() - begun)
        readers.tidy(path)
    line = ", ".join(f"{counts[what]} {what}" for what in ("read", "refused", "errors"))
    return "\n".join([f"{kind}: {line}; slowest {slowest:.2f} s", *errors])


def by_reader(path: Path, read: Callable[[Path], Any]) -> bool:
    """Whether the reader of such files takes it."""
    try:
        read(path)
    except AutoprecError:
        return False
    return True


def by_verbs(readers: Readers, kind: str) -> Callable[[Path, Any], bool]:
    """Whether any verb takes a file of this kind."""
    work = readers.folder / "verbs"
    work.mkdir(exist_ok=True)

    def judge(path: Path, _: Any) -> bool:
        shutil.rmtree(work / "run", ignore_errors=True)
        if VERBS[kind] is OF_A_RUN:
            shutil.copytree(RUN, work / "run")
            shutil.copy(path, work / "run" / path.name)
        places = {"FILE": path, "RUN": work / "run", "MODEL": DIGITS / "digits.onnx", "DATA": DIGITS / "eval.npz"}
        places |= {"SMALL": readers.model, "SMALL_DATA": readers.folder / "whole.npz"}
        codes = []
        for words in VERBS[kind]:
            given = [os.fspath(places[word]) if word in places else word for word in words]
            signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S)
            try:
                done = CliRunner().invoke(autoprec, given)
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                raise done.exception
            if "Traceback" in done.output or not 0 <= done.exit_code <= 5:
                raise RuntimeError(f"{given} ended with {done.exit_code}: {done.output[-200:]}")
            codes.append(done.exit_code)
        for name in ("lowered.onnx", "b.json"):
            Path(name).unlink(missing_ok=True)
        return any(code != EXIT_USAGE for code in codes)

    return judge


def hung(*_: Any) -> None:
    raise RuntimeError(f"it took more than {HANG_S} s of CPU")


def main() -> None:
    """Try all kinds, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", action="store_true", help="by the command line")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGVTALRM, hung)
    with tempfile.TemporaryDirectory() as folder:
        readers = Readers(Path(folder))
        os.chdir(folder)
        for kind in asked.kinds or (VERBS if asked.verbs else readers.kinds):
            judge = by_verbs(readers, kind) if asked.verbs else by_reader
            print(tried(readers, kind, range(asked.seed, asked.seed + asked.count), judge), flush=True)


if __name__ == "__main__":
    main()
