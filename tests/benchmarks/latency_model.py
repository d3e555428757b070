"""How well the latency model predicts plans that it was not fitted to.

    python tests/benchmarks/latency_model.py ZOO [MODEL ...] [--batch 128] [--fit 40] [--unseen 20] [--seconds S]
        [--out FOLDER] [--backend tensorrt] [--target sm89]
    python tests/benchmarks/latency_model.py --again FILE [FILE ...]

Half of the plans are random in each unit, half are contiguous blocks of one precision. The unseen ones are measured
first, then those to fit, beside the uniform plans and the halves that every search begins with; each is timed
against FP32 as in a search. What was measured is kept in FOLDER/MODEL-BATCH/latency_plans.json, which `--again` fits
anew without measuring.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from beside import neighbour

import autoprec
from autoprec.backends.make import make_backend
from autoprec.cli.screen import print_table
from autoprec.graph.model import load_model
from autoprec.precision import Precision
from autoprec.proof.inspect import time_profile_of
from autoprec.run.context import Run, prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.engines import timing_feed
from autoprec.run.settings import Settings
from autoprec.run.stages.halves import deal_halves
from autoprec.run.stages.latency import profile_uniform_plans
from autoprec.run.stages.ranges import find_ranges
from autoprec.run.task import prepare_task
from autoprec.run.uniform import FP32_PLAN, seed_plans, uniform_plans
from autoprec.study.guide.fidelity import fidelity
from autoprec.study.guide.fitting import LatencyFit
from autoprec.study.guide.pricing import Pricing
from autoprec.timing.compare import compare
from autoprec.units.find import find_units

HEADER = ["model", "batch", "fitted to", "unseen", "Spearman", "error, mean", "error, worst", "worst plan"]
ROUNDS, TURN_MS = (7, 21), 30.0
Plan = dict[str, Precision]


@dataclass(frozen=True)
class Timed:
    """A plan that was timed, and perhaps profiled."""

    plan: Plan
    latency: float
    layers_ms: Mapping[str, float] | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path, nargs="?")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--fit", type=int, default=40)
    parser.add_argument("--unseen", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for the plans of each model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("autoprec-runs/latency-model"))
    parser.add_argument("--backend", default="tensorrt")
    parser.add_argument("--target", default="", help="for tensorrt-rtx without a GPU")
    parser.add_argument("--again", type=Path, nargs="+", help="files to fit anew")
    options = parser.parse_args()
    rows: list[list[str]] = []
    if options.again:
        for path in options.again:
            rows += rows_of(json.loads(path.read_text(encoding="utf-8")))
        print_table(HEADER, rows)
        return
    cpu = neighbour("zoo")
    zoo = cpu.load_zoo(options.zoo)
    for name in options.models or ("mobilenet_v1_075", "etinynet", "resnet20_cifar10"):
        rows += rows_of(measured(cpu, zoo.load(name), options))
        print_table(HEADER, rows)
        sys.stdout.flush()


def measured(cpu: Any, task: Any, options: Any) -> dict[str, Any]:
    """Latencies of all plans against FP32, as JSON, kept as they come."""
    labels = cpu.labels_of(task, cpu.fp32_outputs(task)[0])
    calib = {name: array[: cpu.CALIBRATION_SAMPLES] for name, array in task.calib.items()}
    settings = Settings(
        model=task.model, calib=calib, evaluate={**task.eval, "labels": labels}, metric="top1", batch=options.batch
    )
    directory = RunDirectory(options.out / f"{task.name}-{options.batch}")
    directory.prepare()
    backend = make_backend(options.backend, None, tuple(filter(None, options.target.split(","))))
    run = deal_halves(prepare_run(prepare_task(settings, backend), directory))
    ranges = find_ranges(run)
    subject = run.task.subject
    prior = profile_uniform_plans(run, ranges)
    plans = plans_of(subject, options)
    record: dict[str, Any] = {
        "model": task.name,
        "path": str(task.model),
        "batch": options.batch,
        "carrier": str(subject.space.carrier),
        "prior": [[unit, str(p), share] for (unit, p), share in prior.items()],
        "rows": [],
    }
    target, begun = directory.root / "latency_plans.json", time.monotonic()
    feed = timing_feed(run.task, run.task.splits.select)
    with ExitStack() as stack:
        reference = run.engines.open(uniform_plans(subject)[FP32_PLAN], ranges, stack)
        for kind, plan in plans:
            if time.monotonic() - begun > options.seconds:
                break
            row = {"kind": kind, "plan": {u: str(p) for u, p in plan.items()}, "ratio": None}
            start = time.monotonic()
            try:
                with ExitStack() as own:
                    engine = run.engines.open(plan, ranges, own)
                    pair = {"fp32": reference.timed, "plan": engine.timed}
                    timing = compare(pair, feed, rounds=ROUNDS, turn_ms=TURN_MS, tolerance=0.005)
                ratio = timing["plan"].ratio_to(timing["fp32"])
                row |= {"ratio": ratio.estimate, "low": ratio.low, "high": ratio.high}
                row["profile"] = profiled(run, run.engines.lowered(plan, ranges), feed)
            except autoprec.AutoprecError as error:
                row["error"] = str(error)
            row["seconds"] = time.monotonic() - start
            record["rows"].append(row)
            target.write_text(json.dumps(record), encoding="utf-8")
            print(f"{task.name} {kind} {row['ratio']} {row['seconds']:.1f} s", file=sys.stderr, flush=True)
    return record


def profiled(run: Run, model: bytes, feed: Any) -> dict[str, Any]:
    """The runtime's own profile of a plan: milliseconds of each unit and boundary, as JSON."""
    found = time_profile_of(run.task.subject.partition, run.backend, model, feed)
    boundaries = [[before, after, ms] for (before, after), ms in found.boundary_ms.items()]
    return {
        "units": dict(found.unit_ms),
        "boundaries": boundaries,
        "rest": [list(row) for row in found.rest],
        "layers_ms": found.layers_ms,
    }


