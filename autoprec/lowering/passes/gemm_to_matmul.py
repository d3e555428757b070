"""Gemm(x, W, b)  =>  Sub(MatMul(x, W'), -b), or Add(MatMul(x, W'), b).

ONNX Runtime has a kernel from 8-bit codes to float for MatMul, but runs a Gemm in 8 bits only where its result
is quantised too, which a classifier's head should not be. A Sub, because its MatMulAddFusion would make a
Gemm of MatMul and Add again before the 8-bit kernels are chosen. An Add behind a product whose activations are
quantised at run time, because that kernel takes it in.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import attribute_int, const_array
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.named_rewrite import NamedRewritePass
from autoprec.precision import Array


class GemmToMatMulPass(NamedRewritePass):
    """Rewrite the named Gemms with constant weights.

    Args:
        editor: the editor of the model.
        names: the names of the nodes.
        add: whether the bias is added, and not taken away with its sign turned.

    Requires: FP32 values. Ensures: no named Gemm is left that could be rewritten; the product keeps the node's name,
    the result its own; alpha and beta are in the constants.
    """

    op_types = frozenset({"Gemm"})

    def __init__(self, editor: GraphEditor, names: Collection[str], *, add: bool = False) -> None:
        super().__init__(editor, names)
        self.add = add

    def ensures(self, model: ir.Model) -> None:
        """Check that every named Gemm that is left has a reason."""
        super().ensures(model)
        for node in self.named(model.graph):
            if self.why_not(node) is None:
                raise ir.passes.PostconditionError(f"{node.name!r} must not be a Gemm any more")

    def why_not(self, node: ir.Node) -> str | None:
        """Return why the Gemm cannot be rewritten, or None if it can."""
        return why_no_product(node)

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> None:
        """Replace the Gemm by a MatMul, and by a Sub or Add where it has a bias."""
        matrix, minus_bias = _constants(node)
        output = node.outputs[0]
        inputs = [node.inputs[0], self.editor.constant(f"{node.name}/matrix", matrix)]
        made = ir.Value(type=output.type, shape=output.shape)
        nodes = [ir.node("MatMul", inputs, outputs=[made], name=node.name)]
        if minus_bias is not None:
            made.name = self.editor.names.new(f"{node.name}/product")
            wish, bias = ("bias", -minus_bias) if self.add else ("minus_bias", minus_bias)
            scaled = self.editor.constant(f"{node.name}/{wish}", bias)
            final = ir.Value(type=output.type, shape=output.shape)
            name = self.editor.names.new(f"{node.name}/{'add' if self.add else 'subtract'}")
            nodes.append(ir.node("Add" if self.add else "Sub", [made, scaled], outputs=[final], name=name))
        graph.insert_after(node, nodes)
        self.editor.take_over(output, nodes[-1].outputs[0])
        self.editor.became(node, nodes)
        graph.remove(node, safe=True)


def why_no_product(node: ir.Node) -> str | None:
    """Return why a Gemm cannot be written as a MatMul, or None if it can."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if const_array(node.inputs[1]) is None:
        return "its weights are computed at run time"
    if bias is not None and const_array(bias) is None:
        return "its bias is computed at run time"
    return "its first operand is transposed" if attribute_int(node, "transA", 0) else None


def _constants(gemm: ir.Node) -> tuple[Array, Array | None]:
    """Return the matrix of a Gemm with alpha in it, and its bias times -beta, or None if it has no bias."""
    weight, bias = const_array(gemm.inputs[1]), const_array(gemm.inputs[2] if len(gemm.inputs) > 2 else None)
    if weight is None:  # why_not has looked at it
        raise ValueError("the weights of a Gemm must be constant")
    alpha = gemm.attributes["alpha"].as_float() if "alpha" in gemm.attributes else 1.0
    beta = gemm.attributes["beta"].as_float() if "beta" in gemm.attributes else 1.0
    matrix = weight.T if attribute_int(gemm, "transB", 0) else weight
    minus_bias = None if bias is None else (bias * np.float32(-beta)).astype(np.float32)
    return (matrix * np.float32(alpha)).astype(np.float32), minus_bias
