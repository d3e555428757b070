"""How good the search is, on a case where the best plan is known because every plan was measured.

    python tests/benchmarks/quality.py measure ZOO MODEL --out TABLE.npz [--units 12] [--rest int8] [--workers W]
        [--cores C] [--samples N] [--passes P]
    python tests/benchmarks/quality.py draw TABLE.npz [--seeds 20] [--share 0.05] [--picture FILE.svg]

`measure` frees the first units of the model that have a choice and pins the others, then measures the latency
(interleaved with FP32), noise, KL and estimated drop of every plan, in W processes that are pinned to C cores each.
It can be stopped and goes on from TABLE.npz.parts. The optimum of a noisy table is a lucky entry, so the fastest
tenth of each fifth of the drops is timed in further passes, and each entry is the median of its passes.

With `--clock cpu`, for one core, a run costs the CPU time of the thread that runs it and a plan its cheapest run: what
other programs do to the machine is left out, and repeated figures agree within 1 to 2 % where medians by the wall
clock differ by half.

`draw` lets every sampler search the table and prints best-so-far against evaluations, relative to the true optimum.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

TOP = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    measure = verbs.add_parser("measure")
    measure.add_argument("zoo", type=Path)
    measure.add_argument("model")
    measure.add_argument("--out", type=Path, required=True)
    measure.add_argument("--units", type=int, default=12)
    measure.add_argument("--skip", type=int, default=0, help="units with a choice before the first free one")
    measure.add_argument("--rest", default="int8", help="precision of all other units")
    measure.add_argument("--workers", type=int, default=1)
    measure.add_argument("--cores", type=int, default=1)
    measure.add_argument("--samples", type=int, default=200)
    measure.add_argument("--batch", type=int, default=16)
    measure.add_argument("--passes", type=int, default=3, help="further passes over the fastest tenth")
    measure.add_argument("--runs", type=int, default=12, help="timed runs of each plan, twice as many in later passes")
    measure.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    measure.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    measure.add_argument("--todo", type=Path, help=argparse.SUPPRESS)
    draw = verbs.add_parser("draw")
    draw.add_argument("table", type=Path)
    draw.add_argument("--seeds", type=int, default=20)
    draw.add_argument("--share", type=float, default=0.05)
    draw.add_argument("--drop", default="drop", choices=("drop", "kl", "noise"))
    draw.add_argument("--feasible", type=float, default=0.4, help="the bound is met by this share of the plans")
    draw.add_argument("--samplers", default="guided,tpe,nsga2,gp,random,greedy")
    draw.add_argument("--picture", type=Path)
    options = parser.parse_args()
    if options.verb == "draw":
        from quality_drawing import draw_table

        draw_table(options)
    elif options.worker is None:
        measure_table(options)
    else:
        work(options)


def measure_table(options: argparse.Namespace) -> None:
    parts = Path(f"{options.out}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    total = launch(options, parts, [], 0)  # also writes about.json
    for again in range(options.passes):
        known = merged(parts, total)
        launch(options, parts, fastest(known["latency"], known["kl"]), again + 1)
    about = json.loads((parts / "about.json").read_text())
    about |= {"command": " ".join(sys.argv[1:]), "seconds": round(time.monotonic() - begun)}
    table = {name: values.astype(np.float32) for name, values in merged(parts, total).items()}
    np.savez_compressed(options.out, about=json.dumps(about), **table)
    print(f"{options.out}: {total} plans, {options.out.stat().st_size} bytes")


def launch(options: argparse.Namespace, parts: Path, numbers: list[int], again: int) -> int:
    """Measure these plans, or all of them where none are named, once in this pass; returns how many plans there are."""
    todo = parts / f"todo-{again}.json"
    todo.write_text(json.dumps({"numbers": numbers, "pass": again}))
    command = [sys.executable, __file__, *sys.argv[1:], "--todo", str(todo), "--worker"]
    processes = [subprocess.Popen([*command, str(n)]) for n in range(options.workers)]
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f"workers ended with {codes}; run the same command again to go on")
    return int(json.loads((parts / "about.json").read_text())["plans"])


def fastest(latency: Any, drop: Any) -> list[int]:
    """The plans that could be the optimum under some bound: of each fifth of the drops the fastest tenth."""
    found: list[int] = []
    for part in np.array_split(np.argsort(drop), 5):
        found += [int(n) for n in part[np.argsort(latency[part])][: max(1, round(TOP * len(part)))]]
    return sorted(found)


def rows_of(parts: Path) -> list[dict[str, Any]]:
    rows = []
    for path in sorted(parts.glob("worker-*.jsonl")):
        lines = path.read_text().split("\n")
        rows += [json.loads(line) for line in lines[:-1]]  # the last may be cut off
    return rows


def merged(parts: Path, total: int) -> dict[str, Any]:
    """Medians over passes: quantity -> float64[plans]."""
    kinds = ("latency", "noise", "kl", "drop")
    found: dict[str, list[list[float]]] = {key: [[] for _ in range(total)] for key in kinds}
    for row in rows_of(parts):
        for key, lists in found.items():
            if row.get(key) is not None:
                lists[row["number"]].append(row[key])
    return {key: np.array([np.median(v) if v else np.nan for v in lists]) for key, lists in found.items()}


def work(options: argparse.Namespace) -> None:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    mine = cores[options.worker * options.cores :][: options.cores]
    if mine:
        os.sched_setaffinity(0, mine)
    # Everything that starts threads comes after pinning.
    from autoprec.metrics.evaluator import Evaluator
    from autoprec.run.context import prepare_run
    from autoprec.run.directory import RunDirectory
    from autoprec.run.engines import timing_feed
    from autoprec.run.stages.halves import deal_halves
    from autoprec.run.stages.latency import profile_uniform_plans
    from autoprec.run.stages.ranges import find_ranges
    from autoprec.run.stages.sensitivity import measure_sensitivities
    from autoprec.run.uniform import FP32_PLAN, uniform_plans
    from tests.helpers.exhaustive_table import Table

    parts = Path(f"{options.out}.parts")
    task = prepared(options)
    folder = parts / f"run-{options.worker}"
    run = deal_halves(prepare_run(task, RunDirectory(folder)))
    folder.mkdir(exist_ok=True)
    ranges = find_ranges(run)
    profile, prior = measure_sensitivities(run, ranges), profile_uniform_plans(run, ranges)
    task, subject = run.task, run.task.subject
    losses = {key: entry.noise for key, entry in profile.entries.items()}
    from autoprec.study.guide.solve import Problem

    problem = Problem(subject.partition, subject.choices, losses, subject.space.carrier)
    nothing = np.empty(0)
    table = Table(problem=problem, prior=prior, latency=nothing, drop=nothing, noise=nothing, about={})
    total = int(np.prod([len(choices) for choices in table.free.values()]))
    if options.worker == 0:
        write_about(parts, table, total, options, run)
    todo = json.loads(options.todo.read_text())
    again = todo["pass"]
    done = {row["number"] for row in rows_of(parts) if row["pass"] == again}
    wanted = np.random.default_rng(again).permutation(todo["numbers"] or np.arange(total))
    data = task.splits.select.subset(range(min(options.samples, task.splits.select.count)))
    feed = timing_feed(task, data)
    with ExitStack() as stack, (parts / f"worker-{options.worker}.jsonl").open("a") as file:
        reference = run.engines.open(uniform_plans(subject)[FP32_PLAN], ranges, stack)
        evaluator = Evaluator.against(reference.computing, data, subject.model.interface, task.metric, options.batch)
        for number in [int(n) for n in wanted[options.worker :: options.workers] if int(n) not in done]:
            row: dict[str, Any] = {"number": number, "pass": again}
            with ExitStack() as own:
                engine = run.engines.open(table.plan(number), ranges, own)
                runs = options.runs * (2 if again else 1)
                row["latency"] = ratio(reference.timed, engine.timed, feed, runs, options.clock)
                if not again:
                    outcome = evaluator.evaluate(engine.computing)
                    drop = evaluator.estimated_drop(outcome)
                    row |= {"noise": outcome.noise, "kl": outcome.kl, "drop": drop.estimate}
            file.write(json.dumps(row) + "\n")
            file.flush()


def ratio(reference: Any, engine: Any, feed: Any, runs: int, clock: str) -> float:
    """Latency over FP32's: medians by the wall clock, or the least CPU time, of runs in turns."""
    read, estimate = (time.thread_time, np.min) if clock == "cpu" else (time.perf_counter, np.median)
    times: list[list[float]] = [[], []]
    for number in range(runs + 2):
        for own, one in zip(times, (reference, engine), strict=True):
            begun = read()
            one.run(feed)
            if number >= 2:
                own.append(read() - begun)
    return float(estimate(times[1]) / estimate(times[0]))


