"""Makes the files in `data` with the version whose files must stay readable: it runs on commit aef627e, and only there.

    python tests/compatibility/record.py runs                    run directories, plans, baselines, JSON of each verb
    python tests/compatibility/record.py names                   verbs, options and public Python names
    python tests/compatibility/record.py study NAME [ZOO]        what decided a search, to be replayed

Files name the place of the model and its data: /somewhere/digits, a folder that this script makes and takes away.
NAME is digits, digits-size, digits-max-latency, or a model of the zoo, whose folder is ZOO.
"""

from __future__ import annotations

import gzip
import inspect
import json
import pkgutil
import platform
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
EXAMPLE = HERE.parents[1] / "examples" / "digits"
PLACE = Path("/somewhere/digits")
SAMPLES = {"calib.npz": 60, "eval.npz": 240}
"""The first ones of the example, so that tests are quick."""
PLATFORM, HOST = "Linux-6.1-x86_64-with-glibc2.36", "somewhere"

# The command line, on a machine of another name, that may be killed as the stage or the plan of that number begins.
DRIVER = f"""
import os, platform, signal, socket, sys
platform.platform = lambda *a, **k: {PLATFORM!r}
socket.gethostname = lambda: {HOST!r}
from autoprec.cli import main, screen
from autoprec.measuring import Measuring

where, count = sys.argv[1], int(sys.argv[2])
seen, stage = [], [""]

def note(name):
    seen.extend([1] * (name == where))
    if name == where and len(seen) == count:
        os.kill(os.getpid(), signal.SIGKILL)

class Screen(screen.Screen):
    def stage(self, name, detail):
        super().stage(name, detail)
        stage[0] = name

    def advance(self, share):
        super().advance(share)
        note(stage[0])

def measured(self, plan, asked, measure=Measuring.__call__):
    note("search")
    return measure(self, plan, asked)

screen.Screen, Measuring.__call__ = Screen, measured
main(sys.argv[3:], prog_name="autoprec")
"""

DIGITS = ("digits.onnx", "--calib", "calib.npz", "--eval", "eval.npz")
BOUND = ("--metric", "top1", "--max-drop", "0.01", "--seed", "0", "--threads", "1")
BRIER = ("--metric", "brier:brier", "--max-drop", "0.002", "--seed", "0", "--threads", "1")
DOCUMENTED = (
    "autoprec.gate.limits:Limits",
    "autoprec.study.sampler:ModelGuidedSampler",
    "autoprec.testing:BackendContract",
    "autoprec.testing:FakeBackend",
    "autoprec.testing:FakeEngine",
    "autoprec.testing:tiny_data",
    "autoprec.testing:tiny_model",
    "autoprec.pytest_plugin:Gate",
)
"""Dotted names that the README, or the help of a public module, tells people to use."""
RTX = ("--backend", "tensorrt-rtx", "--target", "sm89", "--batch", "64", "--trials", "5")


def command(*words: str, killed: tuple[str, int] = ("", 0)) -> str:
    """Standard output of a command in the model's folder."""
    line = [sys.executable, "-c", DRIVER, killed[0], str(killed[1]), *words]
    done = subprocess.run(line, cwd=PLACE, capture_output=True, text=True, check=False)
    print(f"autoprec {' '.join(words)}: {done.returncode}\n{done.stderr[-300:]}")
    assert done.returncode == (-signal.SIGKILL if killed[1] else 0), done.stderr
    return done.stdout


