"""Conv(x, W, b) -> BatchNormalization  =>  Conv(x, W', b').

An 8-bit kernel has per-channel scales for the weights it is given, so the normalisation must be in
them before they are quantised.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import attribute_int, const_array
from autoprec.lowering.passes.named_rewrite import NamedRewritePass
from autoprec.precision import Array


class FoldBatchNormPass(NamedRewritePass):
    """Fold each BatchNormalization that directly follows one of the named convolutions into it.

    Requires: FP32 values. Ensures: the folded node's output keeps its name; equality up to FP32 rounding of the new
    weights, which are computed in FP64. One normalisation is folded into each convolution, even where two follow.
    """

    op_types = frozenset({"Conv", "ConvTranspose"})

    def why_not(self, node: ir.Node) -> str | None:
        """Return why no normalisation can be folded into the convolution, or None if one can."""
        output = node.outputs[0]
        consumers = list(output.consumers())
        if output.is_graph_output() or len(consumers) != 1 or consumers[0].op_type != "BatchNormalization":
            return "its result is not read by one BatchNormalization alone"
        norm = consumers[0]
        if norm.inputs[0] is not output or attribute_int(norm, "training_mode", 0):
            return "the BatchNormalization behind it computes its own statistics, or reads it as a parameter"
        if any(const_array(value) is None for value in (*norm.inputs[1:5], *node.inputs[1:3])):
            return "a weight or a parameter of the BatchNormalization is not constant"
        if node.op_type == "ConvTranspose" and attribute_int(node, "group", 1) != 1:
            return "the channels of a ConvTranspose with groups are not one axis of its weights"
        return None

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> None:
        """Replace the convolution and its normalisation by one convolution."""
        (norm,) = node.outputs[0].consumers()
        weight, bias = _folded(node, norm)
        inputs = [
            node.inputs[0],
            self.editor.constant(f"{node.name}/folded.weight", weight),
            self.editor.constant(f"{node.name}/folded.bias", bias),
        ]
        output = norm.outputs[0]
        made = ir.Value(type=output.type, shape=output.shape)
        attributes = tuple(node.attributes.values())
        folded = ir.Node(node.domain, node.op_type, inputs, attributes, outputs=[made], name=node.name)
        graph.insert_after(norm, folded)
        self.editor.take_over(output, made)
        for old in (norm, node):
            self.editor.became(old, [folded])
            graph.remove(old, safe=True)


def _folded(node: ir.Node, norm: ir.Node) -> tuple[Array, Array]:
    """Return the weights and the bias of a convolution with its normalisation in them."""
    gamma, beta, mean, var = (_array64(value) for value in norm.inputs[1:5])
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    factor = gamma / np.sqrt(var + epsilon)
    weight = _array64(node.inputs[1])
    shape = [1] * weight.ndim
    shape[0 if node.op_type == "Conv" else 1] = -1
    bias = _array64(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros_like(mean)
    return (weight * factor.reshape(shape)).astype(np.float32), ((bias - mean) * factor + beta).astype(np.float32)


def _array64(value: ir.Value | None) -> Array:
    array = const_array(value)
    if array is None:  # why_not has looked at all of them
        raise ValueError("a BatchNormalization parameter must be constant")
    return array.astype(np.float64)
