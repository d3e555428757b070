"""Tune zoo models with TensorRT on this machine's GPU and print one row for each engine.

    python tests/benchmarks/gpu.py ZOO [MODEL ...] [--batch 1,128] [--trials N] [--out FOLDER] [--resnet50]

For each model and batch: FP32 (with TF32, TensorRT's default), uniform FP16, uniform INT8 and the tuned plan, each
with its score on samples that chose nothing (computed by the engine itself), the drop, the median of interleaved
rounds (CUDA graph, CUDA events, inputs on the GPU), the inspector's verdict and the seconds of the builder. For the
uniform plans and the chosen one standard error says how much of the per-layer profile belongs to units and boundaries,
its sum over the latency of the whole engine, and the longest of the rest.
`--cold` builds uniform INT8 once more without kernel timings. `--resnet50` times a ResNet-50 with random weights at
batch 32 in FP16 and uniform INT8. Inspector texts are kept in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from beside import neighbour

import autoprec
from autoprec.backends.tensorrt.backend import TensorRtBackend
from autoprec.backends.tensorrt.opening import open_engine
from autoprec.backends.tensorrt.records import BuildOptions
from autoprec.calibrate.choose import calibrate_model
from autoprec.calibrate.job import CalibrationJob
from autoprec.cli.screen import Screen, print_table
from autoprec.data.dataset import Dataset
from autoprec.graph.model import load_model, to_bytes
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.possible import uniform
from autoprec.precision import Precision
from autoprec.proof.inspect import time_profile_of, verified
from autoprec.recipes.ranging import load_calibration_recipe
from autoprec.run.answer.reasons import verdict
from autoprec.run.engines import Engines, timing_feed
from autoprec.run.settings import Settings
from autoprec.run.task import prepare_subject
from autoprec.timing.compare import compare

HEADER = [
    "model",
    "batch",
    "plan",
    "score",
    "drop by count (95 %)",
    "estimated drop",
    "ms",
    "vs FP16",
    "MACs as ran",
    "units",
    "MB",
    "build s",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--batch", default="1,128")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--timeout", type=float, help="seconds for each tune")
    parser.add_argument("--out", type=Path, default=Path("autoprec-runs/tensorrt"))
    parser.add_argument("--backend", default="tensorrt")
    parser.add_argument("--target", default="", help="for tensorrt-rtx without a GPU")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--resnet50", action="store_true")
    options = parser.parse_args()
    rows: list[list[str]] = []
    if options.resnet50:
        rows += resnet50(options)
    cpu = neighbour("zoo")
    zoo = cpu.load_zoo(options.zoo)
    for name in options.models:
        for batch in map(int, options.batch.split(",")):
            try:
                rows += tune(cpu, zoo.load(name), batch, options)
            except autoprec.AutoprecError as error:
                print(f"{name} at batch {batch}: {error}", file=sys.stderr, flush=True)
            print_table(HEADER, rows)
            sys.stdout.flush()


def searched(cpu: Any, task: Any, batch: int, options: Any) -> Any:
    """The tune of one model of the zoo, saved."""
    outputs = cpu.fp32_outputs(task)
    labels, score = cpu.judged_by(task, outputs, len(task.score(outputs)), 1)
    calib = {name: array[: cpu.CALIBRATION_SAMPLES] for name, array in task.calib.items()}
    screen = Screen(quiet=False)
    try:
        result = autoprec.search(
            task.model,
            calib=calib,
            eval={**task.eval, "labels": labels},
            metric=score,
            direction="higher",
            max_drop=cpu.MAX_DROP.get(task.name, 0.01),
            out=options.out / f"{task.name}-{batch}",
            backend=options.backend,
            batch=batch,
            trials=options.trials,
            timeout_s=options.timeout,
            progress=screen,
            targets=tuple(filter(None, options.target.split(","))),
        )
    finally:
        screen.close()
    result.save()
    return result


def tune(cpu: Any, task: Any, batch: int, options: Any) -> list[list[str]]:
    start = time.monotonic()
    result = searched(cpu, task, batch, options)
    seconds = time.monotonic() - start
    print(
        f"{task.name} batch {batch}: {result.reason}; {seconds:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    rows = [row(result, name, batch) for name in result.tuned.candidates]
    found = {"seconds_total": seconds, "rows": rows, "profiles": profiles(result)}
    text = json.dumps({**result.summary, **found}, default=str)
    (result.directory / "row.json").write_text(text, encoding="utf-8")
    if options.cold:
        rows[-1][-1] += f" (INT8 anew without timings {cold_build_s(result):.0f})"
    return rows


def row(result: Any, name: str, batch: int) -> list[str]:
    tuned, record = result.tuned, result.summary["candidates"][name]
    candidate, backend, lowerer = tuned.candidates[name], tuned.task.backend, tuned.task.subject.lowerer
    model = Engines(tuned.task, backend).lowered(candidate.plan, tuned.ranges)
    file, found = backend.build_file(model), verified(lowerer, candidate.plan, backend, model)
    if backend.runs_here:
        with open_engine(file.path) as engine:
            words = name.replace(" ", "-")
            (result.directory / f"inspector-{words}.json").write_text(engine.inspector_text(), encoding="utf-8")
    fp16 = tuned.candidates.get("uniform fp16", candidate).timing
    ratio, drop = candidate.timing.ratio_to(fp16), record["drop"]
    if name == tuned.chosen:
        print(verdict(candidate.drop, tuned.task.settings.max_drop), file=sys.stderr)
        print(found.complaint() or "all as asked", file=sys.stderr, flush=True)
    return [
        Path(tuned.task.settings.model).parent.name,
        str(batch),
        f"{name} *" if name == tuned.chosen else name,
        f"{record['score']:.4f}",
        f"{drop['estimate']:+.4f} ({drop['low']:+.4f} .. {drop['high']:+.4f})",
        f"{candidate.drop.estimate:+.4f} ({candidate.drop.low:+.4f} .. {candidate.drop.high:+.4f})",
        f"{record['latency_ms']:.4f}",
        f"{ratio.estimate:.3f}",
        " ".join(f"{share:.0%} {p}" for p, share in found.mac_share.items()),
        " ".join(f"{count} {status}" for status, count in found.counts.items() if count),
        f"{file.engine_bytes / 2**20:.1f}",
        f"{file.build_s:.0f}{'' if file.warm_timing_cache else ' cold'}",
    ]


def profiles(result: Any) -> dict[str, Any]:
    """Where the time of each uniform plan and of the chosen one goes."""
    tuned = result.tuned
    task, found = tuned.task, {}
    feed, engines = timing_feed(task, task.splits.report), Engines(task, task.backend)
    for name, candidate in tuned.candidates.items():
        if name == tuned.chosen or name.startswith("uniform "):
            model = engines.lowered(candidate.plan, tuned.ranges)
            found[name] = profile(name, task.subject.partition, task.backend, model, feed, candidate.timing.median_ms)
    return found


def profile(name: str, partition: Any, backend: Any, model: bytes, feed: Any, engine_ms: float) -> dict[str, Any]:
    """One line on standard error, and the same for row.json."""
    try:
        found = time_profile_of(partition, backend, model, feed)
    except autoprec.AutoprecError as error:  # the measurements are worth keeping without it
        print(f"{name}: no profile: {error}", file=sys.stderr, flush=True)
        return {"error": str(error)}
    rest = [[layer, ms] for layer, ms in found.rest[:3] if ms > 0]
    record = {
        "clock": backend.clock.text,
        "attributed_share": found.share,
        "layers_ms": found.total_ms,
        "boundaries_ms": sum(found.boundary_ms.values()),
        "engine_ms": engine_ms,
        "layers_over_engine": found.total_ms / engine_ms,
        "longest_of_the_rest": rest,
    }
    words = ", ".join(f"{layer} {ms:.4f} ms" for layer, ms in rest) or "nothing"
    print(
        f"{name}: {found.share:.2%} of the time of layers attributed, the layers add up to "
        f"{record['layers_over_engine']:.2f} of the engine, longest of the rest: {words} ({backend.clock.text})",
        file=sys.stderr,
        flush=True,
    )
    return record


def cold_build_s(result: Any) -> float:
    tuned = result.tuned
    backend = tuned.task.backend
    options = replace(backend.options, timing_cache=False)
    bare = TensorRtBackend(backend.name, options, backend.threads)
    plan = tuned.candidates["uniform int8"].plan
    return bare.build_file(Engines(tuned.task, backend).lowered(plan, tuned.ranges), anew=True).build_s


def resnet50(options: Any, batch: int = 32) -> list[list[str]]:
    out = options.out / "resnet50"
    out.mkdir(parents=True, exist_ok=True)
    neighbour("resnet50").save(out / "model.onnx")
    targets = tuple(filter(None, options.target.split(",")))
    backend = TensorRtBackend(options.backend, BuildOptions(targets=targets)).for_run({"x": (batch, 3, 224, 224)}, out)
    model = load_model(out / "model.onnx")
    subject = prepare_subject(Settings(model=out / "model.onnx", batch=batch), backend)
    data = np.random.default_rng(0).normal(size=(batch, 3, 224, 224)).astype(np.float32)
    lowerer = Lowerer(model, subject.partition, backend.scheme, Precision.FP16)
    recipe = load_calibration_recipe("default")
    ranges = calibrate_model(
        CalibrationJob(
            lowerer=lowerer,
            possible=subject.possible,
            backend=backend,
            dataset=Dataset.from_arrays({"x": data[:8]}),
            recipe=recipe,
        )
    )
    plans = {
        p: uniform(subject.partition, p, subject.possible, Precision.FP16) for p in (Precision.FP16, Precision.INT8)
    }
    models = {p: to_bytes(lowerer.lower(plan, ranges).ir) for p, plan in plans.items()}
    engines = {str(p): backend.build(m) for p, m in models.items()}
    timings = compare(engines, {"x": data}, rounds=(9, 25), turn_ms=100.0)
    rows, times = [], {}
    for p, plan in plans.items():
        file, found = backend.build_file(models[p]), verified(lowerer, plan, backend, models[p])
        if backend.runs_here:
            with open_engine(file.path) as engine:
                (out / f"inspector-{p}.json").write_text(engine.inspector_text(), encoding="utf-8")
        ratio = timings[str(p)].ratio_to(timings["fp16"])
        print(found.complaint() or "all as asked", file=sys.stderr, flush=True)
        median_ms = timings[str(p)].median_ms
        times[f"uniform {p}"] = profile(f"uniform {p}", subject.partition, backend, models[p], {"x": data}, median_ms)
        rows.append(
            [
                "resnet50 (random weights)",
                str(batch),
                f"uniform {p}",
                "",
                "",
                "",
                f"{median_ms:.4f}",
                f"{ratio.estimate:.3f}",
                " ".join(f"{share:.0%} {q}" for q, share in found.mac_share.items()),
                " ".join(f"{count} {status}" for status, count in found.counts.items() if count),
                f"{file.engine_bytes / 2**20:.1f}",
                f"{file.build_s:.0f}",
            ]
        )
    print_table(HEADER, rows)
    (out / "row.json").write_text(json.dumps({"rows": rows, "profiles": times}), encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
