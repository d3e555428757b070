"""Gemm(x, W, b)  =>  Sub(MatMul(x, W'), -b).

ONNX Runtime has a kernel from 8-bit codes to float for MatMul, but runs a Gemm in 8 bits only where its result
is quantised too, which a classifier's head should not be. A Sub, because its MatMulAddFusion would make a
Gemm of MatMul and Add again before the 8-bit kernels are chosen.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import add_initializer
from autoprec.graph.topology import attribute_int, const_array
from autoprec.lowering.passes.named_rewrite import NamedRewritePass


class GemmToMatMulPass(NamedRewritePass):
    """Rewrite the named Gemms with constant weights.

    Ensures: the product keeps the node's name, the result its own; alpha and beta are in the constants.
    """

    op_types = frozenset({"Gemm"})

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Rewrite one node; False where it cannot be."""
        return _rewrite(graph, node)


def _rewrite(graph: ir.Graph, gemm: ir.Node) -> bool:
    weight = const_array(gemm.inputs[1])
    bias_value = gemm.inputs[2] if len(gemm.inputs) > 2 else None
    bias = const_array(bias_value)
    if weight is None or (bias_value is not None and bias is None) or attribute_int(gemm, "transA", 0):
        return False
    alpha = gemm.attributes["alpha"].as_float() if "alpha" in gemm.attributes else 1.0
    beta = gemm.attributes["beta"].as_float() if "beta" in gemm.attributes else 1.0
    matrix = weight.T if attribute_int(gemm, "transB", 0) else weight
    source, output = gemm.inputs[0], gemm.outputs[0]
    product = ir.node(
        "MatMul",
        [source, add_initializer(graph, f"{gemm.name}/matrix", (matrix * np.float32(alpha)).astype(np.float32))],
        outputs=[ir.Value(type=output.type, shape=output.shape)],
        name=gemm.name,
    )
    nodes = [product]
    if bias is not None:
        product.outputs[0].name = f"{gemm.name}/product"
        scaled = add_initializer(graph, f"{gemm.name}/minus_bias", (bias * np.float32(-beta)).astype(np.float32))
        final = ir.Value(type=output.type, shape=output.shape)
        nodes.append(ir.node("Sub", [product.outputs[0], scaled], outputs=[final], name=f"{gemm.name}/subtract"))
    last = nodes[-1].outputs[0]
    ir.convenience.replace_nodes_and_values(graph, gemm, [gemm], nodes, [output], [last])
    return True
