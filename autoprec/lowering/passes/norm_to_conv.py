"""BatchNormalization(x)  =>  depthwise Conv 1x1 (x).

A normalisation behind an activation cannot be folded backwards. As a convolution with one weight for each
channel it runs on 8-bit codes, and with one scale for each channel its INT8 weights are exact.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import attribute_int, const_array
from autoprec.lowering.passes.named_rewrite import NamedRewritePass
from autoprec.precision import Array


class NormToConvPass(NamedRewritePass):
    """Rewrite the named normalisations of images, which have three to five dimensions.

    Requires: FP32 values. Ensures: no named normalisation is left that could be rewritten; node and output keep their
    names.
    """

    op_types = frozenset({"BatchNormalization"})

    def ensures(self, model: ir.Model) -> None:
        """Check that every named normalisation that is left has a reason."""
        super().ensures(model)
        for node in self.named(model.graph):
            if self.why_not(node) is None:
                raise ir.passes.PostconditionError(f"{node.name!r} must be a convolution")

    def why_not(self, node: ir.Node) -> str | None:
        """Return why the normalisation cannot be rewritten, or None if it can."""
        source = node.inputs[0]
        rank = len(source.shape) if source is not None and source.shape is not None else 0
        if any(const_array(value) is None for value in node.inputs[1:5]):
            return "a parameter of it is computed at run time"
        if not 3 <= rank <= 5:
            return "a convolution takes three to five dimensions"
        return "it computes its own statistics" if attribute_int(node, "training_mode", 0) else None

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> None:
        """Replace the normalisation by a depthwise convolution."""
        factor, shift = _affine(node)
        source, output = node.inputs[0], node.outputs[0]
        rank = len(source.shape or ()) if source is not None else 0
        inputs = [
            source,
            self.editor.constant(f"{node.name}/conv.weight", factor.reshape(-1, 1, *[1] * (rank - 2))),
            self.editor.constant(f"{node.name}/conv.bias", shift),
        ]
        made = ir.Value(type=output.type, shape=output.shape)
        conv = ir.node(
            "Conv",
            inputs,
            {"group": len(factor), "kernel_shape": [1] * (rank - 2)},
            outputs=[made],
            name=node.name,
        )
        graph.insert_after(node, conv)
        self.editor.take_over(output, made)
        self.editor.became(node, [conv])
        graph.remove(node, safe=True)


def _affine(norm: ir.Node) -> tuple[Array, Array]:
    """Return the factor and the summand of each channel."""
    parameters = [const_array(value) for value in norm.inputs[1:5]]
    gamma, beta, mean, var = (np.asarray(array, np.float64) for array in parameters)
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    factor: Array = gamma / np.sqrt(var + epsilon)
    return factor.astype(np.float32), (beta - mean * factor).astype(np.float32)
