"""Dynamic INT8 beside ONNX Runtime's own `quantize_dynamic`, and weights of 4 bits by nearest codes and by GPTQ.

    python tests/benchmarks/without_ranges.py ZOO [MODEL ...] [--samples 256] [--batch 16] [--calibrate 128]

Every unit that can run in a precision does, all else is FP32. CPU time is that of one thread, as the median share of
FP32's over the batches, all models in turns; fidelity is against FP32 on the evaluation samples.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from beside import neighbour
from onnxruntime.quantization import QuantType, quantize_dynamic

from autoprec.backends.ort import OrtBackend
from autoprec.backends.whole import with_weights_inside
from autoprec.calibrate.job import CalibrationJob
from autoprec.calibrate.moments import values_with_moments, with_moments
from autoprec.cli.screen import print_table
from autoprec.data.dataset import Dataset
from autoprec.graph.model import to_bytes
from autoprec.lowering.possible import uniform
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.recipes.ranging import CalibrationRecipe
from autoprec.run.settings import Settings
from autoprec.run.task import prepare_subject

NONE = RangeTable(method="", clipped={}, extent={}, means={}, samples=0, fingerprint="", evidence={})
RIVALS: dict[str, dict[str, Any]] = {
    "quantize_dynamic": {},
    "quantize_dynamic, per channel, 7 bits": {"per_channel": True, "reduce_range": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="*", default=["kwt1"])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--calibrate", type=int, default=128)
    options = parser.parse_args()
    zoo = neighbour("zoo").load_zoo(options.zoo)
    for name in options.models:
        rows = measured(models_of(zoo.load(name), options.calibrate), zoo.load(name), options)
        print_table(["model", "plan", "CPU time", "SQNR dB", "agreement", "MB"], [[name, *row] for row in rows])


def models_of(task: Any, calibrate: int) -> dict[str, bytes]:
    """The FP32 model, those of uniform plans, and those of the rivals."""
    backend = OrtBackend(1)
    subject = prepare_subject(Settings(model=task.model, space="cpu-int4"), backend)
    job = CalibrationJob(
        lowerer=subject.lowerer,
        possible=subject.possible,
        backend=backend,
        dataset=Dataset.from_arrays({key: value[:calibrate] for key, value in task.calib.items()}),
        recipe=CalibrationRecipe(name="benchmark"),
    )
    moments = with_moments(job, NONE, values_with_moments(subject.lowerer, subject.possible))
    found = {"fp32": to_bytes(subject.lowerer.model.ir)}
    for precision in (p for p in subject.space.precisions if p.is_quantized and not p.needs_ranges):
        plan = uniform(subject.partition, precision, subject.possible, Precision.FP32)
        tables = {"nearest": NONE, "GPTQ": moments} if precision.block else {"": NONE}
        for rounding, table in tables.items():
            found[f"{precision} {rounding}".strip()] = to_bytes(subject.lowerer.lower(plan, table).ir)
    with tempfile.TemporaryDirectory() as folder:
        for name, how in RIVALS.items():
            path = Path(folder) / "model.onnx"
            quantize_dynamic(str(task.model), str(path), weight_type=QuantType.QInt8, **how)
            found[name] = path.read_bytes()
    return found


def measured(models: dict[str, bytes], task: Any, options: argparse.Namespace) -> list[list[str]]:
    backend = OrtBackend(1)
    engines = {name: backend.build(model) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    outputs: dict[str, list[Any]] = {name: [] for name in models}
    for first in range(0, options.samples, options.batch):
        feed = {key: value[first : first + options.batch] for key, value in task.eval.items()}
        for name, engine in engines.items():
            start = time.process_time()
            found = engine.run(feed)
            seconds[name].append(time.process_time() - start)
            outputs[name].append(next(iter(found.values())))
    exact = np.concatenate(outputs["fp32"])
    rows = []
    for name, parts in outputs.items():
        found = np.concatenate(parts)
        noise = float(np.square(found - exact).sum())
        sqnr = 10 * np.log10(float(np.square(exact).sum()) / noise) if noise else float("inf")
        same = np.mean(found.reshape(len(found), -1).argmax(1) == exact.reshape(len(exact), -1).argmax(1))
        share = float(np.median(np.array(seconds[name]) / np.array(seconds["fp32"])))
        rows.append(
            [name, f"{share:.3f}", f"{sqnr:.1f}", f"{same:.4f}", f"{len(with_weights_inside(models[name])) / 1e6:.2f}"]
        )
    return rows


if __name__ == "__main__":
    main()
