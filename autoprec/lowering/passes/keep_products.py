"""MatMul_8bit -> Add | Relu | Clip  =>  MatMul_8bit -> Sub | Sum | Max | Min, which ONNX Runtime does not fuse.

Its MatMulAddFusion makes a Gemm of a product and an Add, and a Gemm has no kernel from 8-bit codes to float. Its choice
of 8-bit kernels takes a Relu or Clip behind a product for one that a QuantizeLinear follows; where none follows, it
leaves the product in float. Both happen without a word.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import const_array, main_domain
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass

_CLIPPING = ("Relu", "Clip")


class KeepProductsPass(LoweringPass):
    """Write what follows an 8-bit product in operators that are not fused with it.

    Requires: Q/DQ pairs are inserted, and values are FP32. Ensures: the same values; no 8-bit product is read by an
    Add, or by a Relu or Clip whose result is read in float; nodes and values keep their names.
    """

    def ensures(self, model: ir.Model) -> None:
        """Check that the optimiser finds nothing to fuse with a product."""
        super().ensures(model)
        for node in model.graph:
            if (product := _product_before(node)) is not None:
                raise ir.passes.PostconditionError(f"{node.name!r} must not follow the 8-bit product {product.name!r}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the nodes; the model is modified if there was one."""
        found = [(node, product) for node in model.graph if (product := _product_before(node)) is not None]
        for node, product in found:
            steps = _sum(self.editor, node, product) if node.op_type == "Add" else _bounds(self.editor, node)
            model.graph.insert_after(node, steps)
            self.editor.take_over(node.outputs[0], steps[-1].outputs[0])
            self.editor.became(node, steps)
            model.graph.remove(node, safe=True)
        if found:
            drop_unused(model.graph)
        return ir.passes.PassResult(model, bool(found))


def transposes_before_products(graph: ir.Graph) -> list[str]:
    """Return the names of the Transpose nodes whose result a MatMul reads, which the optimiser fuses with it."""
    found = [node for node in graph if node.op_type == "Transpose" and main_domain(node)]
    return [str(node.name) for node in found if any(user.op_type == "MatMul" for user, _ in node.outputs[0].uses())]


def _product_before(node: ir.Node) -> ir.Node | None:
    """Return the 8-bit product that the optimiser would fuse with this node, or None."""
    if not main_domain(node) or node.op_type not in ("Add", *_CLIPPING):
        return None
    if node.op_type in _CLIPPING and _only_quantized(node.outputs[0]):
        return None  # the runtime has a kernel for the three together
    sources = node.inputs if node.op_type == "Add" else node.inputs[:1]
    makers = [value.producer() for value in sources if value is not None]
    return next((maker for maker in makers if maker is not None and _is_8bit_product(maker)), None)


def _is_8bit_product(node: ir.Node) -> bool:
    makers = [None if value is None else value.producer() for value in node.inputs]
    dequantized = all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)
    return node.op_type == "MatMul" and dequantized


def _only_quantized(value: ir.Value) -> bool:
    """Return whether a QuantizeLinear is the only reader."""
    return not value.is_graph_output() and [user.op_type for user, _ in value.uses()] == ["QuantizeLinear"]


def _sum(editor: GraphEditor, add: ir.Node, product: ir.Node) -> list[ir.Node]:
    """Return a Sub of minus the bias, or a Sum where the bias is computed at run time."""
    output = ir.Value(type=add.outputs[0].type, shape=add.outputs[0].shape)
    others = [value for value in add.inputs if value is None or value.producer() is not product]
    bias = const_array(others[0]) if others else None
    if bias is None:
        return [ir.node("Sum", list(add.inputs), outputs=[output], name=add.name)]
    inputs = [product.outputs[0], editor.constant(f"{add.name}/minus_bias", -bias)]
    return [ir.node("Sub", inputs, outputs=[output], name=add.name)]


def _bounds(editor: GraphEditor, clip: ir.Node) -> list[ir.Node]:
    """Return a Max and a Min, as far as there are bounds."""
    output = clip.outputs[0]
    inputs = [*clip.inputs, None, None]
    low = editor.constant(f"{clip.name}/zero", np.zeros((), np.float32)) if clip.op_type == "Relu" else inputs[1]
    steps: list[ir.Node] = []
    value = clip.inputs[0]
    for operator, bound in (("Max", low), ("Min", inputs[2] if clip.op_type == "Clip" else None)):
        if bound is not None:
            made = editor.value(f"{clip.name}/{operator}", output)
            name = editor.names.new(f"{clip.name}/{operator}")
            steps.append(ir.node(operator, [value, bound], outputs=[made], name=name))
            value = made
    if not steps:
        steps = [ir.node("Identity", [value], outputs=[editor.value(f"{clip.name}/same", output)])]
    steps[-1].name = clip.name
    return steps
