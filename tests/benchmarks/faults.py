"""Kills `autoprec tune` and its workers at every stage, and counts what is lost.

    python tests/benchmarks/faults.py OUT.jsonl [--kills 100] [--seed N] [--work FOLDER]

A chain is a run that is killed three to six times (SIGKILL), each time begun again in the same folder, and then let run
to its end. Chains take turns: the digits of examples/digits; a block of a transformer; the digits with a worker beside
the tune, where the worker alone, the tune alone or both are killed. Each chain has a temporary folder of its own.
Counted are

    lost        measured plans or sensitivities that were there before a kill and are not afterwards
    corrupt     files that cannot be read, and runs that did not go on or ended in an error
    twice       plans that were measured twice
    differs     ranges, sensitivities or plans that differ from those of a run that nobody killed
    temporary   files that are neither the user's nor the run's at the end, in any of the folders

One JSON line for each chain, and a table at the end; exit code 1 where anything but 0 was counted.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.helpers.networks import mha_block, random_feed

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
AUTOPREC = str(Path(sys.executable).with_name("autoprec"))
TUNE = "tune model.onnx --calib calib.npz --eval eval.npz --trials 5 --objective size --threads 1 --batch 1 --seed 3"
STAGES = (
    "decided",
    "splits ",
    "ranges ",
    "sensitivity ",
    "latency ",
    "search ",
    "trial 0 ",
    "trial 2 ",
    "confirmation",
)
KINDS = ("digits", "transformer", "digits with a worker")
FILES = ("model.onnx", "calib.npz", "eval.npz")
COUNTED = ("lost", "corrupt", "twice", "differs", "temporary")


def make_inputs(folder: Path, kind: str) -> None:
    """Write model and data, small enough that a whole run takes some ten seconds of CPU."""
    folder.mkdir(parents=True)
    if kind.startswith("digits"):
        shutil.copy(EXAMPLE / "digits.onnx", folder / "model.onnx")
        calib, evaluate = (dict(np.load(EXAMPLE / f"{name}.npz")) for name in ("calib", "eval"))
        np.savez(folder / "calib.npz", image=calib["image"][:16])
        np.savez(folder / "eval.npz", **{name: array[:60] for name, array in evaluate.items()})
        return
    model = mha_block()
    onnx.save(model, folder / "model.onnx")
    for name, count, seed in (("calib", 16, 0), ("eval", 60, 1)):
        np.savez(folder / f"{name}.npz", **random_feed(model, count, seed))


def start(folder: Path, kind: str) -> subprocess.Popen[bytes]:
    more = ["--workers", "1"] if kind.endswith("worker") else []
    return subprocess.Popen(
        [AUTOPREC, *TUNE.split(), *more, "--out", "run"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home")},
    )


def wait_for(process: subprocess.Popen[bytes], word: str) -> None:
    """Wait until the process has said a word, or has ended."""
    assert process.stderr is not None
    seen = ""
    while word not in seen and process.poll() is None:
        if select.select([process.stderr], [], [], 0.2)[0]:
            piece = os.read(process.stderr.fileno(), 65536)
            if not piece:
                return
            seen += piece.decode(errors="replace")


def finish(process: subprocess.Popen[bytes], seconds: float = 900) -> tuple[int | str, str]:
    try:
        _, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return "no end", ""
    return process.returncode, err.decode(errors="replace")


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes of `autoprec worker` that a tune started."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if b"worker" in command and os.getpgid(int(entry.name)) == process.pid:
                found.append(int(entry.name))
    return found


def kill(process: subprocess.Popen[bytes], whom: str) -> bool:
    """Kill a tune, its worker or both; whether anything was alive."""
    if process.poll() is not None:
        return False
    with contextlib.suppress(ProcessLookupError):
        if whom == "worker":
            found = workers_of(process)
            for pid in found:
                os.kill(pid, signal.SIGKILL)
            return bool(found)
        if whom == "tune":
            os.kill(process.pid, signal.SIGKILL)
            return True
        os.killpg(process.pid, signal.SIGKILL)
    return True


def operations(run: Path) -> list[dict[str, Any]]:
    """The lines of the study's journal that are whole."""
    lines = (run / "study.log").read_text(errors="replace").splitlines() if (run / "study.log").exists() else []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def measured(run: Path) -> Counter[int]:
    """Trial -> how often a measurement of it was written down."""
    told = [o for o in operations(run) if "measurement" in o.get("user_attr", {})]
    return Counter(int(o["trial_id"]) for o in told)


def partly(run: Path) -> int:
    """How many parts of sensitivities are written down."""
    path = run / "profile.partial.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def damaged(run: Path) -> list[str]:
    found = []
    for path in run.glob("*.json"):
        try:
            json.loads(path.read_text())
        except ValueError:
            found.append(path.name)
    return found


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def essence(run: Path) -> dict[str, Any]:
    """What must not depend on whether a run was killed."""
    profile, plan = (json.loads((run / name).read_text()) for name in ("profile.json", "plan.json"))
    # Seconds differ from run to run.
    entries = {name: value for name, value in profile.items() if not name.endswith("_s")}
    return {
        "ranges": digest(json.loads((run / "ranges.json").read_text())),
        "sensitivities": digest(entries),
        "plan": digest({name: unit["precision"] for name, unit in plan["units"].items()}),
    }


