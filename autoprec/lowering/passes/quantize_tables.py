"""Gather(T, i)  =>  GatherBlockQuantized(T_4bit, i, scales), with a scale for each block of columns of each row.

That is ONNX Runtime's own operator: only the rows that are looked up are dequantised. Simulated, the whole table is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.quantize_blocks import stored_grid
from autoprec.lowering.placement import WeightPoint
from autoprec.precision import Precision

_DOMAIN = "com.microsoft"


class QuantizeTablesPass(LoweringPass):
    """Store tables of embeddings in 4 bits.

    Args:
        editor: the editor of the model.
        points: the tables, each with a precision that has blocks.
        scale_type: the coarsest float type that any scale is stored in.
        in_float: whether the look-up stays the standard one, of a table that is dequantised before.

    Requires: opset 21, and each point is the first operand of a Gather of rows, an initializer of two dimensions.
    Ensures: no such Gather reads a float initializer; its result has the name that it had.
    """

    def __init__(
        self, editor: GraphEditor, points: Sequence[WeightPoint], scale_type: Precision, *, in_float: bool = False
    ) -> None:
        super().__init__(editor)
        self.points, self.scale_type, self.in_float = tuple(points), scale_type, in_float

    def requires(self, model: ir.Model) -> None:
        """Check that each point is a table that a Gather reads."""
        super().requires(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            node = nodes.get(point.node)
            table = node.inputs[0] if node is not None and node.op_type == "Gather" else None
            if table is None or table.const_value is None or len(table.const_value.shape) != 2 or point.index != 0:
                raise ir.passes.PreconditionError(f"input {point.index} of {point.node!r} must be a constant table")

    def ensures(self, model: ir.Model) -> None:
        """Check that each look-up reads codes, or a table that is made of them."""
        super().ensures(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            node = nodes[point.node]
            table = node.inputs[0]
            maker = table.producer() if table is not None else None
            if node.op_type != "GatherBlockQuantized" and (maker is None or maker.op_type != "DequantizeLinear"):
                raise ir.passes.PostconditionError(f"{point.node!r} must look up codes of 4 bits")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantise the tables; the model is modified if there was a point."""
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            node = nodes[point.node]
            stored = self._stored(node.inputs[0], point.precision)
            if self.in_float:
                self._dequantize(node, stored, point.precision)
            else:
                model.opset_imports.setdefault(_DOMAIN, 1)
                self._look_up(node, stored, point.precision)
        if self.points:
            model.graph.sort()
            drop_unused(model.graph)
        return ir.passes.PassResult(model, bool(self.points))

    def _stored(self, table: ir.Value | None, precision: Precision) -> list[ir.Value]:
        """Return the initializers of the codes, the scales, and the zero points where there are any."""
        if table is None or table.const_value is None:  # requires has looked at it
            raise ValueError("tables must be constant")
        what = ("table", precision, self.scale_type)
        grid = self.editor.computed(
            table.const_value, what, lambda array: stored_grid(array.T, precision, self.scale_type)
        )
        wish = f"{table.name}/{precision}"
        codes = self.editor.derived(
            table, ("codes", *what), wish, lambda array: np.ascontiguousarray(grid.codes(array.T).T)
        )
        stored = [codes, self.editor.constant(f"{wish}.scale", np.ascontiguousarray(grid.scales.T))]
        if grid.zeros is not None:
            zeros = np.ascontiguousarray(grid.zeros.T).astype(grid.code_type)
            stored.append(self.editor.constant(f"{wish}.zero_point", zeros))
        return stored

    def _dequantize(self, node: ir.Node, stored: Sequence[ir.Value], precision: Precision) -> None:
        table = node.inputs[0]
        if table is None:
            raise ValueError(f"{node.name!r} must read a table")
        output = self.editor.value(f"{node.name}/table", table, ir.DataType.FLOAT)
        name = self.editor.names.new(f"{node.name}/dequantize_table")
        attributes = {"axis": 1, "block_size": precision.block}
        self.editor.graph.append(ir.node("DequantizeLinear", list(stored), attributes, outputs=[output], name=name))
        node.replace_input_with(0, output)

    def _look_up(self, node: ir.Node, stored: Sequence[ir.Value], precision: Precision) -> None:
        codes, *others = stored
        old = node.outputs[0]
        final = ir.Value(type=ir.TensorType(ir.DataType.FLOAT), shape=old.shape)
        attributes = {"gather_axis": 0, "quantize_axis": 1, "block_size": precision.block}
        inputs = [codes, node.inputs[1], *others]
        made = ir.node("GatherBlockQuantized", inputs, attributes, domain=_DOMAIN, outputs=[final], name=node.name)
        self.editor.graph.insert_after(node, made)
        self.editor.take_over(old, final)
        self.editor.became(node, [made])
        self.editor.graph.remove(node, safe=True)
