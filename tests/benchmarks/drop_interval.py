"""Compare autoprec's interval of the drop with counting, by resampling the classifiers of a zoo.

    python tests/benchmarks/drop_interval.py PATH_OF_THE_ZOO [MODEL ...] [--samples N ...] [--draws N]
        [--plans N] [--seed N] [--threads N] [--images-augmented]

PATH is a zoo as tests/benchmarks/zoo.py takes it. Each classifier is lowered to uniform INT8 and to random plans with
30 to 95 % of its units in INT8, and decides on every evaluation sample under ONNX Runtime on the CPU. Then, many
times, n samples are drawn without replacement. `estimate_drop` and `counted_drop` see only these; the counted drop of
all the others says how good they were. One row for each model and n, over all plans and draws:

    width       interval of ours / interval of counting, from the same samples: median and 90 % quantile, over the
                draws where counting saw a change
    blind       share of draws where counting saw none, so that its interval has no width
    rest        share of draws with |estimate - rest| <= 1.96 sqrt(error^2 + error of the rest^2): ours, counting
    pool        share of draws whose interval, as it is, holds the counted drop of the whole pool: ours, counting
    bias        mean of (estimate - rest) of ours: below 0, it thinks plans better than they are; counting has none
    RMSE        root mean square of (estimate - rest): ours, counting, and what of it is the rest's own noise
    per change  counted drop of the pool / share of its changed decisions: mean and deviation over plans

What it cannot show:

- A pool of some hundred images has luck of its own, which all draws and plans share. For counting, the test of the
  rest comes out near 95 % by construction, whatever the truth is, because sample and rest are parts of one shuffled
  pool. Ours is drawn towards what changed decisions usually cost; a pool that is far from the usual is missed in most
  of the draws, and one that is near it in hardly any. So a row's coverage is one observation of few, not a frequency
  over independent ones, and more draws do not make it surer.
- The rest's noise is allowed for, and at n of half the pool it is as large as counting's own. An interval that is
  somewhat too narrow then passes unseen.
- The pool contains the drawn samples, which flatters every estimate, counting most; its own noise is not allowed
  for, which does the opposite.
- The constants of `estimate_drop` were chosen with these models in view. This is a check of them, not a test on models
  that they have never seen.

With --images-augmented, the rest and the pool also hold mirrored and shifted copies of each image, which lowers their
noise. Copies of an image are not independent: each image counts by the mean over its copies, and errors are those of
such means. The drop of copies may differ from that of images as they are. Samples are drawn from the latter only.
"""

from __future__ import annotations

import argparse
import math
import platform
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
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
from autoprec.recipes.ranging import load_calibration_recipe
from autoprec.run.settings import Settings
from autoprec.run.task import Subject, prepare_subject
from autoprec.stats.drop import Drop, counted_drop, estimate_drop

SHARES = (0.30, 0.95)
NORMAL_95 = 1.959964
BATCH = 25
HEADER = [
    "model",
    "n of pool",
    "plans",
    "width",
    "90 %",
    "blind",
    "rest: ours",
    "counting",
    "pool: ours",
    "counting",
    "bias: ours",
    "RMSE: ours",
    "counting",
    "rest's noise",
    "per change",
]


