"""Dequantize(per tensor) -> float Conv -> Quantize  =>  Dequantize(per channel) -> float Conv -> Quantize.

ONNX Runtime's WeightBiasQuantization optimiser turns a float Conv, ConvTranspose or Gemm that stands
between a per-tensor DequantizeLinear and a QuantizeLinear into an INT8 one with a single scale for all its
weights. Nothing says so: with one depthwise convolution of a MobileNet left in FP32, top-1 fell from
77 % to 28 %. The optimiser asks for a scalar scale, so a vector of equal scales keeps the op in float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import add_initializer
from autoprec.graph.topology import attribute_int, const_array

_ATTACKED = frozenset({"Conv", "ConvTranspose", "Gemm"})


class IsolateFloatsPass(ir.passes.InPlacePass):
    """Give float linear ops with constant weights a per-channel DequantizeLinear of their own.

    Ensures: the same values, bit for bit.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Isolate; modified where an op needed it."""
        graph = model.graph
        made: dict[tuple[ir.Value, int], ir.Value] = {}
        for node in list(graph):
            if node.op_type not in _ATTACKED or const_array(node.inputs[1]) is None:
                continue
            source = node.inputs[0]
            dequantize = source.producer() if source is not None else None
            if source is None or dequantize is None or not _is_scalar_pair(dequantize):
                continue
            channels = _channels(node)
            if (source, channels) not in made:
                made[(source, channels)] = _per_channel(graph, dequantize, channels)
            node.replace_input_with(0, made[(source, channels)])
        if made:
            graph.sort()
            _drop_idle(graph)
        return ir.passes.PassResult(model, bool(made))


def _is_scalar_pair(dequantize: ir.Node) -> bool:
    """Only a scalar scale draws the optimiser; codes looked up in an embedding have a scale for each column."""
    if dequantize.op_type != "DequantizeLinear" or len(dequantize.inputs) < 3:
        return False
    scale = const_array(dequantize.inputs[1])
    return scale is not None and scale.size == 1


def _channels(node: ir.Node) -> int:
    weight = const_array(node.inputs[1])
    shape = weight.shape if weight is not None else ()
    if node.op_type == "Conv":
        return int(shape[1]) * attribute_int(node, "group", 1)
    if node.op_type == "ConvTranspose":
        return int(shape[0])
    return int(shape[1 if attribute_int(node, "transB", 0) else 0])


def _per_channel(graph: ir.Graph, dequantize: ir.Node, channels: int) -> ir.Value:
    old = dequantize.outputs[0]
    scale, zero = const_array(dequantize.inputs[1]), const_array(dequantize.inputs[2])
    if scale is None or zero is None:
        raise ValueError("a pair's scale and zero point must be constant")
    name = str(old.name)
    scales = add_initializer(graph, f"{name}/scale.per_channel", np.full(channels, scale, scale.dtype))
    zeros = add_initializer(graph, f"{name}/zero_point.per_channel", np.full(channels, zero, zero.dtype))
    output = ir.Value(name=f"{name}/per_channel", type=old.type, shape=old.shape)
    inputs = [dequantize.inputs[0], scales, zeros]
    node = ir.node("DequantizeLinear", inputs, {"axis": 1}, outputs=[output], name=f"{dequantize.name}.per_channel")
    graph.append(node)
    return output


def _drop_idle(graph: ir.Graph) -> None:
    for node in list(graph):
        if node.op_type == "DequantizeLinear" and not any(v.uses() or v.is_graph_output() for v in node.outputs):
            graph.remove(node, safe=True)