def prepared(options: argparse.Namespace) -> Any:
    """The task with all but the free units pinned."""
    import zoo as harness

    from autoprec.backends.make import make_backend
    from autoprec.run.settings import Settings
    from autoprec.run.task import prepare_task

    zoo = harness.load_zoo(options.zoo)
    task = zoo.load(options.model)
    outputs = harness.fp32_outputs(task)
    labels = harness.labels_of(task, outputs[0])
    data = {name: array[: harness.CALIBRATION_SAMPLES] for name, array in task.calib.items()}
    evaluate = {**task.eval, "labels": labels}
    backend = make_backend("ort-cpu", options.cores)
    settings = Settings(
        model=task.model,
        calib=data,
        evaluate=evaluate,
        metric="top1",
        direction="higher",
        max_drop=0.01,
        batch=options.batch,
    )
    subject = prepare_task(settings, backend).subject
    free = [name for name, choices in subject.choices.items() if len(choices) > 1][options.skip :][: options.units]
    import re

    pins = [
        f"^{re.escape(name)}$={options.rest}"
        for name, choices in subject.choices.items()
        if name not in free and options.rest in [p.value for p in choices]
    ]
    pins += [
        f"^{re.escape(name)}$={choices[0].value}"
        for name, choices in subject.choices.items()
        if name not in free and options.rest not in [p.value for p in choices]
    ]
    settings = Settings(
        model=task.model,
        calib=data,
        evaluate=evaluate,
        metric="top1",
        direction="higher",
        max_drop=0.01,
        pins=pins,
        batch=options.batch,
    )
    return prepare_task(settings, backend)


def write_about(parts: Path, table: Any, total: int, options: argparse.Namespace, run: Any) -> None:
    problem = table.problem
    about = {
        "plans": total,
        "model": options.model,
        "samples": options.samples,
        "choices": {name: [p.value for p in choices] for name, choices in problem.choices.items()},
        "edges": [[e.producer, e.consumer, e.elements] for e in problem.partition.edges],
        "losses": [[unit, p.value, value] for (unit, p), value in problem.loss.items()],
        "prior": [[unit, p.value, value] for (unit, p), value in table.prior.items()],
        "carrier": problem.carrier.value,
        "machine": {**run.backend.describe(), "platform": platform.platform(), "processor": processor()},
    }
    (parts / "about.json").write_text(json.dumps(about))


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