@dataclass(frozen=True, slots=True)
class Decisions:
    """What one plan decided on all copies of all samples; copy 0 is the sample as it is.

    Attributes:
        right: whether the decision is the label, float64[copies, samples] of 0 and 1.
        margins: by how much the label was preferred, float64[copies, samples].
        classes: what was decided, int64[copies, samples].
    """

    right: Array
    margins: Array
    classes: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Both estimates from one draw, and what they are compared with."""

    ours: Drop
    counting: Drop
    rest: float
    rest_error: float
    pool: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--samples", type=int, nargs="+", default=[325, 150], help="sizes of the draws")
    parser.add_argument("--draws", type=int, default=60, help="draws for each model and size")
    parser.add_argument("--plans", type=int, default=12, help="INT8 plans for each model, the uniform one included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--images-augmented", action="store_true", help="add mirrored and shifted copies of images")
    options = parser.parse_args()
    start = time.monotonic()
    zoo = load_zoo(options.zoo)
    rows = []
    for name in options.models or zoo.NAMES:
        task = zoo.load(name)
        if is_classifier(task):
            rows += rows_of(task, options)
            print(f"{name}: after {time.monotonic() - start:.0f} s", flush=True)
    print_table(HEADER, rows)
    print(
        f"\n{platform.platform()}, {autoprec.__version__}, {options.draws} draws, seed {options.seed}, "
        f"{time.monotonic() - start:.0f} s"
    )


def rows_of(task: Any, options: argparse.Namespace) -> list[list[str]]:
    reference, *candidates = decisions_of_plans(task, options)
    pool = reference.right.shape[1]
    per_change = [ratio for plan in candidates if (ratio := drop_per_change(reference, plan)) is not None]
    rows = []
    for n in options.samples:
        if not 2 <= n <= pool - 2:
            raise SystemExit(f"{task.name} has {pool} samples, so draws must have 2 to {pool - 2}, got {n}")
        generator = np.random.default_rng([options.seed, n])
        draws = []
        for _ in range(options.draws):
            order = generator.permutation(pool)
            draws += [draw(reference, plan, order[:n], order[n:]) for plan in candidates]
        cells = [f"{np.mean(per_change):.2f} +- {np.std(per_change):.2f}" if per_change else "-"]
        rows.append([task.name, f"{n} of {pool}", str(len(candidates)), *row(draws), *cells])
    return rows


def decisions_of_plans(task: Any, options: argparse.Namespace) -> list[Decisions]:
    """FP32's decisions, then those of each plan."""
    labels = labels_of(task, fp32_outputs(task)[0])
    backend = OrtBackend(options.threads)
    subject = prepare_subject(Settings(model=task.model), backend)
    calib = Dataset.from_arrays({name: array[:CALIBRATION_SAMPLES] for name, array in task.calib.items()})
    ranges = calibrate_model(
        CalibrationJob(
            lowerer=subject.lowerer,
            possible=subject.possible,
            backend=backend,
            dataset=calib,
            recipe=load_calibration_recipe("default"),
        )
    )
    data = Dataset.from_arrays(dict(task.eval), labels)
    images = options.images_augmented and all(array.ndim == 4 for array in task.eval.values())
    plans = [{}, *int8_plans(subject, options.plans, options.seed)]
    result = []
    for plan in plans:
        with backend.build(to_bytes(subject.lowerer.lower(plan, ranges).ir)) as engine:
            result.append(decide(engine, data, subject, COPIES if images else COPIES[:1]))
    return result


def int8_plans(subject: Subject, count: int, seed: int) -> list[Assignment]:
    """Uniform INT8, then random plans with evenly spread shares of the units in INT8."""
    full = uniform(subject.partition, Precision.INT8, subject.possible, Precision.FP32)
    able = [unit for unit, precision in full.items() if precision is Precision.INT8]
    generator = random.Random(seed)
    plans: list[Assignment] = [full]
    for share in np.linspace(*SHARES, count - 1):
        chosen = set(generator.sample(able, round(share * len(able))))
        plans.append({unit: Precision.INT8 if unit in chosen else Precision.FP32 for unit in full})
    return plans


def decide(engine: Any, data: Dataset, subject: Subject, copies: tuple[Callable[[Array], Array], ...]) -> Decisions:
    columns = []
    for copy in copies:
        view = _Changed(engine, copy)
        parts = []
        for batch, outputs in run_dataset(view, data, subject.model.interface, BATCH):
            first = next(iter(outputs.values()))
            classes = first.reshape(batch.count, -1).argmax(axis=1)
            parts.append((top1(outputs, batch.labels, None), label_margins(outputs, batch.labels), classes))
        columns.append([np.concatenate(part) for part in zip(*parts, strict=True)])
    right, margins, classes = (np.stack(column) for column in zip(*columns, strict=True))
    return Decisions(right.astype(np.float64), margins, classes)


