"""Conv(x, W, b) -> BatchNormalization  =>  Conv(x, W', b').

An 8-bit kernel has per-channel scales for the weights it is given, so the normalisation must be in
them before they are quantised.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import add_initializer
from autoprec.graph.topology import attribute_int, const_array
from autoprec.lowering.passes.named_rewrite import NamedRewritePass
from autoprec.precision import Array


class FoldBatchNormPass(NamedRewritePass):
    """Fold each BatchNormalization that directly follows one of the named convolutions into it.

    Ensures: the folded node's output keeps its name; equality up to FP32 rounding of the new weights,
    which are computed in FP64.
    """

    op_types = frozenset({"Conv", "ConvTranspose"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Fold one node; False where it cannot be."""
        return _fold(graph, node)


def foldable_norm(node: ir.Node) -> ir.Node | None:
    """The BatchNormalization that can be folded into the convolution `node`, or None."""
    output = node.outputs[0]
    consumers = list(output.consumers())
    if output.is_graph_output() or len(consumers) != 1 or consumers[0].op_type != "BatchNormalization":
        return None
    norm = consumers[0]
    if norm.inputs[0] is not output or attribute_int(norm, "training_mode", 0):
        return None
    if any(const_array(value) is None for value in (*norm.inputs[1:5], *node.inputs[1:3])):
        return None
    grouped = attribute_int(node, "group", 1) != 1
    return None if node.op_type == "ConvTranspose" and grouped else norm


def _fold(graph: ir.Graph, node: ir.Node) -> bool:
    norm = foldable_norm(node)
    if norm is None:
        return False
    gamma, beta, mean, var = (_array64(value) for value in norm.inputs[1:5])
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    factor = gamma / np.sqrt(var + epsilon)
    weight = _array64(node.inputs[1])
    shape = [1] * weight.ndim
    shape[0 if node.op_type == "Conv" else 1] = -1
    bias = _array64(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros_like(mean)
    dtype = np.float32
    new_weight = add_initializer(graph, f"{node.name}/folded.weight", (weight * factor.reshape(shape)).astype(dtype))
    new_bias = add_initializer(graph, f"{node.name}/folded.bias", ((bias - mean) * factor + beta).astype(dtype))
    output = norm.outputs[0]
    attributes = dict(node.attributes)
    folded = ir.Node(
        node.domain,
        node.op_type,
        [node.inputs[0], new_weight, new_bias],
        tuple(attributes.values()),
        outputs=[ir.Value(type=output.type, shape=output.shape)],
        name=node.name,
    )
    graph.insert_after(norm, folded)
    ir.convenience.replace_nodes_and_values(graph, norm, [norm], [folded], [output], [folded.outputs[0]])
    graph.remove(node, safe=True)
    return True


def _array64(value: ir.Value | None) -> Array:
    array = const_array(value)
    if array is None:  # foldable_norm has looked at all of them
        raise ValueError("a BatchNormalization parameter must be constant")
    return array.astype(np.float64)
