"""What the search saves by judging plans on growing parts of the samples and timing only those that may matter.

    python tests/benchmarks/spending.py PATH_OF_THE_ZOO MODEL ... [--trials N] [--max-drop D]

Each model is tuned twice with the same seed: as it is, and with everything measured of every plan. Ranges,
sensitivities and profiles are made once, for both. CPU seconds are those of the search alone, of all threads.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from autoprec.backends.ort import OrtBackend
from autoprec.cli.screen import print_table
from autoprec.run.context import prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.progress import Silent
from autoprec.run.settings import Settings
from autoprec.run.task import prepare_task
from autoprec.run.tune import tune

from zoo import CALIBRATION_SAMPLES, MAX_DROP, fp32_outputs, labels_of, load_zoo  # isort: skip


class Clock(Silent):
    """Notes the CPU seconds at which stages begin."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}

    def stage(self, name: str, detail: str) -> None:
        self.began.setdefault(name, time.process_time())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--max-drop", type=float)
    options = parser.parse_args()
    zoo, rows = load_zoo(options.zoo), []
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            rows += [row(zoo.load(name), Path(folder), options, economy=economy) for economy in (False, True)]
    print_table(
        [
            "model",
            "search",
            "plans",
            "on fewer samples",
            "not timed",
            "samples",
            "CPU s",
            "CPU s a plan",
            "answer",
            "vs FP32",
        ],
        rows,
    )


def row(task: Any, folder: Path, options: argparse.Namespace, *, economy: bool) -> list[str]:
    labels = labels_of(task, fp32_outputs(task)[0])
    settings = Settings(
        model=task.model,
        calib={name: array[:CALIBRATION_SAMPLES] for name, array in task.calib.items()},
        evaluate={**task.eval, "labels": labels},
        metric="top1",
        trials=options.trials,
        max_drop=options.max_drop if options.max_drop is not None else MAX_DROP.get(task.name, 0.005),
    )
    run = folder / ("economy" if economy else "everything")
    if (folder / "everything").is_dir() and economy:
        shutil.copytree(folder / "everything", run)
        (run / "study.log").unlink()
    clock = Clock()
    directory = RunDirectory(run)
    with directory.claim():
        tuned = tune(prepare_run(prepare_task(settings, OrtBackend()), directory, clock, economy=economy))
    cpu_s = clock.began["confirmation"] - clock.began["search"]
    spent, chosen = tuned.time.spent, tuned.candidates[tuned.chosen]
    ratio = chosen.timing.ratio_to(tuned.candidates["uniform fp32"].timing).estimate
    found = [
        task.name,
        "as it is" if economy else "everything",
        f"{spent.plans:g}",
        f"{spent.cut:g}",
        f"{spent.untimed:g}",
        f"{spent.samples:g}",
        f"{cpu_s:.1f}",
        f"{cpu_s / max(spent.plans, 1):.2f}",
        tuned.chosen,
        f"{ratio:.3f}",
    ]
    print(" ".join(found), flush=True)
    return found


if __name__ == "__main__":
    main()
