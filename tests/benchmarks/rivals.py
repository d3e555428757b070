"""The tuned plan beside the plans of other methods, all lowered by autoprec and measured in one run.

    python tests/benchmarks/rivals.py ZOO [MODEL ...] [--batch 128] [--trials N] [--timeout S] [--out FOLDER]
        [--backend tensorrt] [--target sm89] [--modelopt FOLDER] [--only NAME ...]

- uniform FP16 and uniform INT8, which is the placement of NVIDIA's Model Optimizer with the ranges of autoprec;
- the same with Model Optimizer's own default, the entropy calibrator and biases as they are;
- least sensitive first: from FP16, units go to INT8 in the order of their sensitivity, as many as meet the bound
  (AIMET's mixed precision and its kin), and the half that is least sensitive, whatever the bound;
- the builder's free choice between FP32, FP16 and INT8, with the ranges of autoprec (TensorRT 8.6 and 10);
- the Q/DQ model that Model Optimizer itself made of the same model, where FOLDER/NAME.onnx is one; TensorRT 8.6 chooses
  between its float types in it;
- worst reverted first: from uniform INT8, units go back to FP16, those first whose return helps most, until the
  bound is met (NNCF's accuracy control).

The rivals judge by the counted drop on the selection samples, as they do, in simulation; every row of the table is
measured by the engine on the report samples, latencies in shared rounds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from beside import neighbour

import autoprec
from autoprec.backends.slow_builds import BuildsUnderLimit
from autoprec.calibrate.choose import calibrate_model
from autoprec.calibrate.job import CalibrationJob
from autoprec.cli.screen import print_table
from autoprec.metrics.evaluator import Evaluator
from autoprec.precision import LIMITS_KEY, Precision
from autoprec.recipes.ranging import CalibrationRecipe
from autoprec.run.engines import Engines, PlanEngine, timing_feed
from autoprec.run.stages.builders_choice import choice_of_builder
from autoprec.run.uniform import uniform_plans
from autoprec.stats.drop import counted_drop
from autoprec.timing.compare import compare

HEADER = [
    "model",
    "plan",
    "score",
    "drop by count (95 %)",
    "estimated drop",
    "ms",
    "vs FP16",
    "INT8 units",
    "made in s",
]
FP16, INT8, DEFAULT = "uniform fp16", "uniform int8", "uniform int8, entropy, biases as they were"
LEAST, HALF, REVERTED = "least sensitive first", "least sensitive half", "worst reverted first"
FREE, MODELOPT, OURS = "the builder's free choice", "Model Optimizer's own Q/DQ", "autoprec"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="*", default=["mobilenet_v1_075", "etinynet", "kwt1"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--timeout", type=float, help="seconds for each tune")
    parser.add_argument("--out", type=Path, default=Path("autoprec-runs/rivals"))
    parser.add_argument("--backend", default="tensorrt")
    parser.add_argument("--target", default="", help="for tensorrt-rtx without a GPU")
    parser.add_argument("--modelopt", type=Path, help="a folder of Q/DQ models, named like the models of the zoo")
    parser.add_argument("--only", nargs="+", help="the rows to make, beside FP16's and autoprec's")
    options = parser.parse_args()
    cpu, gpu = neighbour("zoo"), neighbour("gpu")
    zoo = cpu.load_zoo(options.zoo)
    rows: list[list[str]] = []
    for name in options.models:
        start = time.monotonic()
        task = zoo.load(name)
        try:
            result = gpu.searched(cpu, task, fixed_batch(task) or options.batch, options)
            seconds = time.monotonic() - start
            print(f"{name}: {result.reason}; tuned in {seconds:.0f} s", file=sys.stderr, flush=True)
            rows += rows_of(name, result, seconds, options)
        except autoprec.AutoprecError as error:  # the other models have their rows
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        print_table(HEADER, rows)
        sys.stdout.flush()


def fixed_batch(task: Any) -> int | None:
    """The batch that is written into the model, None where any will do."""
    first = onnx.load(task.model, load_external_data=False).graph.input[0].type.tensor_type.shape.dim[0]
    return first.dim_value or None


class Rivals:
    """The plans of other methods for a tuned task."""

    def __init__(self, tuned: Any, stack: ExitStack) -> None:
        self.tuned, self.stack, self.task = tuned, stack, tuned.task
        self.engines = Engines(self.task, self.task.backend)
        uniform = uniform_plans(self.task.subject)  # a run that was cut short has not judged all of them
        self.fp16 = uniform.get(FP16, uniform["uniform fp32"])
        self.int8 = uniform.get(INT8, self.fp16)
        fp32 = self.engines.as_given(stack)
        interface, settings = self.task.subject.model.interface, self.task.settings
        self.judge = Evaluator.against(fp32, self.task.splits.select, interface, self.task.metric, settings.batch)
        self.movable = [name for name, plan in self.int8.items() if plan is Precision.INT8]

    def drop(self, plan: Mapping[str, Precision]) -> float:
        """Counted on the selection samples, in simulation."""
        with ExitStack() as stack:
            engine = self.engines.simulated(plan, self.tuned.ranges, stack)
            return self.judge.drop(self.judge.evaluate(engine))

    def least_sensitive(self, count: int) -> dict[str, Precision]:
        """The `count` least sensitive units in INT8."""
        known = self.tuned.profile.entries
        noise = {n: known[n, Precision.INT8].noise if (n, Precision.INT8) in known else math.inf for n in self.movable}
        chosen = sorted(self.movable, key=noise.__getitem__)[:count]
        return {**self.fp16, **dict.fromkeys(chosen, Precision.INT8)}

    def least_sensitive_first(self) -> dict[str, Precision]:
        """As many as meet the bound, by bisection."""
        low, high, bound = 0, len(self.movable), self.task.settings.max_drop
        if self.drop(self.least_sensitive(high)) <= bound:
            return self.least_sensitive(high)
        while high - low > 1:
            middle = (low + high) // 2
            met = self.drop(self.least_sensitive(middle)) <= bound
            low, high = (middle, high) if met else (low, middle)
        return self.least_sensitive(low)

    def half(self) -> dict[str, Precision]:
        """Whatever the bound."""
        return self.least_sensitive(len(self.movable) // 2)

    def worst_reverted_first(self) -> dict[str, Precision]:
        """Units go back until the bound is met; a return that makes it worse is taken back."""
        plan, bound = dict(self.int8), self.task.settings.max_drop
        drop = self.drop(plan)
        if drop <= bound:
            return plan
        alone = {name: self.drop({**plan, name: self.fp16[name]}) for name in self.movable}
        for name in sorted(self.movable, key=alone.__getitem__):
            tried = {**plan, name: self.fp16[name]}
            found = self.drop(tried)
            if found <= drop:
                plan, drop = tried, found
            if drop <= bound:
                return plan
        return dict(self.fp16)


def rows_of(name: str, result: Any, seconds: float, options: argparse.Namespace) -> list[list[str]]:
    """Build every rival that there is, and measure those that could be built."""
    tuned = result.tuned
    if isinstance(tuned.task.backend, BuildsUnderLimit):  # the limit was the tune's
        tuned.task.backend.limit_builds(lambda: math.inf)
    with ExitStack() as stack:
        rivals = Rivals(tuned, stack)
        makers: dict[str, Callable[[], Mapping[str, Precision]]] = {
            FP16: lambda: rivals.fp16,
            INT8: lambda: rivals.int8,
            DEFAULT: lambda: rivals.int8,
            LEAST: rivals.least_sensitive_first,
            HALF: rivals.half,
            REVERTED: rivals.worst_reverted_first,
            FREE: lambda: choice_of_builder(rivals.task, rivals.task.backend, tuned.ranges, rivals.fp16),
            OURS: lambda: tuned.plan,
        }
        plans: dict[str, Mapping[str, Precision]] = {}
        engines, took = {}, {OURS: f"{seconds:.0f}"}
        for words, make in makers.items():
            if options.only and words not in (FP16, OURS, *options.only):
                continue
            start = time.monotonic()
            try:
                plan = make()
                ranges = default_ranges(tuned) if words == DEFAULT else tuned.ranges
                took.setdefault(words, f"{time.monotonic() - start:.0f}" if words in (LEAST, HALF, REVERTED) else "")
                engines[words] = rivals.engines.open(plan, ranges, stack)
                plans[words] = plan
            except autoprec.AutoprecError as error:
                print(f"{name}, {words}: {error}", file=sys.stderr, flush=True)
        given = None if options.modelopt is None else options.modelopt / f"{name}.onnx"
        if given is not None and given.is_file():
            try:
                engine = stack.enter_context(rivals.task.backend.build(typed_by_builder(given)))
                engines[MODELOPT], plans[MODELOPT] = PlanEngine(engine, engine, engine.size_bytes), {}
            except autoprec.AutoprecError as error:
                print(f"{name}, {MODELOPT}: {error}", file=sys.stderr, flush=True)
        return measured(name, tuned, plans, engines, took, result.directory)


def typed_by_builder(path: Path) -> bytes:
    """A Q/DQ model whose float types are the builder's choice; no value needs a range, as the pairs hold them."""
    model = onnx.load(path)
    model.metadata_props.add(key=LIMITS_KEY, value="{}")
    return bytes(model.SerializeToString())


