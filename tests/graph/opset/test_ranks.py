"""The number of axes of a value follows from what makes it, where a computed shape ends the inference of shapes."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from autoprec.graph.opset.ranks import rank_of

FLOAT = ir.TensorType(ir.DataType.FLOAT)


def value(name: str, *dims: int | None) -> ir.Value:
    return ir.Value(name=name, type=FLOAT, shape=ir.Shape(dims) if dims else None)


def made(op: str, *inputs: ir.Value, **attributes: int | list[int]) -> ir.Value:
    return ir.node(op, list(inputs), attributes).outputs[0]


UNKNOWN = value("unknown")
COMPUTED = made("Cast", made("Concat", value("a", 1), value("b", 1), value("c", 2), axis=0), to=7)
LISTED = ir.node("Constant", [], {"value": ir.tensor([0])}).outputs[0]
RESHAPED = made("Reshape", UNKNOWN, COMPUTED)


@pytest.mark.parametrize(
    ("found", "rank"),
    [
        (RESHAPED, 4),
        (made("Softmax", made("Slice", RESHAPED), axis=3), 4),
        (made("Squeeze", made("Transpose", UNKNOWN, perm=[2, 0, 3, 1, 4]), axes=[0]), 4),
        (made("Unsqueeze", RESHAPED, axes=[0]), 5),
        (made("Squeeze", RESHAPED, value("axes", 2)), 2),
        (made("Unsqueeze", RESHAPED, LISTED), 5),
        (made("MatMul", RESHAPED, value("weights", 8, 8)), 4),
        (made("Add", made("Relu", value("x", 2, 3, 4)), value("bias", 4)), 3),
        (made("ReduceMean", RESHAPED, axes=[2], keepdims=1), 4),
        (made("Add", RESHAPED, made("Custom", UNKNOWN)), None),
        (made("MatMul", RESHAPED, value("vector", 8)), None),
        (made("ReduceMean", RESHAPED, axes=[2], keepdims=0), None),
        (made("Reshape", RESHAPED, value("shape", None)), None),
    ],
)
def test_ranks(found: ir.Value, rank: int | None) -> None:
    assert rank_of(found) == rank


def test_what_reads_a_value_tells_its_axes_too() -> None:
    read = made("Custom", value("x"))
    made("Transpose", read, perm=[0, 2, 1])

    assert rank_of(read) == 3
