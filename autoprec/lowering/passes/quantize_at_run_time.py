"""MatMul(x, W_8bit)  =>  Mul(Cast(MatMulInteger(codes of x, codes of W)), scale of x * scale of W).

So a product is written whose activations are quantised by the range that they have in this very run. ONNX Runtime
fuses it, with an Add of a bias behind it, to DynamicQuantizeMatMul; where several products read one value, it is
quantised once, and each of them becomes MatMulIntegerToFloat.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass

_Quantized = tuple[ir.Value, ir.Value, ir.Value]
"""The codes of a value, their scale and their zero point."""


class QuantizeAtRunTimePass(LoweringPass):
    """Write products on integers, of activations that are quantised at run time.

    Args:
        editor: the editor of the model.
        names: the names of the products.
        in_float: whether products stay in float, of what the codes stand for. Kernels on integers saturate on some
            CPUs, and simulated arithmetic must not depend on the CPU.

    Requires: each name is a MatMul whose second operand a DequantizeLinear makes of stored codes without zero point,
    with one scale for all or one for each column. Ensures: each of them is a MatMulInteger, or reads a
    DequantizeLinear; its result has the name that it had.
    """

    def __init__(self, editor: GraphEditor, names: Collection[str], *, in_float: bool = False) -> None:
        super().__init__(editor)
        self.names = frozenset(names)
        self.in_float = in_float

    def requires(self, model: ir.Model) -> None:
        """Check that the weights of each product are stored in 8 bits."""
        super().requires(model)
        nodes = {node.name: node for node in model.graph}
        for name in self.names:
            node = nodes.get(name)
            stored = _stored(node) if node is not None and node.op_type == "MatMul" else None
            if stored is None or len(stored.inputs) > 2:
                raise ir.passes.PreconditionError(f"{name!r} must be a MatMul of symmetric 8-bit weights")

    def ensures(self, model: ir.Model) -> None:
        """Check that each product reads codes on both sides, or what they stand for."""
        super().ensures(model)
        for node in model.graph:
            maker = node.inputs[0].producer() if node.name in self.names and node.inputs[0] is not None else None
            wanted = "DequantizeLinear" if self.in_float else "DynamicQuantizeLinear"
            if node.name in self.names and (maker is None or maker.op_type != wanted):
                raise ir.passes.PostconditionError(f"{node.name!r} must read a {wanted}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the products; the model is modified if there was one."""
        made: dict[ir.Value, _Quantized] = {}
        for node in [node for node in model.graph if node.name in self.names]:
            source = node.inputs[0]
            if source is None:
                raise ValueError(f"{node.name!r} must read a value")
            if source not in made:
                made[source] = self._quantized(source)
            if self.in_float:
                node.replace_input_with(0, self._dequantized(node, made[source]))
            else:
                self._rewrite(node, made[source])
        if made:
            model.graph.sort()
            drop_unused(model.graph)
        return ir.passes.PassResult(model, bool(made))

    def _quantized(self, source: ir.Value) -> _Quantized:
        editor, name = self.editor, f"{source.name}/run_time"
        codes = editor.value(f"{name}.q", source, ir.DataType.UINT8)
        scale, zero = (
            ir.Value(name=editor.names.new(f"{name}.{what}"), type=ir.TensorType(kind), shape=ir.Shape(()))
            for what, kind in (("scale", ir.DataType.FLOAT), ("zero_point", ir.DataType.UINT8))
        )
        wish = editor.names.new(f"{source.name}/quantize_at_run_time")
        editor.graph.append(ir.node("DynamicQuantizeLinear", [source], outputs=[codes, scale, zero], name=wish))
        return codes, scale, zero

    def _dequantized(self, node: ir.Node, quantized: _Quantized) -> ir.Value:
        output = self.editor.value(f"{node.name}/read", quantized[0], ir.DataType.FLOAT)
        name = self.editor.names.new(f"{node.name}/dequantize")
        self.editor.graph.append(ir.node("DequantizeLinear", quantized, outputs=[output], name=name))
        return output

    def _rewrite(self, node: ir.Node, quantized: _Quantized) -> None:
        editor, output, (codes, scale, zero) = self.editor, node.outputs[0], quantized
        stored = _stored(node)
        if stored is None:  # requires has looked at it
            raise ValueError(f"the weights of {node.name!r} must be stored in 8 bits")
        weights, of_weights = stored.inputs[:2]
        total = editor.value(f"{node.name}/total", output, ir.DataType.INT32)
        real = editor.value(f"{node.name}/total.fp32", output)
        factor = ir.Value(
            name=editor.names.new(f"{node.name}/factor"),
            type=output.type,
            shape=None if of_weights is None else of_weights.shape,
        )
        final = ir.Value(type=output.type, shape=output.shape)
        names = [editor.names.new(f"{node.name}/{what}") for what in ("to_float", "factor", "scaled")]
        nodes = [
            ir.node("MatMulInteger", [codes, weights, zero], outputs=[total], name=node.name),
            ir.node("Cast", [total], {"to": int(ir.DataType.FLOAT)}, outputs=[real], name=names[0]),
            ir.node("Mul", [scale, of_weights], outputs=[factor], name=names[1]),
            ir.node("Mul", [real, factor], outputs=[final], name=names[2]),
        ]
        editor.graph.insert_after(node, nodes)
        editor.take_over(output, final)
        editor.became(node, nodes)
        editor.graph.remove(node, safe=True)
        if not stored.outputs[0].uses():  # the runtime would compute it all the same
            editor.graph.remove(stored, safe=True)


def _stored(node: ir.Node) -> ir.Node | None:
    """Return the DequantizeLinear that makes the weights of a product, or None."""
    weights = node.inputs[1] if len(node.inputs) > 1 else None
    maker = weights.producer() if weights is not None else None
    return maker if maker is not None and maker.op_type == "DequantizeLinear" else None