def runs() -> None:
    """Everything that verbs write to disk or print for machines."""
    PLACE.mkdir(parents=True)
    try:
        for name in ("digits.onnx", "brier.py"):
            shutil.copy(EXAMPLE / name, PLACE)
        for name, count in SAMPLES.items():
            with np.load(EXAMPLE / name) as arrays:
                np.savez(PLACE / name, **{key: array[:count] for key, array in arrays.items()})
        printed = {"tune": command("tune", *DIGITS, *BOUND, "--trials", "6", "--out", "finished", "--json", "--quiet")}
        printed["tune --dry-run"] = command("tune", *DIGITS, *BOUND, "--out", "other", "--dry-run", "--json")
        command("tune", *DIGITS, *BOUND, "--trials", "5", "--out", "killed-search", killed=("search", 4))
        command("tune", *DIGITS, *BOUND, "--trials", "2", "--out", "killed-sensitivity", killed=("sensitivity", 6))
        command("tune", *DIGITS, *BRIER, "--trials", "3", "--out", "own-metric", "--quiet")
        command("tune", *DIGITS, *BOUND, *RTX, "--out", "modelled", "--quiet")
        printed["units"] = command("units", "digits.onnx", "--json")
        printed["front"] = command("front", "finished", "--json", "--all")
        printed["front of another bound"] = command("front", "finished", "--json", "--max-latency", "0.9")
        printed["profile"] = command("profile", *DIGITS, "--out", "profiled", "--json", "--quiet", "--metric", "top1")
        command("front", "finished", "--point", "2", "-o", "point")
        command("front", "modelled", "--point", "3", "-o", "modelled-point")  # INT8 and FP16
        command("baseline", "finished", "-o", "baseline.json")
        command("baseline", "own-metric", "-o", "baseline-own-metric.json")
        command("baseline", "modelled", "-o", "baseline-modelled.json")
        printed["build"] = command("build", "finished/plan.json", "digits.onnx", "--out", "built.onnx", "--json")
        printed["build --profile"] = command(
            "build",
            "finished/plan.json",
            "digits.onnx",
            "--out",
            "built.onnx",
            "--json",
            "--backend",
            "ort-cpu",
            "--profile",
        )
        printed["gate"] = command("gate", "digits.onnx", "--baseline", "baseline.json", "--json", "--quiet")
        for place in ("plans", "runs"):
            shutil.rmtree(DATA / place, ignore_errors=True)
            (DATA / place).mkdir(parents=True)
        for name in ("finished", "killed-search", "killed-sensitivity", "modelled"):
            # Engines are of one version of the runtime, and large; without them they are built again.
            shutil.copytree(PLACE / name, DATA / "runs" / name, ignore=shutil.ignore_patterns("engines"))
        shutil.copy(PLACE / "point" / "plan.json", DATA / "plans" / "point.json")
        shutil.copy(PLACE / "modelled-point" / "plan.json", DATA / "plans" / "tensorrt-rtx.json")
        for name in ("baseline.json", "baseline-own-metric.json", "baseline-modelled.json"):
            shutil.copy(PLACE / name, DATA)
        write(DATA / "printed.json", {verb: json.loads(text) for verb, text in printed.items()})
        subprocess.run([sys.executable, __file__, "plans"], cwd=PLACE, check=True)
    finally:
        shutil.rmtree(PLACE.parent)


def plans() -> None:
    """Plans for runtimes that need a GPU: what they are chosen by does not matter here, so a sum of costs does it."""
    import autoprec
    from autoprec.precision import Precision
    from autoprec.testing import FakeBackend

    for scheme in ("tensorrt", "tensorrt-8"):
        backend = FakeBackend()
        backend.name, backend.scheme = "tensorrt", scheme
        backend.support = lambda: {  # type: ignore[method-assign]
            p: None if p in (Precision.FP32, Precision.FP16, Precision.INT8) else "not here" for p in Precision
        }
        result = autoprec.search(
            "digits.onnx",
            calib="calib.npz",
            eval="eval.npz",
            metric="top1",
            backend=backend,
            trials=6,
            out=scheme,
            pins=["/block2/pointwise.*=fp16"],
        )
        result.plan.save(DATA / "plans" / f"{scheme}.json")
        print(scheme, {p.value for p in result.plan.precisions().values()})


def names() -> None:
    """What scripts and programs of users call."""
    import click

    import autoprec
    from autoprec.cli import VERBS, main

    verbs = {}
    for verb in VERBS:
        found = main.get_command(click.Context(main), verb)
        assert found is not None
        verbs[verb] = {
            "arguments": [p.name for p in found.params if isinstance(p, click.Argument)],
            "options": sorted(
                o for p in found.params if isinstance(p, click.Option) for o in (*p.opts, *p.secondary_opts)
            ),
            "choices": {
                p.opts[0]: list(p.type.choices)
                for p in found.params
                if isinstance(p, click.Option) and isinstance(p.type, click.Choice)
            },
            "defaults": {
                p.opts[0]: p.default
                for p in found.params
                if isinstance(p, click.Option) and isinstance(p.default, str | int | float)
            },
        }
    write(DATA / "command_line.json", verbs)
    from autoprec.drops import Drop
    from autoprec.pareto import RunFront
    from autoprec.points import Chosen, Point
    from autoprec.study.measured import Measurement, Trial

    from autoprec.gate.verdict import Check, GateReport
    from autoprec.plan import Choice

    reached = (Drop, Check, GateReport, RunFront, Choice, Chosen, Point, Measurement, Trial)
    record = {
        "autoprec": {name: described(getattr(autoprec, name)) for name in autoprec.__all__},
        "documented": {path: described(pkgutil.resolve_name(path)) for path in DOCUMENTED},
        "reached": {thing.__name__: described(thing) for thing in reached},
    }
    write(DATA / "python_api.json", record)


def described(thing: Any) -> dict[str, Any]:
    record: dict[str, Any] = {}
    if callable(thing) and not (isinstance(thing, type) and issubclass(thing, Exception | str)):
        record["parameters"] = [
            [p.name, p.kind.name, None if p.default is p.empty else str(p.default)]
            for p in inspect.signature(thing).parameters.values()
        ]
    if isinstance(thing, type):
        attributes = {name for name in vars(thing) if not name.startswith("_")}
        attributes |= {f.name for f in fields(thing)} if is_dataclass(thing) else set()
        record["attributes"] = sorted(attributes)
    return record


