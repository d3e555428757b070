"""BatchNormalization(x)  =>  depthwise Conv 1x1 (x).

A normalisation behind an activation cannot be folded backwards. As a convolution with one weight for each
channel it runs on 8-bit codes, and with one scale for each channel its INT8 weights are exact.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import add_initializer
from autoprec.graph.topology import attribute_int, const_array
from autoprec.lowering.passes.named_rewrite import NamedRewritePass
from autoprec.precision import Array


class NormToConvPass(NamedRewritePass):
    """Rewrite the named normalisations of images (rank 3 to 5). Ensures: node and output keep their names."""

    op_types = frozenset({"BatchNormalization"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Rewrite one node; False where it cannot be."""
        return _rewrite(graph, node)


def _rewrite(graph: ir.Graph, norm: ir.Node) -> bool:
    source, output = norm.inputs[0], norm.outputs[0]
    parameters = [const_array(value) for value in norm.inputs[1:5]]
    rank = len(source.shape) if source is not None and source.shape is not None else 0
    if any(p is None for p in parameters) or not 3 <= rank <= 5 or attribute_int(norm, "training_mode", 0):
        return False
    gamma, beta, mean, var = (np.asarray(p, np.float64) for p in parameters if p is not None)
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    factor: Array = gamma / np.sqrt(var + epsilon)
    weight = factor.reshape(-1, 1, *[1] * (rank - 2)).astype(np.float32)
    bias = (beta - mean * factor).astype(np.float32)
    inputs = [
        source,
        add_initializer(graph, f"{norm.name}/conv.weight", weight),
        add_initializer(graph, f"{norm.name}/conv.bias", bias),
    ]
    conv = ir.node(
        "Conv",
        inputs,
        {"group": len(gamma), "kernel_shape": [1] * (rank - 2)},
        outputs=[ir.Value(type=output.type, shape=output.shape)],
        name=norm.name,
    )
    graph.insert_after(norm, conv)
    ir.convenience.replace_nodes_and_values(graph, norm, [norm], [conv], [output], [conv.outputs[0]])
    return True
