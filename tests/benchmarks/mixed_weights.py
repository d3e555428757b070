"""Weights of 4 bits where they are cheap and of 8 bits elsewhere, beside 4 bits everywhere, of a language model.

    python tests/benchmarks/mixed_weights.py ZOO MODEL [--samples 32] [--calibrate 16] [--seen 4] [--bits 5 5.75]

MODEL gives the log-likelihood of each token. The sensitivity of a unit is the mean squared change of these on a few
calibration samples, with its weights alone in int4-32 by nearest codes, the rest in FP32; one session takes weights
as inputs, so that none is built anew. A mixture has the least sum of sensitivities for its bits of weights (4.5 of
int4-64, 5 of int4-32, 8.4 of int8-weights, scales in FP32). Losses are of perplexity on evaluation samples, with the
95 % interval of the paired mean. Tables of embeddings have 8 bits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from beside import neighbour

from autoprec.backends.ort import OrtBackend
from autoprec.calibrate.job import CalibrationJob
from autoprec.calibrate.moments import values_with_moments, with_moments
from autoprec.cli.screen import print_table
from autoprec.data.dataset import Dataset
from autoprec.graph.model import to_bytes
from autoprec.lowering.possible import uniform
from autoprec.precision import Array, Precision
from autoprec.ranges.table import RangeTable
from autoprec.ranges.weight_blocks import block_grid
from autoprec.recipes.ranging import CalibrationRecipe
from autoprec.run.settings import Settings
from autoprec.run.task import Subject, prepare_subject
from autoprec.units.records import Unit

NONE = RangeTable(method="", clipped={}, extent={}, means={}, samples=0, fingerprint="", evidence={})
FP32, INT8, INT8_WEIGHTS, INT4_32, INT4_64 = (
    Precision(name) for name in ("fp32", "int8", "int8-weights", "int4-32", "int4-64")
)
BITS = {INT4_64: 4.5, INT4_32: 5.0, INT8_WEIGHTS: 8.4}
NOISE = {INT4_64: 1.3, INT4_32: 1.0, INT8_WEIGHTS: 0.005}
"""The noise that rounding adds, as a share of that of int4-32."""
BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("model", nargs="?", default="smollm2_wikitext")
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--calibrate", type=int, default=16)
    parser.add_argument("--seen", type=int, default=4)
    parser.add_argument("--bits", type=float, nargs="+", default=[5.0, 5.75])
    options = parser.parse_args()
    task = neighbour("zoo").load_zoo(options.zoo).load(options.model)
    subject = prepare_subject(Settings(model=task.model, space="cpu-weights"), OrtBackend(1))
    products = [unit for unit in subject.partition.units if unit.kind == "matmul"]
    units = [unit for unit in products if subject.possible[unit.name].get(INT4_32, "not offered") is None]
    sensitivities = sensitivities_of(task, units, options.seen)
    ordered = sorted(sensitivities.items(), key=lambda item: -item[1])
    rows = [[name, f"{value:.4f}", f"{value / sum(sensitivities.values()):.1%}"] for name, value in ordered[:12]]
    print_table(["unit", "sensitivity", "share of all"], rows)
    plans: dict[str, tuple[dict[str, Precision], bool]] = {
        "int8-weights": (uniform(subject.partition, INT8_WEIGHTS, subject.possible, FP32), False),
        "int4-32, nearest": (uniform(subject.partition, INT4_32, subject.possible, FP32), False),
        "int4-32, GPTQ": (uniform(subject.partition, INT4_32, subject.possible, FP32), True),
    }
    for bits in options.bits:
        plans[f"mixed, {bits:g} bits, GPTQ"] = (mixture(subject, sensitivities, bits), True)
    plans[f"mixed, {options.bits[0]:g} bits, nearest"] = (mixture(subject, sensitivities, options.bits[0]), False)
    compare(task, subject, plans, options)


def sensitivities_of(task: Any, units: list[Unit], samples: int) -> dict[str, float]:
    """Unit -> the mean squared change of the log-likelihoods with its weights in int4-32."""
    model = onnx.load(str(task.model))
    found = {each.name: each for each in model.graph.initializer}
    reads = {node.name: next((i for i in node.input if i in found), "") for node in model.graph.node}
    names = {unit.name: [reads[node] for node in unit.anchors if reads.get(node)] for unit in units}
    weights = {name: onnx.numpy_helper.to_array(found[name]) for each in names.values() for name in each}
    kept = [each for each in model.graph.initializer if each.name not in weights]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for name, array in weights.items():
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(array.shape)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    plain = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in weights.items()}
    [ids] = task.calib

    def outputs(other: Mapping[str, Array]) -> Array:
        parts = []
        for first in range(0, samples, BATCH):
            feed = {**plain, **{name: onnxruntime.OrtValue.ortvalue_from_numpy(each) for name, each in other.items()}}
            feed[ids] = onnxruntime.OrtValue.ortvalue_from_numpy(task.calib[ids][first : first + BATCH])
            parts.append(session.run_with_ort_values(None, feed)[0].numpy())
        return np.concatenate(parts).astype(np.float64)

    exact, sensitivities = outputs({}), {}
    for unit, read in names.items():
        grids = {name: block_grid(weights[name], 32, zero_points=False) for name in read}
        changed = outputs({name: grid.values(grid.codes(weights[name])) for name, grid in grids.items()})
        sensitivities[unit] = float(np.square(changed - exact).mean())
    return sensitivities


def mixture(subject: Subject, sensitivities: Mapping[str, float], bits: float) -> dict[str, Precision]:
    """The plan of the least noise with at most so many bits for each weight, by bisection of the price of a bit."""
    units = [unit for unit in subject.partition.units if unit.name in sensitivities]
    offered = {u.name: [p for p in BITS if subject.possible[u.name].get(p, "not offered") is None] for u in units}

    def at(price: float) -> dict[str, Precision]:
        def cost(unit: Unit, precision: Precision) -> float:
            return sensitivities[unit.name] * NOISE[precision] + price * unit.weights * BITS[precision]

        return {unit.name: min(offered[unit.name], key=lambda p: cost(unit, p)) for unit in units if offered[unit.name]}

    low, high, most = 0.0, 1.0, bits * sum(unit.weights for unit in units)
    for _ in range(80):
        middle = (low + high) / 2
        plan = at(middle)
        spent = sum(unit.weights * BITS[plan[unit.name]] for unit in units if unit.name in plan)
        low, high = (middle, high) if spent > most else (low, middle)
    return at(high)


def compare(task: Any, subject: Subject, plans: Mapping[str, tuple[dict[str, Precision], bool]], options: Any) -> None:
    """Print the bytes and the loss of each plan."""
    backend, lowerer = OrtBackend(1), subject.lowerer
    job = CalibrationJob(
        lowerer=lowerer,
        possible=subject.possible,
        backend=backend,
        dataset=Dataset.from_arrays({name: array[: options.calibrate] for name, array in task.calib.items()}),
        recipe=CalibrationRecipe(name="benchmark", batch=BATCH),
    )
    moments = with_moments(job, NONE, values_with_moments(lowerer, subject.possible))
    tables = {unit.name: INT8 for unit in subject.partition.units if unit.kind == "embedding"}
    rest = {unit.name: FP32 for unit in subject.partition.units}

    def outputs(model: bytes) -> Array:
        parts = []
        with backend.build(model) as engine:
            for first in range(0, options.samples, BATCH):
                feed = {name: array[first : first + BATCH] for name, array in task.eval.items()}
                parts.append(next(iter(engine.run(feed).values())))
        return np.concatenate(parts)[: options.samples].astype(np.float64)

    start = time.process_time()
    exact, of_fp32 = outputs(to_bytes(lowerer.model.ir)), bytes_of(lowerer.model.ir)
    seconds, rows = time.process_time() - start, [["fp32", "1.000", f"{np.exp(-exact_mean(exact)):.2f}", "", "1.00"]]
    for name, (plan, by_moments) in plans.items():
        table = moments if by_moments else replace(moments, moments={})
        lowered = lowerer.lower({**rest, **plan, **tables}, table).ir
        start = time.process_time()
        found = outputs(to_bytes(lowered))
        spent = time.process_time() - start
        lost = (exact - found).mean(axis=1)
        error = 1.96 * lost.std(ddof=1) / np.sqrt(len(lost))
        low, middle, high = (100 * np.expm1(lost.mean() + way * error) for way in (-1, 0, 1))
        share = f"{bytes_of(lowered) / of_fp32:.3f}"
        figures = [f"{np.exp(-exact_mean(found)):.2f}", f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"]
        rows.append([name, share, *figures, f"{spent / seconds:.2f}"])
        print(rows[-1], flush=True)
    print_table(["plan", "bytes", "perplexity", "loss (95 %)", "CPU time, with the start"], rows)


def exact_mean(array: Array) -> float:
    return float(array.mean())


def bytes_of(model: Any) -> int:
    return sum(value.const_value.nbytes for value in model.graph.initializers.values())


if __name__ == "__main__":
    main()
