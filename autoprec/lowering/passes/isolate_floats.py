"""Dequantize(per tensor) -> float Conv -> Quantize  =>  Dequantize(per channel) -> float Conv -> Quantize.

ONNX Runtime's WeightBiasQuantization optimiser turns a float Conv, ConvTranspose or Gemm that stands
between a per-tensor DequantizeLinear and a QuantizeLinear into an INT8 one with a single scale for all its
weights. Nothing says so: with one depthwise convolution of a MobileNet left in FP32, top-1 fell from
77 % to 28 %. The optimiser asks for a scalar scale, so a vector of equal scales keeps the op in float.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import attribute_int, const_array
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass

_ATTACKED = frozenset({"Conv", "ConvTranspose", "Gemm"})


class IsolateFloatsPass(LoweringPass):
    """Give float linear ops with constant weights a per-channel DequantizeLinear of their own.

    Requires: pairs with constant scales and zero points. Ensures: the same values, bit for bit; no float Conv,
    ConvTranspose or Gemm with constant weights reads a pair with a scalar scale.
    """

    def ensures(self, model: ir.Model) -> None:
        """Check that the optimiser finds nothing to turn into INT8."""
        super().ensures(model)
        for node in model.graph:
            if _attacked_pair(node) is not None:
                raise ir.passes.PostconditionError(f"{node.name!r} still reads a pair with a scalar scale")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Isolate the ops; the model is modified if one of them needed it."""
        graph = model.graph
        made: dict[tuple[ir.Value, int], ir.Value] = {}
        for node in list(graph):
            if (dequantize := _attacked_pair(node)) is None:
                continue
            key = (dequantize.outputs[0], _channels(node))
            if key not in made:
                made[key] = _per_channel(self.editor, dequantize, key[1])
            node.replace_input_with(0, made[key])
        if made:
            graph.sort()
            self._drop_idle(graph, made)
        return ir.passes.PassResult(model, bool(made))

    def _drop_idle(self, graph: ir.Graph, made: Mapping[tuple[ir.Value, int], ir.Value]) -> None:
        """Drop each DequantizeLinear that nothing reads any more."""
        for node in list(graph):
            if node.op_type == "DequantizeLinear" and not any(v.uses() or v.is_graph_output() for v in node.outputs):
                for (old, _), new in made.items():
                    if old is node.outputs[0]:
                        self.editor.instead(old, new)
                graph.remove(node, safe=True)


def _attacked_pair(node: ir.Node) -> ir.Node | None:
    """Return the DequantizeLinear with a scalar scale that a float op with constant weights reads, or None."""
    if node.op_type not in _ATTACKED or const_array(node.inputs[1]) is None:
        return None
    source = node.inputs[0]
    dequantize = source.producer() if source is not None else None
    return dequantize if dequantize is not None and _is_scalar_pair(dequantize) else None


def _is_scalar_pair(dequantize: ir.Node) -> bool:
    """Return whether the scale is a scalar; the optimiser leaves codes with a scale for each column alone."""
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


def _per_channel(editor: GraphEditor, dequantize: ir.Node, channels: int) -> ir.Value:
    old = dequantize.outputs[0]
    scale, zero = const_array(dequantize.inputs[1]), const_array(dequantize.inputs[2])
    if scale is None or zero is None:
        raise ValueError("a pair's scale and zero point must be constant")
    name = str(old.name)
    scales = editor.constant(f"{name}/scale.per_channel", np.full(channels, scale, scale.dtype))
    zeros = editor.constant(f"{name}/zero_point.per_channel", np.full(channels, zero, zero.dtype))
    output = editor.value(f"{name}/per_channel", old)
    inputs = [dequantize.inputs[0], scales, zeros]
    node_name = editor.names.new(f"{dequantize.name}.per_channel")
    editor.graph.append(ir.node("DequantizeLinear", inputs, {"axis": 1}, outputs=[output], name=node_name))
    return output
