"""Which inputs follow the type of their unit: type variable by type variable, in the model's own opset."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.lowering.passes.type_slots import following_slots
from autoprec.precision import Precision

FP16, BF16 = Precision.FP16, Precision.BF16


def node_of(op: str, inputs: str, outputs: int = 1) -> ir.Node:
    """A node; "x" is a value that is known at run time, "c" a constant and "-" an input that is left out."""
    floats = ir.TensorType(ir.DataType.FLOAT)
    values: list[ir.Value | None] = []
    for index, letter in enumerate(inputs):
        value = ir.Value(name=f"v{index}", type=floats)
        if letter == "c":
            value.const_value = ir.tensor(np.ones(1, np.float32))
            ir.Graph([], [], nodes=[], initializers=[value])
        values.append(None if letter == "-" else value)
    return ir.node(op, values, outputs=[ir.Value(name=f"y{index}", type=floats) for index in range(outputs)])


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "opset", "precision", "expected"),
    [
        ("Conv", "xcc", 1, 17, BF16, (set(), set())),
        ("Conv", "xcc", 1, 22, BF16, ({0, 1, 2}, {0})),
        ("Resize", "xcc", 1, 22, BF16, ({0}, {0})),
        ("Resize", "xcc", 1, 22, FP16, ({0}, {0})),
        ("Resize", "x-c", 1, 13, FP16, ({0}, {0})),
        ("LayerNormalization", "xcc", 3, 17, FP16, ({0, 1, 2}, {0})),
        ("BatchNormalization", "xcccc", 1, 14, FP16, ({0, 1, 2}, {0})),
        ("BatchNormalization", "xcccc", 1, 15, FP16, ({0}, {0})),
        ("BatchNormalization", "xcccc", 1, 9, FP16, ({0, 1, 2, 3, 4}, {0})),
        ("RMSNormalization", "xc", 1, 23, BF16, ({0, 1}, {0})),
        ("Attention", "xxxc", 1, 23, FP16, ({0, 1, 2, 3}, {0})),
        ("GridSample", "xc", 1, 20, FP16, ({0, 1}, {0})),
        ("GridSample", "xx", 1, 20, BF16, (set(), set())),
        ("Pow", "xc", 1, 17, FP16, ({0}, {0})),
        ("Pow", "xx", 1, 17, FP16, ({0, 1}, {0})),
        ("TopK", "x", 1, 22, BF16, (set(), set())),
    ],
)
def test_a_slot_follows_where_its_type_variable_may_be_the_type(
    op: str, inputs: str, outputs: int, opset: int, precision: Precision, expected: tuple[set[int], set[int]]
) -> None:
    assert following_slots(node_of(op, inputs, outputs), {"": opset}, precision) == expected
