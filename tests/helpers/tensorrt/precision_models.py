"""Small serialised ONNX models for builders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

PRECISION_KEY = "autoprec.precision"


def value(name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def node(
    op: str, name: str, inputs: Sequence[str], output: str, precision: str = "", **attributes: object
) -> NodeProto:
    made = helper.make_node(op, list(inputs), [output], name=name, **attributes)
    if precision:
        entry = made.metadata_props.add()
        entry.key, entry.value = PRECISION_KEY, precision
    return made


def serialised(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    constants: Sequence[TensorProto] = (),
) -> bytes:
    graph = helper.make_graph(list(nodes), "small", list(inputs), list(outputs), list(constants))
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("my.domain", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def conv_relu(batch: int | str = 1) -> bytes:
    """Input x [batch, 3, 8, 8]; nodes conv, relu."""
    weight = np.random.default_rng(0).normal(size=(16, 3, 3, 3)).astype(np.float32)
    return serialised(
        [node("Conv", "conv", ["x", "w"], "c", pads=[1] * 4), node("Relu", "relu", ["c"], "y")],
        [value("x", [batch, 3, 8, 8])],
        [value("y", [batch, 16, 8, 8])],
        [numpy_helper.from_array(weight, "w")],
    )


def quantized_matmul(zero: str = "int8", offset: int = 0) -> bytes:
    """Input x [64, 64]; MatMul "mm" between Q/DQ pairs in "int8" or "fp8"."""
    dtype = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}[zero]
    weight = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    pairs = []
    for name in ("x", "w"):
        pairs.append(node("QuantizeLinear", f"{name}.q", [name, "scale", "zero"], f"{name}_q"))
        pairs.append(node("DequantizeLinear", f"{name}.dq", [f"{name}_q", "scale", "zero"], f"{name}_dq"))
    return serialised(
        [*pairs, node("MatMul", "mm", ["x_dq", "w_dq"], "y", "int8")],
        [value("x", [64, 64])],
        [value("y", [64, 64])],
        [
            numpy_helper.from_array(weight, "w"),
            helper.make_tensor("scale", TensorProto.FLOAT, [], [0.05]),
            helper.make_tensor("zero", dtype, [], [offset]),
        ],
    )


def bfloat_matmul() -> bytes:
    return serialised(
        [
            node("Cast", "down", ["x"], "b", to=TensorProto.BFLOAT16),
            node("MatMul", "mm", ["b", "b"], "c"),
            node("Cast", "up", ["c"], "y", to=TensorProto.FLOAT),
        ],
        [value("x", [64, 64])],
        [value("y", [64, 64])],
    )


def bfloat_conv_transpose() -> bytes:
    weight = np.random.default_rng(0).normal(size=(16, 8, 2, 2)).astype(np.float32)
    return serialised(
        [
            node("Cast", "down", ["x"], "b", to=TensorProto.BFLOAT16),
            node("Cast", "down.w", ["w"], "wb", to=TensorProto.BFLOAT16),
            node("ConvTranspose", "up", ["b", "wb"], "c", strides=[2, 2]),
            node("Cast", "back", ["c"], "y", to=TensorProto.FLOAT),
        ],
        [value("x", [1, 16, 8, 8])],
        [value("y", [1, 8, 16, 16])],
        [numpy_helper.from_array(weight, "w")],
    )


def chain(*steps: tuple[str, str]) -> bytes:
    """Relus in a row, each a name and the precision asked for."""
    names = ["x", *(f"{name}_out" for name, _ in steps)]
    nodes = [
        node("Relu", name, [names[number]], names[number + 1], precision)
        for number, (name, precision) in enumerate(steps)
    ]
    return serialised(nodes, [value("x", [4])], [value(names[-1], [4])])