def study(name: str, zoo: Path | None) -> None:
    """Tune, and keep everything that the search and the choice were made by."""
    import tempfile

    import autoprec.confirming
    import autoprec.pipeline
    from autoprec.confirming import Confirming
    from autoprec.study.goals import Goal
    from autoprec.study.measured import as_stored
    from autoprec.study.search import Search

    import autoprec
    from autoprec.errors import BackendError

    kept: dict[str, Any] = {"name": name, "measured": []}

    def sampler(
        which: str, problem: Any, prior: Any, goal: Goal, seed: int, make: Any = autoprec.pipeline.make_sampler
    ) -> Any:
        kept["sampler"], kept["seed"], kept["goal"] = which, seed, bounds(goal)
        kept["partition"] = asdict(problem.partition)
        kept["choices"] = {unit: [p.value for p in options] for unit, options in problem.choices.items()}
        kept["carrier"] = problem.carrier.value
        kept["loss"] = [[unit, p.value, value] for (unit, p), value in problem.loss.items()]
        kept["prior"] = [[unit, p.value, value] for (unit, p), value in prior.items()]
        return make(which, problem, prior, goal, seed)

    class Recorded(Search):
        def run(self) -> Any:
            measure = self.measure

            def measured(plan: Any, wanted: Any) -> Any:
                row = {"plan": words(plan), "rival": finite(wanted.rival), "everything": wanted.everything}
                kept["measured"].append(row)
                try:
                    found = measure(plan, wanted)
                except BackendError as error:
                    row["refused"] = str(error)
                    raise
                row["measurement"] = as_stored(found)
                return found

            self.measure = measured
            kept["limit"], kept["seeds"] = self.limit, {n: words(plan) for n, plan in self.seeds.items()}
            found = super().run()
            kept["origins"] = [t.origin for t in found.trials]
            kept["feasible"], kept["stopped"], kept["best"] = found.feasible, found.stopped, found.best.number
            kept["finalists"] = [t.number for t in found.finalists]
            return found

    def chosen(self: Any, engines: Any, timings: Any, found: Any, choose: Any = Confirming._chosen) -> Any:
        kept["sizes"] = {n: engine.size for n, engine in engines.items()}
        kept["timings"] = {n: list(timing.rounds_ms) for n, timing in timings.items()}
        result = choose(self, engines, timings, found)
        kept["met"], kept["chosen"], kept["set_aside"] = result[0].feasible, result[1], list(self._set_aside)
        return result

    autoprec.pipeline.make_sampler, autoprec.pipeline.Search = sampler, Recorded
    Confirming._chosen = chosen  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as out:
        options = searched(name, zoo, Path(out))
        result = autoprec.search(out=out, seed=0, threads=2, trials=16, **options)
    kept["answer"] = words(result.plan.precisions())
    (DATA / "studies").mkdir(parents=True, exist_ok=True)
    text = json.dumps(kept, separators=(",", ":"), allow_nan=False)
    (DATA / "studies" / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    print(name, len(kept["measured"]), "plans,", kept["stopped"], "->", kept["chosen"], kept["finalists"])


def searched(name: str, zoo: Path | None, out: Path) -> dict[str, Any]:
    """Model, data and bounds, as the example and the benchmark of the zoo have them."""
    if name.startswith("digits"):
        data = {"model": EXAMPLE / "digits.onnx", "calib": EXAMPLE / "calib.npz", "eval": EXAMPLE / "eval.npz"}
        bounds = {
            "digits": {"max_drop": 0.01},
            "digits-size": {"max_drop": 0.0005, "objective": "size"},
            "digits-max-latency": {"max_latency": 0.85},
        }
        return {**data, "metric": "top1", **bounds[name]}
    import importlib.util

    assert zoo is not None
    spec = importlib.util.spec_from_file_location("benchmark_of_the_zoo", HERE.parent / "benchmarks" / "zoo.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    task = benchmark.load_zoo(zoo).load(name)
    outputs = benchmark.fp32_outputs(task)
    labels, metric = benchmark.judged_by(task, outputs, len(task.score(outputs)), 1)
    calib = {key: array[:50] for key, array in task.calib.items()}
    evaluate = {key: array[:160] for key, array in {**task.eval, "labels": labels}.items()}
    return {
        "model": task.model,
        "calib": calib,
        "eval": evaluate,
        "metric": metric,
        "direction": "higher",
        "max_drop": benchmark.MAX_DROP.get(name, 0.01),
    }


def words(plan: Any) -> dict[str, str]:
    return {unit: precision.value for unit, precision in plan.items()}


def bounds(goal: Any) -> list[Any]:
    return [goal.objective, finite(goal.max_drop), finite(goal.max_latency)]


def finite(value: float) -> float | None:
    return value if abs(value) != float("inf") else None


def write(path: Path, record: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    platform.platform = lambda *args, **options: PLATFORM
    socket.gethostname = lambda: HOST
    match sys.argv[1:]:
        case ["runs"]:
            runs()
        case ["plans"]:
            plans()
        case ["names"]:
            names()
        case ["study", name, *rest]:
            study(name, Path(rest[0]) if rest else None)