def plans_of(subject: Any, options: Any) -> list[tuple[str, Plan]]:
    """What a search begins with, then the unseen plans, then those to fit, both kinds by turns; all differ."""
    random = np.random.default_rng(options.seed)
    plans = [("seed", dict(plan)) for plan in seed_plans(subject).values()]
    for use, count in (("unseen", options.unseen), ("fit", options.fit)):
        for number in range(count):
            draw = contiguous if number % 2 else scattered
            for _ in range(100):
                plan = draw(subject.choices, random)
                if all(plan != known for _, known in plans):
                    plans.append((f"{use} {draw.__name__}", plan))
                    break
    return plans


def scattered(choices: Mapping[str, Sequence[Precision]], random: np.random.Generator) -> Plan:
    """Each unit by itself."""
    return {name: options[int(random.integers(len(options)))] for name, options in choices.items()}


def contiguous(choices: Mapping[str, Sequence[Precision]], random: np.random.Generator) -> Plan:
    """Two to four blocks, each in one precision where it is possible."""
    names = list(choices)
    cuts = sorted(random.choice(np.arange(1, len(names)), size=int(random.integers(1, 4)), replace=False))
    offered = sorted({p for options in choices.values() for p in options})
    plan: Plan = {}
    for first, last in zip([0, *cuts], [*cuts, len(names)], strict=True):
        wanted = offered[int(random.integers(len(offered)))]
        plan |= {n: wanted if wanted in choices[n] else choices[n][0] for n in names[first:last]}
    return plan


def rows_of(record: Mapping[str, Any]) -> list[list[str]]:
    """One row for each number of plans that the model is fitted to, with their profiles and without."""
    partition = find_units(load_model(record["path"]).graph)
    prior = {(unit, Precision(p)): share for unit, p, share in record["prior"]}
    pricing = Pricing(partition, prior, Precision(record["carrier"]))
    known: dict[str, list[Timed]] = {"seed": [], "unseen": [], "fit": []}
    for row in record["rows"]:
        if row["ratio"] is not None:
            plan = {unit: Precision(p) for unit, p in row["plan"].items()}
            layers = row.get("profile", {}).get("layers_ms")
            known[row["kind"].split()[0]].append(Timed(plan, row["ratio"], layers))
    rows = []
    for profiled in (False, True) if known["seed"][0].layers_ms else (False,):
        for count in sorted({n for n in (0, 5, 10, 20, 40, 80) if n <= len(known["fit"])} | {len(known["fit"])}):
            fitted = [t if profiled else replace(t, layers_ms=None) for t in (*known["seed"], *known["fit"][:count])]
            words = f"{len(known['seed'])} + {count}{' profiled' if profiled else ''}"
            rows.append([record["model"], str(record["batch"]), words, *figures(pricing, fitted, known["unseen"])])
    return rows


def figures(pricing: Pricing, fitted: Sequence[Timed], unseen: Sequence[Timed]) -> list[str]:
    """Number of unseen plans, Spearman, mean and worst error, and the worst plan."""
    latencies = np.array([timed.latency for timed in fitted])
    fit = LatencyFit(pricing, [timed.plan for timed in fitted], latencies, [timed.layers_ms for timed in fitted])
    means, _ = fit.predict([timed.plan for timed in unseen])
    predicted = [
        (number, float(mean), timed.latency) for number, (mean, timed) in enumerate(zip(means, unseen, strict=True))
    ]
    found = fidelity(predicted)
    errors = [abs(mean / latency - 1) for _, mean, latency in predicted]
    rank, worst = "-" if found.rank is None else f"{found.rank:.3f}", int(np.argmax(errors))
    return [str(len(unseen)), rank, f"{np.mean(errors):.1%}", f"{errors[worst]:.1%}", str(worst)]


if __name__ == "__main__":
    main()