def default_ranges(tuned: Any) -> Any:
    task = tuned.task
    recipe, subject = CalibrationRecipe(name="entropy", method="entropy"), task.subject
    found = calibrate_model(
        CalibrationJob(
            lowerer=subject.lowerer,
            possible=subject.possible,
            backend=task.backend,
            dataset=task.splits.calibrate,
            recipe=recipe,
        )
    )
    return replace(found, means={})


def measured(name: str, tuned: Any, plans: Any, engines: Any, took: Any, directory: Path) -> list[list[str]]:
    """One row for each engine, on samples that chose nothing, by a clock that they share."""
    task, data = tuned.task, tuned.task.splits.report
    timings = compare(
        {words: engine.timed for words, engine in engines.items()},
        timing_feed(task, data),
        rounds=(15, 31),
        turn_ms=100.0,
    )
    with ExitStack() as stack:
        fp32 = Engines(task, task.backend).as_given(stack)
        judge = Evaluator.against(fp32, data, task.subject.model.interface, task.metric, task.settings.batch)
        outcomes = {words: judge.evaluate(engine.computing) for words, engine in engines.items()}
    rows, records = [], {}
    for words, outcome in outcomes.items():
        counted = counted_drop(judge.reference_scores, outcome.scores, task.metric.higher_is_better)
        guess, ratio = judge.estimated_drop(outcome), timings[words].ratio_to(timings.get(FP16, timings[OURS]))
        units = sum(p is Precision.INT8 for p in plans[words].values())
        records[words] = {"plan": {u: str(p) for u, p in plans[words].items()}, "rounds_ms": timings[words].rounds_ms}
        rows.append(
            [
                name,
                words,
                f"{outcome.scores.mean():.4f}",
                f"{counted.estimate:+.4f} ({counted.low:+.4f} .. {counted.high:+.4f})",
                f"{guess.estimate:+.4f} ({guess.low:+.4f} .. {guess.high:+.4f})",
                f"{timings[words].median_ms:.4f}",
                f"{ratio.estimate:.3f} ({ratio.low:.3f} .. {ratio.high:.3f})",
                str(units),
                took.get(words, ""),
            ]
        )
    (directory / "rivals.json").write_text(json.dumps({"rows": rows, "plans": records}), encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
