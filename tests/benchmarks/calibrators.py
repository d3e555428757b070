"""What a calibrator for each value and the correction of biases buy, on uniform INT8 of zoo models.

    python tests/benchmarks/calibrators.py ZOO [MODEL ...] [--scheme ort-cpu|tensorrt]

Ranges come from 100 calibration samples without labels; noise, KL divergence, agreement and the score are of all
evaluation samples. For each model: the best calibrator for all values; the same without corrected biases; one
calibrator for each value as the default recipe chooses it.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from beside import neighbour

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import scheme_named
from autoprec.calibrate.choose import calibrate_model, method_of
from autoprec.calibrate.job import CalibrationJob
from autoprec.cli.screen import print_table
from autoprec.data.dataset import Dataset
from autoprec.graph.model import load_model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.possible import uniform, why_not
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.metric import load_metric
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.recipes.ranging import CalibrationRecipe
from autoprec.units.find import find_units

MODELS = ("mobilenet_v1_075", "etinynet", "resnet20_cifar10", "kwt1")
HEADER = ["model", "ranges", "noise", "KL", "agreement", "top-1", "values with another calibrator", "s"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--scheme", default="ort-cpu")
    options = parser.parse_args()
    cpu = neighbour("zoo")
    zoo = cpu.load_zoo(options.zoo)
    rows: list[list[str]] = []
    for name in options.models:
        rows += rows_of(cpu, zoo.load(name), options.scheme)
        print(f"{name} done", file=sys.stderr, flush=True)
    print_table(HEADER, rows)


def rows_of(cpu: Any, task: Any, scheme_name: str) -> list[list[str]]:
    backend, scheme = OrtBackend(), scheme_named(scheme_name)
    model = load_model(task.model)
    partition, topology = find_units(model.graph), Topology(model.graph)
    possible = {u.name: {p: why_not(topology, u, p, scheme) for p in Precision} for u in partition.units}
    lowerer = Lowerer(model, partition, scheme, Precision.FP32)
    plan = uniform(partition, Precision.INT8, possible, Precision.FP32)
    calib = Dataset.from_arrays({k: v[: cpu.CALIBRATION_SAMPLES] for k, v in task.calib.items()})
    labels = cpu.labels_of(task, cpu.fp32_outputs(task)[0])
    job = CalibrationJob(
        lowerer=lowerer, possible=possible, backend=backend, dataset=calib, recipe=CalibrationRecipe(name="r")
    )
    start = time.monotonic()
    auto = calibrate_model(job)
    seconds = time.monotonic() - start
    method, percentile = method_of(auto.method)
    start = time.monotonic()
    recipe = CalibrationRecipe(name="r", method=method, percentile=percentile)  # type: ignore[arg-type]
    one = calibrate_model(replace(job, recipe=recipe))
    alone_s = time.monotonic() - start
    simulate = scheme_name != "ort-cpu"
    with backend.build(to_bytes(model.ir), exact=True) as reference:
        data = Dataset.from_arrays(dict(task.eval), labels)
        evaluator = Evaluator.against(reference, data, model.interface, load_metric("top1"), 16)

        def row(words: str, table: RangeTable, more: str = "") -> list[str]:
            lowered = to_bytes(lowerer.lower(plan, table, simulate=simulate).ir)
            with backend.build(lowered, exact=simulate) as engine:
                found = evaluator.evaluate(engine)
            kl = f"{found.kl:.5f}" if found.kl is not None else "-"
            figures = [f"{found.noise:.5f}", kl, f"{found.agreement:.4f}", f"{found.scores.mean():.4f}"]
            return [task.name, words, *figures, more]

        return [
            [*row(f"{auto.method} for all", one), f"{alone_s:.0f}"],
            [*row(f"{auto.method} for all, biases as they were", replace(one, means={})), ""],
            [*row("one for each value", auto, f"{len(auto.chosen)} of {len(auto.clipped)}"), f"{seconds:.0f}"],
        ]


if __name__ == "__main__":
    main()