def leftovers(folder: Path, wanted: Sequence[str]) -> list[str]:
    """What lies there at the end besides the user's files and those of a whole run."""
    mine = {*FILES, *(f"run/{name}" for name in wanted), "run/worker-1.log"}
    kept = ("home/", "tmp/.ses")  # the user's cache is meant to stay; ONNX Runtime itself writes the other
    paths = [str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir() or p.parent.name == "tmp"]
    return [path for path in paths if path not in mine and not path.startswith(kept)]


def chain(folder: Path, kind: str, draw: random.Random, whole: dict[str, Any]) -> dict[str, Any]:
    """Kill one run several times, let it end, and count."""
    shutil.rmtree(folder, ignore_errors=True)
    make_inputs(folder, kind)
    for name in ("tmp", "home"):
        (folder / name).mkdir()
    run, found, history = folder / "run", dict.fromkeys(COUNTED, 0), []
    notes: list[str] = []
    for stage in sorted(draw.sample(range(len(STAGES)), draw.choice([3, 4, 5, 6]))):
        before, parts = measured(run), partly(run)
        process = start(folder, kind)
        wait_for(process, STAGES[stage])
        time.sleep(draw.random() ** 2 * 1.5)
        whom = draw.choice(["worker", "tune", "both"]) if kind.endswith("worker") else "both"
        history.append([STAGES[stage].strip(), whom, kill(process, whom)])
        if whom == "tune":  # its workers must end by themselves, or with whatever is begun next
            time.sleep(0.5)
        code, err = finish(process)
        if code not in (0, 5, -signal.SIGKILL):
            notes.append(f"exit {code} after {history[-1]}: {err[-200:]}")
        found["lost"] += sum((before - measured(run)).values())
        found["lost"] += max(0, parts - partly(run)) if not (run / "profile.json").exists() else 0
        notes += damaged(run) if run.exists() else []
    code, err = finish(start(folder, kind))
    if code not in (0, 5) or "Traceback" in err:
        notes.append(f"exit {code} at the end: {err[-300:]}")
    else:
        result = essence(run)
        compared = ("ranges", "sensitivities", *(() if kind.endswith("worker") else ("plan",)))
        notes += [f"differs: {name}" for name in compared if result[name] != whole["essence"][name]]
        found["differs"] = sum(note.startswith("differs") for note in notes)
    found["corrupt"] = len(notes) - found["differs"]
    found["twice"] = sum(count - 1 for count in measured(run).values())
    left = leftovers(folder, whole["files"])
    found["temporary"] = len(left)
    return {
        "kind": kind,
        "kills": sum(alive for *_, alive in history),
        "history": history,
        **found,
        "notes": notes + left,
    }


def main() -> None:
    global AUTOPREC
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="a folder for the runs; by default a temporary one")
    options = parser.parse_args()
    root, draw = options.work or Path(tempfile.mkdtemp(prefix="faults-")), random.Random(options.seed)
    wholes, records = {}, []
    with options.out.open("a") as file:
        while sum(record["kills"] for record in records) < options.kills:
            number = len(records)
            kind = KINDS[number % len(KINDS)]
            alone = kind.removesuffix(" with a worker")
            if alone not in wholes:
                wholes[alone] = whole_run(root / f"whole-{alone}", alone)
            record = chain(root / f"chain-{number}", kind, draw, wholes[alone])
            records.append(record)
            file.write(json.dumps(record) + "\n")
            file.flush()
            print({name: value for name, value in record.items() if value or name == "kills"}, flush=True)
            if not any(record[name] for name in COUNTED):
                shutil.rmtree(root / f"chain-{number}")
    print(f"{'':24}{'chains':>8}{'kills':>8}" + "".join(f"{name:>11}" for name in COUNTED))
    for kind in KINDS:
        mine = [record for record in records if record["kind"] == kind]
        sums = [sum(record[name] for record in mine) for name in ("kills", *COUNTED)]
        print(f"{kind:24}{len(mine):>8}{sums[0]:>8}" + "".join(f"{number:>11}" for number in sums[1:]))
    sys.exit(any(record[name] for record in records for name in COUNTED))


def whole_run(folder: Path, kind: str) -> dict[str, Any]:
    """A run that nobody kills."""
    shutil.rmtree(folder, ignore_errors=True)
    make_inputs(folder, kind)
    for name in ("tmp", "home"):
        (folder / name).mkdir()
    code, err = finish(start(folder, kind))
    if code not in (0, 5):
        raise SystemExit(f"the run without kills ended with {code}: {err[-500:]}")
    files = [path.name for path in (folder / "run").iterdir()]
    return {"essence": essence(folder / "run"), "files": files}


if __name__ == "__main__":
    main()
