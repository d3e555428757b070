"""x  =>  what MXFP8 or NVFP4 blocks of x along its last axis stand for, in standard FP32 operators.

The numbers are those of `autoprec.ranges.scaled_blocks`.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from autoprec.lowering.editor import GraphEditor
from autoprec.precision import Array, Precision
from autoprec.ranges.scaled_blocks import EXPONENTS, LARGEST_E2M1, LARGEST_E4M3

_FLOAT, _DOUBLE = ir.DataType.FLOAT, ir.DataType.DOUBLE
_SLACK = 1e-9
"""What the logarithm of a power of two may exceed its exponent by."""


def in_blocks(editor: GraphEditor, source: ir.Value, precision: Precision, of_all: float | None) -> ir.Value:
    """Append the nodes that quantise a value in blocks and dequantise it again, and return their result.

    Args:
        editor: the editor of the model.
        source: a float value; its last axis is a multiple of the block.
        precision: MXFP8 or NVFP4.
        of_all: the scale of all blocks of NVFP4.
    """
    ops = _Operators(editor, f"{source.name}/{precision}")
    shape = ops.add("Shape", [source], ir.DataType.INT64)
    cut = ops.add("Reshape", [source, ops.constant(np.array([-1, precision.scaled_block], np.int64))])
    largest = ops.add("ReduceMax", [ops.add("Abs", [cut]), ops.constant(np.array([-1], np.int64))], keepdims=1)
    if precision is Precision.MXFP8:
        scale = _power_of_two(ops, largest)
        codes = ops.rounded_to_e4m3(ops.add("Div", [cut, scale]))
    else:
        shared = np.float32(1 if of_all is None else of_all)
        block = ops.rounded_to_e4m3(ops.add("Div", [largest, ops.constant(np.float32(LARGEST_E2M1) * shared)]))
        scale = ops.add("Mul", [block, ops.constant(shared)])
        codes = _rounded_to_e2m1(ops, ops.add("Div", [cut, _or_one(ops, scale)]))
    output = editor.value(f"{source.name}/{precision}/values", source, _FLOAT)
    ops.add("Reshape", [ops.add("Mul", [codes, scale]), shape], output=output)
    return output


def _power_of_two(ops: _Operators, largest: ir.Value) -> ir.Value:
    """The least power of two by which no code exceeds the largest one; the logarithm is exact enough in FP64."""
    wide = ops.add("Cast", [largest], _DOUBLE, to=int(_DOUBLE))
    share = ops.add("Div", [wide, ops.constant(np.float64(LARGEST_E4M3))], _DOUBLE)
    log = ops.add("Div", [ops.add("Log", [share], _DOUBLE), ops.constant(np.float64(math.log(2)))], _DOUBLE)
    whole = ops.add("Ceil", [ops.add("Sub", [log, ops.constant(np.float64(_SLACK))], _DOUBLE)], _DOUBLE)
    low, high = (ops.constant(np.float64(end)) for end in EXPONENTS)
    power = ops.add("Pow", [ops.constant(np.float64(2)), ops.add("Clip", [whole, low, high], _DOUBLE)], _DOUBLE)
    return ops.add("Cast", [power], to=int(_FLOAT))


def _or_one(ops: _Operators, scale: ir.Value) -> ir.Value:
    """The scale, 1 where it is 0, since nothing may be divided by that."""
    none = ops.add("Equal", [scale, ops.constant(np.float32(0))], ir.DataType.BOOL)
    return ops.add("Where", [none, ops.constant(np.float32(1)), scale])


def _rounded_to_e2m1(ops: _Operators, value: ir.Value) -> ir.Value:
    """The nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6 with its sign; ties go to the one whose last bit is 0."""
    ends = (ops.constant(np.float32(-LARGEST_E2M1)), ops.constant(np.float32(LARGEST_E2M1)))
    clipped = ops.add("Clip", [value, *ends])
    size = ops.add("Abs", [clipped])
    step = ops.constant(np.float32(2))
    for below, smaller in ((4, 1.0), (2, 0.5)):
        less = ops.add("Less", [size, ops.constant(np.float32(below))], ir.DataType.BOOL)
        step = ops.add("Where", [less, ops.constant(np.float32(smaller)), step])
    return ops.add("Mul", [ops.add("Round", [ops.add("Div", [clipped, step])]), step])


class _Operators:
    """Adds nodes whose names begin alike."""

    def __init__(self, editor: GraphEditor, name: str) -> None:
        self._editor, self._name = editor, name

    def constant(self, array: Array | np.generic) -> ir.Value:
        """An initializer."""
        return self._editor.constant(f"{self._name}/constant", np.asarray(array))

    def rounded_to_e4m3(self, value: ir.Value) -> ir.Value:
        """The nearest values of E4M3."""
        small = self.add("Cast", [value], ir.DataType.FLOAT8E4M3FN, to=int(ir.DataType.FLOAT8E4M3FN))
        return self.add("Cast", [small], to=int(_FLOAT))

    def add(
        self,
        op: str,
        inputs: list[ir.Value],
        dtype: ir.DataType = _FLOAT,
        *,
        output: ir.Value | None = None,
        **attributes: int,
    ) -> ir.Value:
        """The result of a new node."""
        names = self._editor.names
        made = output or ir.Value(name=names.new(f"{self._name}/{op.lower()}"), type=ir.TensorType(dtype))
        node = ir.node(op, inputs, attributes, outputs=[made], name=names.new(f"{self._name}/{op}"))
        self._editor.graph.append(node)
        return made
