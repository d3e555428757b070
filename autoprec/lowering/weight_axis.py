"""The axis of a weight along which each output channel has a scale of its own."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.graph.topology import attribute_int, is_float, static_shape


def axis_of_weight(node: ir.Node, index: int) -> int | None:
    """Return the output-channel axis of the constant at `index` of a linear op, or None for one scale in all.

    Conv counts axis 0; ConvTranspose axis 1, but with groups that axis does not cover all outputs;
    Gemm 0 with transB, else 1; MatMul the last of two.
    """
    weight = node.inputs[index]
    shape = static_shape(weight)
    if shape is None or not is_float(weight):
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if attribute_int(node, "group", 1) == 1 else None
    if index != 1:
        return None
    if node.op_type == "Gemm":
        return 0 if attribute_int(node, "transB", 0) else 1
    return 1 if len(shape) == 2 else None
