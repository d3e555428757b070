"""Conv(x_8bit, w_8bit, b): a coarser scale for the weights of a channel whose bias would not fit into 32 bits.

ONNX Runtime stores the bias of an 8-bit convolution as an integer in steps of scale(x) * scale(w). Where training has
left a channel with next to no weights, as behind a normalisation that shuts it, that step is so small that the integer
overflows, and the channel is computed wrongly without a word: of MobileNet v1's first convolution nine channels of 24.
A coarser scale loses nothing there: what it rounds away is less than the bias can tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import const_array, main_domain
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.precision import Array

_MOST_STEPS = 2.0**30
"""Half of what 32 bits hold, since the products of weights and activations are added to the bias."""


@dataclass(frozen=True, slots=True)
class _Narrow:
    """A convolution with a bias that would overflow.

    Attributes:
        dequantize: the DequantizeLinear of its weights.
        codes: the weights.
        scales: their scales, one for each output channel.
        wanted: scales with which the bias fits.
    """

    dequantize: ir.Node
    codes: Array
    scales: Array
    wanted: Array


class RepresentableBiasPass(LoweringPass):
    """Give channels of 8-bit convolutions scales with which their bias fits into 32 bits.

    Requires: pairs with constant scales, and corrected biases. Ensures: the bias of each 8-bit Conv with a scale for
    each channel is at most half of what 32 bits hold, in steps of the products of both scales.
    """

    def ensures(self, model: ir.Model) -> None:
        """Check that no bias overflows."""
        super().ensures(model)
        for node in model.graph:
            if _narrow(node) is not None:
                raise ir.passes.PostconditionError(f"the bias of {node.name!r} does not fit into 32 bits")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the scales and codes; the model is modified if one of them had to be."""
        graph, changed = model.graph, False
        for node in list(graph):
            found = _narrow(node)
            if found is None:
                continue
            changed = True
            along = (-1, *[1] * (found.codes.ndim - 1))
            factor = (found.scales / found.wanted).reshape(along)
            name = str(found.dequantize.outputs[0].name)
            codes = self.editor.constant(f"{name}/codes.wide", np.round(found.codes * factor).astype(np.int8))
            scales = self.editor.constant(f"{name}/scale.wide", found.wanted)
            output = self.editor.value(f"{name}/wide", found.dequantize.outputs[0])
            inputs = [codes, scales, *found.dequantize.inputs[2:]]
            label = self.editor.names.new(f"{found.dequantize.name}.wide")
            graph.insert_before(node, ir.node("DequantizeLinear", inputs, {"axis": 0}, outputs=[output], name=label))
            node.replace_input_with(1, output)
        if changed:
            drop_unused(graph)
        return ir.passes.PassResult(model, changed)


def _narrow(node: ir.Node) -> _Narrow | None:
    if node.op_type != "Conv" or not main_domain(node) or len(node.inputs) < 3:
        return None
    pairs = [None if value is None else value.producer() for value in node.inputs[:2]]
    read, weights = (p if p is not None and p.op_type == "DequantizeLinear" else None for p in pairs)
    bias = None if node.inputs[2] is None else const_array(node.inputs[2])
    if read is None or weights is None or bias is None:
        return None
    step, scales, codes = const_array(read.inputs[1]), const_array(weights.inputs[1]), const_array(weights.inputs[0])
    if step is None or step.size != 1 or scales is None or scales.size != bias.size or codes is None:
        return None
    if codes.dtype != np.int8 or len(codes) != scales.size:
        return None
    least = np.abs(bias.astype(np.float64)) / (float(step.reshape(-1)[0]) * _MOST_STEPS)
    if not (scales < least).any():
        return None
    return _Narrow(weights, codes, scales, np.maximum(scales, 1.01 * least).astype(scales.dtype))
