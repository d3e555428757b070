"""Rounding of single layers: the output error of GPTQ and of AdaRound as a share of that of the nearest codes.

    python tests/benchmarks/rounding.py ZOO [MODEL ...] [--layers 6] [--bits 8 4] [--steps 2000]

Each output channel has one scale, as in INT8; layers are spread over the model. Moments are those of the first half of
the calibration samples, errors those on the other half. AdaRound (Nagel et al. 2020, "Up or Down? Adaptive Rounding
for Post-Training Quantization") is the paper's relaxation with its annealed regulariser, by Adam, on the whole matrix
of moments; GPTQ by the whole matrix too, and by the parts of it that autoprec keeps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from beside import neighbour

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import TENSORRT
from autoprec.cli.screen import print_table
from autoprec.graph.model import load_model, to_bytes
from autoprec.graph.topology import const_array
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.reading import reading_of
from autoprec.precision import Array, Precision
from autoprec.ranges.gptq import gptq_codes_of_columns
from autoprec.ranges.moments import Moments, moments_of
from autoprec.units.foreign import units_of

_PATCHES = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="*", default=["etinynet"])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    zoo = neighbour("zoo").load_zoo(options.zoo)
    rows = [row for name in options.models for row in rows_of(zoo.load(name), options)]
    print_table(["layer", "matrix", "bits", "GPTQ", "GPTQ, as kept", "AdaRound", "s: GPTQ, AdaRound"], rows)


def rows_of(task: Any, options: argparse.Namespace) -> list[list[str]]:
    model = load_model(task.model)
    lowerer = Lowerer(model, units_of(model), TENSORRT, Precision.FP32)
    graph = lowerer.base(21).graph
    layers = [node for node in graph if node.op_type in ("Conv", "Gemm", "MatMul") and reading_of(node) is not None]
    chosen = [layers[i] for i in np.unique(np.linspace(0, len(layers) - 1, options.layers).astype(int))]
    values = {str(v.name): v for node in model.ir.graph for v in node.outputs}
    copy = model.ir.clone()
    own = {str(v.name): v for node in copy.graph for v in node.outputs}
    copy.graph.outputs.extend(own[n] for n in {str(node.inputs[0].name) for node in chosen} if n in values)
    engine, found = OrtBackend(1).build(to_bytes(copy), exact=True), []
    halves = [{}, {}]
    count = len(next(iter(task.calib.values()))) // 2
    for half, first in enumerate((0, count)):
        random = np.random.default_rng(half)
        for start in range(first, first + count, 10):
            feed = {name: array[start : start + 10] for name, array in task.calib.items()}
            known = {**feed, **engine.run(feed)}
            for node in chosen:
                reading = reading_of(node)
                rows = reading.rows(known[reading.value], _PATCHES, random).astype(np.float64)
                halves[half][node.name] = halves[half].get(node.name, 0) + rows.transpose(0, 2, 1) @ rows
    for node in chosen:
        reading, weight = reading_of(node), const_array(node.inputs[1]).astype(np.float64)
        known = (reading.matrices(weight), *(half[node.name] for half in halves))
        found += [row_of(str(node.name), *known, bits, options.steps) for bits in options.bits]
    return found


def row_of(name: str, weight: Array, seen: Array, fresh: Array, bits: int, steps: int) -> list[str]:
    largest = 2 ** (bits - 1) - 1
    scales = np.maximum(np.abs(weight).max(axis=1), 1e-9) / largest
    groups, depth, columns = weight.shape

    def lost(codes: Array) -> float:
        wrong = codes * scales[:, None] - weight
        return float(np.einsum("gkn,gkl,gln->", wrong, fresh, wrong))

    nearest = lost(np.clip(np.rint(weight / scales[:, None]), -largest, largest))
    start = time.process_time()
    exact = Moments(np.zeros(groups * depth, np.float32), root_of(seen).reshape(groups * depth, depth), groups)
    by_all = lost(gptq_codes_of_columns(weight, scales, largest, exact))
    middle = time.process_time()
    by_kept = lost(gptq_codes_of_columns(weight, scales, largest, moments_of(seen)))
    later = time.process_time()
    ada = lost(adaround(weight, scales, largest, seen, steps))
    seconds = f"{middle - start:.2f}, {time.process_time() - later:.1f}"
    shares = (f"{each / nearest:.2f}" for each in (by_all, by_kept, ada))
    return [name, f"{groups} x {depth} x {columns}", str(bits), *shares, seconds]


def root_of(matrices: Array) -> Array:
    """A root of each matrix, float64, as `Moments` holds its parts; scaled, which does not matter to rounding."""
    values, vectors = np.linalg.eigh(matrices / matrices.trace(axis1=1, axis2=2).mean())
    return vectors * np.sqrt(np.maximum(values, 0))[:, None]


def adaround(weight: Array, scales: Array, largest: int, moments: Array, steps: int) -> Array:
    """The codes of the paper's method, of layers whose activation is left out."""
    scaled = moments / moments.trace(axis1=1, axis2=2).mean() * moments.shape[1]
    steps_of = weight / scales[:, None]
    low = np.floor(steps_of)
    rest = np.clip(steps_of - low, 1e-3, 1 - 1e-3)
    soft = -np.log(1.2 / (rest + 0.1) - 1)
    first, second = np.zeros_like(soft), np.zeros_like(soft)
    weights = np.square(scales[:, None]) / np.square(scales).mean()
    for step in range(steps):
        sigmoid = 1 / (1 + np.exp(-soft))
        stretched = sigmoid * 1.2 - 0.1
        up = np.clip(stretched, 0, 1)
        gradient = 2 * (scaled @ (np.clip(low + up, -largest, largest) - steps_of)) * weights
        done = step / steps
        if done > 0.2:
            beta = 2 + 18 * (1 + np.cos((done - 0.2) / 0.8 * np.pi)) / 2
            away = np.abs(2 * up - 1)
            gradient -= 0.01 * 2 * beta * away ** (beta - 1) * np.sign(2 * up - 1)
        gradient *= 1.2 * sigmoid * (1 - sigmoid) * ((stretched > 0) & (stretched < 1))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * np.square(gradient)
        rate = 0.01 * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        soft -= rate * first / (np.sqrt(second) + 1e-8)
    return np.clip(low + (soft > 0), -largest, largest)


if __name__ == "__main__":
    main()
