"""How often the interval of the drop holds the true one, by resampling, for autoprec's estimate and for counting.

    python tests/benchmarks/drop_interval.py [--zoo PATH_OF_THE_ZOO] [MODEL ...] [--samples N ...] [--draws N]
        [--seed N] [--threads N] [--keep FOLDER]

Without --zoo: the six small networks of tests/helpers/trained_networks.py, which are trained here, with 20,000 labelled
samples each, so that the true drop is known. With it: the classifiers of a zoo, as tests/benchmarks/zoo.py takes it,
under ONNX Runtime on the CPU, of which the drop on all evaluation samples counts as the true one.

Each network gets plans whose drops are small (under 2 points), large (under 15) and collapses (all above): of few bits
and clipped ranges. Many times, n samples are drawn, with replacement from 20,000 and without from a zoo's few hundred.
One row for each model, size of drop and n, over all plans and draws:

    covers   share of draws whose 95 % interval holds the true drop: autoprec's, counting's
    below    share of draws whose interval ends below the true drop, which certifies what is not so: likewise
    worst    of the plan that is covered least: likewise
    width    autoprec's interval / that of counting, median
    error    root mean square of (estimate - true drop), in points: autoprec's, counting's
    counts   share of draws in which autoprec takes the count, because the margins do not fit

A zoo's pool has luck of its own, which all draws share: the smoothed drop of the pool differs from its counted one, as
one of few samples does. An interval that rests on smoothing alone misses such a pool again and again.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from zoo import CALIBRATION_SAMPLES, fp32_outputs, is_classifier, labels_of, load_zoo  # the benchmark beside this file

import autoprec
from autoprec.backends.ort import OrtBackend
from autoprec.calibrate.choose import calibrate_model
from autoprec.calibrate.job import CalibrationJob
from autoprec.cli.screen import print_table
from autoprec.data.dataset import Dataset
from autoprec.graph.model import to_bytes
from autoprec.lowering.possible import uniform
from autoprec.metrics.running import run_dataset
from autoprec.metrics.scores import label_margins, top1
from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.table import RangeTable
from autoprec.recipes.ranging import load_calibration_recipe
from autoprec.run.settings import Settings
from autoprec.run.task import prepare_subject
from autoprec.stats.drop import Drop, counted_drop, estimate_drop

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.helpers.trained_networks import NAMES, PLANS, trained

POOL = 20_000
BATCH = 25
REACHES = (
    *((1.0, 0.1), (1.0, 0.2), (1.0, 0.3), (1.0, 0.4), (1.0, 0.5), (1.0, 0.6), (1.0, 0.75), (1.0, 0.85), (1.0, 0.95)),
    *((0.6, 0.3), (0.6, 0.6), (0.4, 0.3), (0.4, 0.6), (0.25, 0.4), (0.15, 0.4)),
)
"""How far the ranges of a plan reach, of what calibration found, and which share of its units is in INT8."""
SIZES = (("small", 0.02), ("large", 0.15), ("collapse", 2.0))
HEADER = ["model", "drop", "n", "plans", "covers", "below", "worst", "width", "error", "counts"]


@dataclass(frozen=True, slots=True)
class Decisions:
    """What one plan decided on all samples.

    Attributes:
        right: whether the decision is the label, float64[samples] of 0 and 1.
        margins: by how much the label was preferred, float64[samples].
    """

    right: Array
    margins: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 150, 325], help="sizes of the draws")
    parser.add_argument("--draws", type=int, default=300, help="draws for each plan and size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--keep", type=Path, help="keep the decisions of a zoo's plans here, and use them again")
    options = parser.parse_args()
    start, rows = time.process_time(), []
    for name, plans in every(options):
        rows += rows_of(name, plans, options)
        print(f"{name}: after {time.process_time() - start:.0f} s of CPU", flush=True)
    print_table(HEADER, rows)
    print(f"\n{platform.platform()}, {autoprec.__version__}, {options.draws} draws, seed {options.seed}")


def every(options: argparse.Namespace) -> Iterator[tuple[str, list[Decisions]]]:
    """Each network with the decisions of FP32 and of its plans."""
    if options.zoo is None:
        for name in options.models or NAMES:
            network = trained(name, POOL)
            outputs = [network.logits(), *(network.logits(plan) for plan in PLANS)]
            yield name, [decided({"y": output}, network.labels) for output in outputs]
        return
    zoo = load_zoo(options.zoo)
    for name in options.models or zoo.NAMES:
        kept = None if options.keep is None else options.keep / f"{name}.npz"
        if kept is not None and kept.is_file():
            with np.load(kept) as file:
                yield name, [Decisions(*pair) for pair in file["decisions"]]
        elif is_classifier(task := zoo.load(name)):
            plans = decisions_of_plans(task, options)
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                np.savez(kept, decisions=np.array([[plan.right, plan.margins] for plan in plans]))
            yield name, plans


def decided(outputs: dict[str, Array], labels: Array) -> Decisions:
    return Decisions(top1(outputs, labels, None).astype(np.float64), label_margins(outputs, labels))


def decisions_of_plans(
    task: Any, options: argparse.Namespace, wanted: Sequence[tuple[float, float]] = REACHES
) -> list[Decisions]:
    """FP32's decisions, then those of uniform INT8 and of random plans, see `REACHES`."""
    labels = labels_of(task, fp32_outputs(task)[0])
    backend = OrtBackend(options.threads)
    subject = prepare_subject(Settings(model=task.model), backend)
    ranges = calibrate_model(
        CalibrationJob(
            lowerer=subject.lowerer,
            possible=subject.possible,
            backend=backend,
            dataset=Dataset.from_arrays({name: array[:CALIBRATION_SAMPLES] for name, array in task.calib.items()}),
            recipe=load_calibration_recipe("default"),
        )
    )
    data = Dataset.from_arrays(dict(task.eval), labels)
    full = uniform(subject.partition, Precision.INT8, subject.possible, Precision.FP32)
    draw = random.Random(options.seed)
    plans = [({}, 1.0), (full, 1.0), *((part(full, share, draw), reach) for reach, share in wanted)]
    result = []
    for plan, reach in plans:
        with backend.build(to_bytes(subject.lowerer.lower(plan, clipped(ranges, reach)).ir)) as engine:
            found = [decided(o, b.labels) for b, o in run_dataset(engine, data, subject.model.interface, BATCH)]
        result.append(Decisions(np.concatenate([d.right for d in found]), np.concatenate([d.margins for d in found])))
    return result


