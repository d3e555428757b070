"""Whether ONNX Runtime runs each plan of a pattern as asked, by its optimised graph and not by what autoprec says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from autoprec.backends.ort import OrtBackend
from autoprec.backends.ort_sessions import products_are_exact
from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision
from autoprec.proof.inspect import verified
from autoprec.proof.verification import UnitStatus

from .lowering_bench import Array, Bench, Plan, run
from .runtime_patterns import pattern

FP32, INT8 = Precision.FP32, Precision.INT8
_QUANTIZED = frozenset({"QLinearConv", "QLinearMatMul", "MatMulIntegerToFloat", "QGemm"})
_FLOAT = frozenset({"Conv", "FusedConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"})
_NORM = "norm"
"""A normalisation behind an activation becomes a convolution of its own in INT8."""


def plans(one: Bench) -> Iterator[dict[str, Precision]]:
    """Every plan of FP32 and INT8 but the one of FP32 alone."""
    able = [unit.name for unit in one.partition.units if one.possible[unit.name][INT8] is None]
    for combination in product((FP32, INT8), repeat=len(able)):
        if INT8 in combination:
            yield {unit.name: FP32 for unit in one.partition.units} | dict(zip(able, combination, strict=True))


def disagreements(domain: str, producer: str, between: str, consumer: str) -> tuple[int, list[str]]:
    """The number of plans of a pattern, and what is wrong with some of them."""
    one = Bench(pattern(domain, producer, between, consumer), ORT_CPU, FP32)
    found, count = [], 0
    for plan in plans(one):
        count += 1
        asked = ", ".join(f"{name} {precision}" for name, precision in plan.items())
        found += [
            f"{domain} {producer} {between} {consumer}: {asked}: {text}" for text in _wrong(one, plan, _NORM in between)
        ]
    return count, found


def _wrong(one: Bench, plan: Plan, has_norm: bool) -> Iterator[str]:
    """What is wrong with one plan: kernels, what autoprec says of them, and values."""
    model = to_bytes(one.lower(plan).ir)
    graph, outputs = _optimised(model, one.feed)
    checked = [unit for unit in verified(one.lowerer, plan, OrtBackend(threads=1), model).units if unit.heavy]
    wanted = sum(unit.written is INT8 for unit in checked)
    kernels = [node.op_type for node in graph.node]
    quantized, floats = sum(kind in _QUANTIZED for kind in kernels), sum(kind in _FLOAT for kind in kernels)
    if quantized < wanted or (not has_norm and (quantized > wanted or floats != len(checked) - wanted)):
        yield f"{wanted} of {len(checked)} in INT8 asked for, {quantized} ran, and {floats} in float"
    yield from (f"said: {unit.describe()}" for unit in checked if unit.status is not UnitStatus.HONOURED)
    if products_are_exact():
        exact = run(one.lower(plan, simulate=True).ir, one.feed)
        for name, array in exact.items():
            if (noise := _noise(array, outputs[name])) > 2e-3:
                yield f"noise of {noise:.2g} against exact arithmetic"


def _optimised(model: bytes, feed: dict[str, Array]) -> tuple[onnx.GraphProto, dict[str, Array]]:
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return onnx.load(options.optimized_model_filepath).graph, dict(zip(names, session.run(None, feed), strict=True))


def _noise(exact: Array, real: Array) -> float:
    """The median over the channels, so that one scale for all of them shows."""
    axes = tuple(axis for axis in range(exact.ndim) if axis != (1 if exact.ndim == 4 else exact.ndim - 1))
    power = np.maximum(np.square(exact.astype(np.float64)).sum(axes), 1e-20)
    return float(np.median(np.square(exact.astype(np.float64) - real).sum(axes) / power))
