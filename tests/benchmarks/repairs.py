"""What exact repairs of a model buy in uniform INT8 of TensorRT's scheme, in exact arithmetic on a CPU.

    python tests/benchmarks/repairs.py PATH_OF_THE_ZOO MODEL [--repairs auto] [--samples N]

Repairs are chosen from 64 calibration samples as a tune chooses them. Then uniform INT8 is calibrated and run with and
without them on evaluation samples, none of which chose anything.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from zoo import load_zoo

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import TENSORRT
from autoprec.graph.model import to_bytes
from autoprec.lowering.possible import uniform
from autoprec.precision import Array, Precision
from autoprec.run.context import Run, prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.repairs_record import read_repairs
from autoprec.run.settings import Settings
from autoprec.run.stages.ranges import find_ranges
from autoprec.run.stages.repairs import repair_model
from autoprec.run.task import prepare_task
from autoprec.testing.fake import FakeBackend


class TensorRtScheme(FakeBackend):
    """Computes on a CPU what TensorRT's placement of pairs means."""

    scheme = TENSORRT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("model")
    parser.add_argument("--repairs", default="auto")
    parser.add_argument("--samples", type=int, help="evaluation samples; without it all, and the score is printed")
    options = parser.parse_args()
    zoo = load_zoo(options.zoo)
    task = zoo.load(options.model)
    feed = {name: array[: options.samples] for name, array in task.eval.items()}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            model=task.model,
            calib={name: array[:64] for name, array in task.calib.items()},
            evaluate={name: array[:32] for name, array in task.eval.items()},
            metric="sqnr",
            max_drop=100.0,
            repairs=options.repairs,
            batch=8,
        )
        directory = RunDirectory(Path(folder))
        plain = prepare_run(prepare_task(settings, TensorRtScheme()), directory)
        begun = time.process_time()
        repaired = repair_model(plain)
        found = read_repairs(directory.repairs)
        print(f"{len(found.kept)} kept, {len(found.refused)} not, {time.process_time() - begun:.1f} s of CPU")
        for kept in found.kept:
            print(f"  {kept.kind} {kept.value}: {kept.noise_before:.1e} -> {kept.noise_after:.1e}")
        fp32 = outputs(to_bytes(plain.task.subject.model.original), feed, task.batch)
        print(f"FP32: {score(zoo, task, fp32, options.samples)}")
        for label, run in (("without", plain), ("with", repaired)):
            made = outputs(int8(run), feed, task.batch)
            print(f"INT8 {label}: {sqnr_db(fp32, made):.2f} dB, {score(zoo, task, made, options.samples)}", flush=True)
            directory.ranges.unlink()


def int8(run: Run) -> bytes:
    """Uniform INT8 in exact arithmetic."""
    subject = run.task.subject
    plan = uniform(subject.partition, Precision.INT8, subject.possible, subject.lowerer.carrier)
    return to_bytes(subject.lowerer.lower(plan, find_ranges(run), simulate=True).ir)


def outputs(model: bytes, feed: Mapping[str, Array], batch: int) -> dict[str, Array]:
    count = len(next(iter(feed.values())))
    with OrtBackend(threads=1).build(model, exact=True) as engine:
        made = [engine.run({n: a[i : i + batch] for n, a in feed.items()}) for i in range(0, count, batch)]
    return {name: np.concatenate([each[name] for each in made]) for name in made[0]}


def score(zoo: Any, task: Any, made: Mapping[str, Array], samples: int | None) -> str:
    return f"{task.metric} {zoo.metric(task, list(made.values())):.4f}" if samples is None else ""


def sqnr_db(reference: Mapping[str, Array], made: Mapping[str, Array]) -> float:
    signal = sum(float(np.square(reference[n], dtype=np.float64).sum()) for n in reference)
    noise = sum(float(np.square(reference[n] - made[n], dtype=np.float64).sum()) for n in reference)
    return float(10 * np.log10(signal / noise))


if __name__ == "__main__":
    main()