class _Changed:
    """An engine that sees changed images."""

    def __init__(self, engine: Any, change: Callable[[Array], Array]) -> None:
        self._engine, self._change = engine, change

    def run(self, feed: dict[str, Array]) -> dict[str, Array]:
        changed = {name: np.ascontiguousarray(self._change(array)) for name, array in feed.items()}
        outputs: dict[str, Array] = self._engine.run(changed)
        return outputs


def shifted(images: Array, axis: int) -> Array:
    """Images moved by a twentieth of their side; the edge is repeated where nothing was."""
    length = images.shape[axis]
    return np.take(images, np.maximum(np.arange(length) - length // 20, 0), axis)


COPIES: tuple[Callable[[Array], Array], ...] = (
    lambda images: images,
    lambda images: images[..., ::-1],
    lambda images: shifted(images, 3),
    lambda images: shifted(images, 2)[..., ::-1],
)
"""Of images [samples, channels, height, width]; the first is the image itself."""


def drop_per_change(before: Decisions, after: Decisions) -> float | None:
    """The counted drop of the pool over the share of its changed decisions, None where nothing changed."""
    changed = (before.classes != after.classes).mean()
    return float((before.right - after.right).mean() / changed) if changed else None


def draw(before: Decisions, after: Decisions, drawn: Array, others: Array) -> Draw:
    first, second = before.right[0, drawn], after.right[0, drawn]
    ours = estimate_drop(
        first,
        second,
        higher_is_better=True,
        margins=(before.margins[0, drawn], after.margins[0, drawn]),
        changed=float((before.classes[0, drawn] != after.classes[0, drawn]).mean()),
    )
    counting = counted_drop(first, second, higher_is_better=True)
    losses = (before.right - after.right).mean(axis=0)  # copies of a sample make one value
    rest = losses[others]
    error = float(rest.std(ddof=1)) / math.sqrt(rest.size)
    return Draw(ours=ours, counting=counting, rest=float(rest.mean()), rest_error=error, pool=float(losses.mean()))


def row(draws: list[Draw]) -> list[str]:
    widths = np.array([[width(d.ours), width(d.counting)] for d in draws])
    seen = widths[:, 1] > 0
    ratios = widths[seen, 0] / widths[seen, 1]
    ratio = [f"{np.quantile(ratios, share):.2f}" if seen.any() else "-" for share in (0.5, 0.9)]
    sides = [[d.ours for d in draws], [d.counting for d in draws]]
    rests = [np.mean([meets(drop, d) for drop, d in zip(side, draws, strict=True)]) for side in sides]
    pools = [np.mean([drop.low <= d.pool <= drop.high for drop, d in zip(side, draws, strict=True)]) for side in sides]
    errors = [rms([drop.estimate - d.rest for drop, d in zip(side, draws, strict=True)]) for side in sides]
    bias = float(np.mean([d.ours.estimate - d.rest for d in draws]))
    noise = rms([d.rest_error for d in draws])
    shares = [f"{share:.2f}" for share in (1 - seen.mean(), *rests, *pools)]
    return [*ratio, *shares, f"{bias:+.4f}", *(f"{error:.4f}" for error in (*errors, noise))]


def width(drop: Drop) -> float:
    return drop.high - drop.low


def meets(drop: Drop, compared: Draw) -> bool:
    """Whether the estimate differs from the rest by no more than both errors explain."""
    error = width(drop) / (2 * NORMAL_95)
    return abs(drop.estimate - compared.rest) <= NORMAL_95 * math.hypot(error, compared.rest_error)


def rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


if __name__ == "__main__":
    main()
