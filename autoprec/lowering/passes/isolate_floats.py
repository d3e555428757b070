"""Dequantize(per tensor) -> float Conv -> Quantize  =>  Dequantize(per channel) -> float Conv -> Quantize.

ONNX Runtime's WeightBiasQuantization optimiser turns a float Conv, ConvTranspose or Gemm that stands
between a per-tensor DequantizeLinear and a QuantizeLinear into an INT8 one with a single scale for all its
weights. Nothing says so: with one depthwise convolution of a MobileNet left in FP32, top-1 fell from
77 % to 28 %. The optimiser asks for a scalar scale, so a vector of equal scales keeps the op in float.

What stands between the two is no shelter: a Pad is fused into the convolution before, a DequantizeLinear is moved
behind what only moves data, and a MatMul with an Add is made a Gemm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import RESHAPING_OPS, attribute_int, const_array, main_domain, static_shape
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass

_ATTACKED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SEEN_THROUGH = RESHAPING_OPS | {"Pad", "Slice", "Split", "MaxPool", "Gather", "DepthToSpace", "SpaceToDepth", "Expand"}
"""What the optimiser fuses, or moves a DequantizeLinear over."""
_KEEPS_CHANNELS = frozenset({"Pad", "MaxPool", "Identity", "Dropout"})
"""Those that most often leave the channels as they are; where the shape of the codes is known, it decides."""


class IsolateFloatsPass(LoweringPass):
    """Give float linear ops with constant weights a per-channel DequantizeLinear of their own.

    Requires: pairs with constant scales and zero points. Ensures: the same values, bit for bit; no float Conv,
    ConvTranspose, Gemm or MatMul with constant weights reads a pair with a scalar scale, directly or behind a Pad or
    what moves data, wherever a dimension of the codes is known.
    """

    def ensures(self, model: ir.Model) -> None:
        """Check that the optimiser finds nothing to turn into INT8."""
        super().ensures(model)
        for node in model.graph:
            if _exposed(node) is not None:
                raise ir.passes.PostconditionError(f"{node.name!r} still reads a pair with a scalar scale")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Isolate the ops; the model is modified if one of them needed it."""
        graph = model.graph
        made: dict[tuple[ir.Value, int, int], ir.Value] = {}
        for node in list(graph):
            while (found := _exposed(node)) is not None:
                key = (found.dequantize.outputs[0], found.axis, found.channels)
                if key not in made:
                    made[key] = _per_channel(self.editor, found)
                found.reader.replace_input_with(0, made[key])
        if made:
            graph.sort()
            self._drop_idle(graph, made)
        return ir.passes.PassResult(model, bool(made))

    def _drop_idle(self, graph: ir.Graph, made: Mapping[tuple[ir.Value, int, int], ir.Value]) -> None:
        """Drop each DequantizeLinear that nothing reads any more."""
        for node in list(graph):
            if node.op_type == "DequantizeLinear" and not any(v.uses() or v.is_graph_output() for v in node.outputs):
                for (old, _, _), new in made.items():
                    if old is node.outputs[0]:
                        self.editor.instead(old, new)
                graph.remove(node, safe=True)


@dataclass(frozen=True, slots=True)
class _Exposed:
    """A pair that a float op reads, so that the optimiser would turn the op into INT8.

    Attributes:
        dequantize: the DequantizeLinear.
        reader: the node that reads it: the op, or the first of the nodes between.
        axis: the axis of the codes along which each slice gets a scale of its own.
        channels: the number of these slices.
    """

    dequantize: ir.Node
    reader: ir.Node
    axis: int
    channels: int


def _exposed(node: ir.Node) -> _Exposed | None:
    """Return the pair with a scalar scale that a float op with constant weights reads, or None."""
    if node.op_type not in _ATTACKED or not main_domain(node) or const_array(node.inputs[1]) is None:
        return None
    reader, moved = node, False
    while (value := reader.inputs[0]) is not None and (maker := value.producer()) is not None:
        if _is_scalar_pair(maker):
            channels = 0 if moved or node.op_type == "MatMul" else _channels(node)
            found = _axis_of_codes(maker.inputs[0], channels)
            return None if found is None else _Exposed(maker, reader, *found)
        if maker.op_type not in _SEEN_THROUGH or not main_domain(maker):
            return None
        reader, moved = maker, moved or maker.op_type not in _KEEPS_CHANNELS
    return None


def _axis_of_codes(codes: ir.Value | None, channels: int) -> tuple[int, int] | None:
    """Return an axis of several slices and their number, the axis of the channels before others; None if none is known.

    Args:
        codes: the codes of the pair.
        channels: the number of channels, on axis 1, or 0 if what stands between may have changed it.
    """
    shape = static_shape(codes, 0) or (0, channels)
    order = sorted(range(len(shape)), key=lambda axis: (axis != 1, axis))
    known = next(((axis, shape[axis]) for axis in order if shape[axis] > 1), None)
    return (1, channels) if known is None and channels > 1 else known


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


def _per_channel(editor: GraphEditor, found: _Exposed) -> ir.Value:
    dequantize, channels = found.dequantize, found.channels
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
    editor.graph.append(ir.node("DequantizeLinear", inputs, {"axis": found.axis}, outputs=[output], name=node_name))
    return output
