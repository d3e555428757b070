"""DequantizeLinear(W_int8)  =>  DequantizeLinear(QuantizeLinear(W)): weights in float for parsers that need them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import attribute_int, const_array
from autoprec.graph.widening import is_given_pair
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.precision import Array


class FloatWeightsPass(LoweringPass):
    """Store 8-bit weights as the floats that they stand for, behind a QuantizeLinear that gives the codes back.

    TensorRT 8.6 folds the pair into INT8 weights; its parser takes no INT8 constants.

    Requires: DequantizeLinear of INT8 constants without zero point. Ensures: none reads a constant of 8 bits, and
    every product computes on the same codes.
    """

    def requires(self, model: ir.Model) -> None:
        """Check that no DequantizeLinear of an INT8 constant shifts it."""
        super().requires(model)
        for node in model.graph:
            codes = const_array(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
            point = node.inputs[2] if len(node.inputs) > 2 else None
            if codes is None or codes.dtype != np.int8 or point is None or is_given_pair(node):
                continue
            zero = const_array(point)
            if zero is None or zero.any():
                raise ir.passes.PreconditionError(f"the zero point of {node.name!r} must be 0")

    def ensures(self, model: ir.Model) -> None:
        """Check that no DequantizeLinear reads a constant."""
        super().ensures(model)
        for node in model.graph:
            given = is_given_pair(node)
            if node.op_type == "DequantizeLinear" and not given and const_array(node.inputs[0]) is not None:
                raise ir.passes.PostconditionError(f"{node.name!r} still reads a constant")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Convert the weights; the model is modified if there was one."""
        graph, found = model.graph, False
        for node in list(graph):
            codes = const_array(node.inputs[0]) if node.op_type == "DequantizeLinear" else None
            scale = const_array(node.inputs[1]) if codes is not None else None
            symmetric = len(node.inputs) < 3 or not np.any(const_array(node.inputs[2]))
            if codes is not None and scale is not None and codes.dtype == np.int8 and symmetric:
                self._convert(graph, node, codes, scale)
                found = True
        drop_unused(graph)
        return ir.passes.PassResult(model, modified=found)

    def _convert(self, graph: ir.Graph, node: ir.Node, codes: Array, scale: Array) -> None:
        """Put a QuantizeLinear of floats in front of the DequantizeLinear of a constant."""
        axis = attribute_int(node, "axis", 1)
        axis_of_scales = axis + codes.ndim if axis < 0 else axis
        shape = [-1 if index == axis_of_scales and scale.ndim else 1 for index in range(codes.ndim)]
        floats = codes.astype(np.float32) * scale.astype(np.float32).reshape(shape if scale.ndim else [])
        name = str(node.inputs[0].name if node.inputs[0] is not None else node.name)
        stored = self.editor.constant(f"{name}.float", floats)
        # Without a zero point the codes would be UINT8.
        zero = self.editor.constant(f"{name}.zero", np.zeros(scale.shape, np.int8))
        output = ir.Value(
            name=self.editor.names.new(f"{name}/codes"),
            type=ir.TensorType(ir.DataType.INT8),
            shape=ir.Shape(codes.shape),
        )
        made = ir.node(
            "QuantizeLinear",
            [stored, node.inputs[1], zero],
            {"axis": axis} if scale.ndim else {},
            outputs=[output],
            name=self.editor.names.new(f"{node.name}/quantize"),
        )
        graph.insert_before(node, made)
        node.resize_inputs(3)
        node.replace_input_with(0, output)
        node.replace_input_with(2, zero)
