"""Blocks in standard operators are those that NumPy makes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.simulate_blocks import in_blocks
from autoprec.precision import Array, Precision
from autoprec.ranges.scaled_blocks import scaled_blocks

from ...helpers.lowering_bench import run


def awkward() -> Array:
    """Values of all magnitudes, powers of two, ties of E2M1 and of E4M3, blocks of zeros and blocks too large."""
    random = np.random.default_rng(6)
    rows = random.normal(size=(40, 64)) * 10.0 ** random.uniform(-6, 4, (40, 1))
    rows[0], rows[1, :32] = 0, 0
    rows[2] = np.tile(np.ldexp(1.0, np.arange(-8, 8)), 4) * 448
    rows[3] = np.tile([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6], 8)
    rows[4] = np.tile([17, 18, 19, 25, 27, 29, 31, 448], 8)
    return rows.reshape(4, 10, 64).astype(np.float32)


@pytest.mark.parametrize(
    ("precision", "of_all"), [(Precision.MXFP8, None), (Precision.NVFP4, 0.01), (Precision.NVFP4, 1.0)]
)
def test_they_are_the_same_numbers(precision: Precision, of_all: float | None) -> None:
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["N", 10, 64]))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 21}, name="g")
    graph.outputs.append(in_blocks(GraphEditor(ir.Model(graph, ir_version=10)), x, precision, of_all))

    [found] = run(ir.Model(graph, ir_version=10), {"x": awkward()}).values()

    np.testing.assert_array_equal(found, scaled_blocks(awkward(), precision, of_all).values())