def clipped(ranges: RangeTable, reach: float) -> RangeTable:
    """The ranges, reaching less far."""
    spans = {name: Range(span.low * reach, span.high * reach) for name, span in ranges.clipped.items()}
    return replace(ranges, clipped=spans)


def part(full: Assignment, share: float, draw: random.Random) -> Assignment:
    """A share of the units of uniform INT8."""
    able = [unit for unit, precision in full.items() if precision is Precision.INT8]
    chosen = set(draw.sample(able, max(1, round(share * len(able)))))
    return {unit: Precision.INT8 if unit in chosen else Precision.FP32 for unit in full}


def rows_of(name: str, decisions: list[Decisions], options: argparse.Namespace) -> list[list[str]]:
    reference, *plans = decisions
    rows = []
    for n in options.samples:
        found: dict[str, list[Array]] = defaultdict(list)
        for number, plan in enumerate(plans):
            true = float((reference.right - plan.right).mean())
            size = next(size for size, most in SIZES if true < most)
            generator = np.random.default_rng([options.seed, n, number])
            found[size].append(np.array([one(reference, plan, generator, n) for _ in range(options.draws)]))
        rows += [[name, size, str(n), str(len(found[size])), *cells(found[size])] for size, _ in SIZES if size in found]
    return rows


def one(reference: Decisions, plan: Decisions, generator: np.random.Generator, n: int) -> list[float]:
    """What one draw says: of autoprec and of counting whether the truth is held, and whether it is above; and more."""
    drawn = generator.choice(reference.right.size, n, replace=reference.right.size >= POOL)
    true = float((reference.right - plan.right).mean())
    scores = reference.right[drawn], plan.right[drawn]
    margins = reference.margins[drawn], plan.margins[drawn]
    ours = estimate_drop(*scores, higher_is_better=True, margins=margins)
    count = counted_drop(*scores, higher_is_better=True)
    return [
        *(float(drop.low <= true <= drop.high) for drop in (ours, count)),
        *(float(true > drop.high) for drop in (ours, count)),
        width(ours) / width(count),
        *((drop.estimate - true) ** 2 for drop in (ours, count)),
        float(ours.method != "smoothed"),
    ]


def cells(plans: list[Array]) -> list[str]:
    """The figures of one row from the draws of each plan, float64[draws, 8] each."""
    draws = np.concatenate(plans)
    mean, worst = draws.mean(axis=0), np.min([plan.mean(axis=0) for plan in plans], axis=0)
    errors = 100 * np.sqrt(mean[5:7])
    return [
        f"{mean[0]:.3f}, {mean[1]:.3f}",
        f"{mean[2]:.3f}, {mean[3]:.3f}",
        f"{worst[0]:.2f}, {worst[1]:.2f}",
        f"{np.median(draws[:, 4]):.2f}",
        f"{errors[0]:.2f}, {errors[1]:.2f}",
        f"{mean[7]:.2f}",
    ]


def width(drop: Drop) -> float:
    return drop.high - drop.low


if __name__ == "__main__":
    main()
