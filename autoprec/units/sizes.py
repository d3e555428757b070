"""Sizes of units: multiply-accumulates and weights."""

from __future__ import annotations

import math

import onnx_ir as ir

from autoprec.graph.topology import Topology, attribute_int, elements, is_float, static_shape


def node_macs(node: ir.Node) -> int:
    """Return the number of multiply-accumulates of one node for one sample, or 0 if it is not a sum of products."""
    if node.op_type == "Conv":
        weight = static_shape(node.inputs[1])  # [outputs, inputs / groups, kernel ...]
        return elements(node.outputs[0]) * math.prod(weight[1:]) if weight else 0
    if node.op_type == "ConvTranspose":
        weight = static_shape(node.inputs[1])  # [inputs, outputs / groups, kernel ...]
        return elements(node.inputs[0]) * math.prod(weight[1:]) if weight else 0
    shape = static_shape(node.inputs[0]) if node.inputs else None
    if node.op_type in ("Gemm", "MatMul") and shape:
        return elements(node.outputs[0]) * shape[0 if attribute_int(node, "transA", 0) else -1]
    if node.op_type in ("LSTM", "GRU", "RNN") and shape:
        steps = shape[0] * shape[1]  # the input is [sequence, batch, features]
        return steps * (elements(node.inputs[1]) + elements(node.inputs[2]))
    return 0


def weight_elements(topology: Topology, members: list[ir.Node]) -> int:
    """Return the number of elements of the float constants that the nodes read; each constant counts once."""
    values = {v for node in members for v in node.inputs if v is not None and v in topology.constants and is_float(v)}
    return sum(elements(value) for value in values)
