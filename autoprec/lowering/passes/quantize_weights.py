"""op(x, W)  =>  op(x, DequantizeLinear(W_8bit, scale)); for an embedding Gather(W_8bit) -> DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import LINEAR_OPS
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.scales import round_scale
from autoprec.lowering.placement import WeightPoint
from autoprec.precision import Array, Precision
from autoprec.ranges.affine import SMALLEST_HALF_SCALE
from autoprec.ranges.weights import quantize_weight, weight_scales


class QuantizeWeightsPass(LoweringPass):
    """Store constants in 8 bits, one scale for each output channel.

    Args:
        editor: the editor of the model.
        points: the constants, each with the axis of its scales.
        scale_type: the coarsest float type that any scale is stored in; codes are computed with the
            rounded scale, so that rounding it costs nothing.
        largest: the largest INT8 code of a weight that is multiplied; embeddings have all codes.

    Requires: each point's input is an initializer. Ensures: it is read through one DequantizeLinear;
    codes are symmetric, without zero point.
    """

    def __init__(
        self, editor: GraphEditor, points: Sequence[WeightPoint], scale_type: Precision, largest: int = 127
    ) -> None:
        super().__init__(editor)
        self.largest = largest
        self.points = tuple(points)
        self.scale_type = scale_type

    def requires(self, model: ir.Model) -> None:
        """Check that each point names an initializer."""
        super().requires(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            value = nodes[point.node].inputs[point.index] if point.node in nodes else None
            if value is None or not value.is_initializer() or value.const_value is None:
                raise ir.passes.PreconditionError(f"input {point.index} of {point.node!r} must be an initializer")

    def ensures(self, model: ir.Model) -> None:
        """Check that each point is read through a DequantizeLinear of an initializer."""
        super().ensures(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            require_stored(nodes, point, ir.passes.PostconditionError)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantise the constants; the model is modified if there was a point."""
        nodes = {node.name: node for node in model.graph}
        stored: dict[tuple[ir.Value | None, int | None, Precision], tuple[ir.Value, ir.Value]] = {}
        made: dict[tuple[ir.Value | None, int | None, Precision], ir.Value] = {}
        for point in self.points:
            node = nodes[point.node]
            if point.after_gather:
                self._gather(model.graph, node, point)
                continue
            weight = node.inputs[point.index]
            key = (weight, point.axis, point.precision)
            if key not in stored:
                stored[key] = self._codes(node, point)
            if key not in made or point.precision.weights_only:  # runtimes fuse none of these that others read too
                made[key] = self._dequantized(model.graph, weight, point, stored[key])
            node.replace_input_with(point.index, made[key])
        model.graph.sort()
        drop_unused(model.graph)
        return ir.passes.PassResult(model, bool(self.points))

    def _codes(self, node: ir.Node, point: WeightPoint) -> tuple[ir.Value, ir.Value]:
        weight = node.inputs[point.index]
        if weight is None or weight.const_value is None:
            raise ValueError(f"input {point.index} of {point.node!r} must be an initializer")
        largest = self.largest if node.op_type in LINEAR_OPS and point.precision is Precision.INT8 else None
        what = (point.axis, point.precision, self.scale_type, largest)
        scales = self.editor.computed(
            weight.const_value, ("scales", *what), lambda array: self._scales(array, point, largest)
        )

        def codes(array: Array) -> Array:
            return quantize_weight(array.astype(np.float32, copy=False), scales, point.axis, point.precision)

        stored = self.editor.derived(weight, ("codes", *what), f"{weight.name}/{point.precision}", codes)
        scale = self.editor.constant(f"{weight.name}/{point.precision}.scale", np.asarray(scales, np.float32))
        return stored, scale

    def _scales(self, array: Array, point: WeightPoint, largest: int | None) -> Array:
        exact = weight_scales(array.astype(np.float32, copy=False), point.axis, point.precision)
        if largest is not None and largest < point.precision.largest:
            exact = exact * np.float32(point.precision.largest / largest)
        return round_scale(exact, self.scale_type, SMALLEST_HALF_SCALE)

    def _dequantized(
        self, graph: ir.Graph, weight: ir.Value | None, point: WeightPoint, constants: tuple[ir.Value, ir.Value]
    ) -> ir.Value:
        if weight is None:
            raise ValueError(f"{point.node!r} must read weights")
        stored, scale = constants
        attributes = {} if point.axis is None else {"axis": point.axis}
        output = self.editor.value(f"{stored.name}/dq", weight, ir.DataType.FLOAT)
        name = self.editor.names.new(f"{stored.name}/dequantize")
        graph.append(ir.node("DequantizeLinear", [stored, scale], attributes, outputs=[output], name=name))
        return output

    def _gather(self, graph: ir.Graph, node: ir.Node, point: WeightPoint) -> None:
        stored, scale = self._codes(node, point)
        found = node.outputs[0]
        axis = -1 if found.shape is None else len(found.shape) - 1
        node.replace_input_with(0, stored)
        final = ir.Value(type=ir.TensorType(ir.DataType.FLOAT), shape=found.shape)
        self.editor.take_over(found, final, f"{found.name}/codes")
        found.type = ir.TensorType(stored.dtype if stored.dtype is not None else ir.DataType.INT8)
        name = self.editor.names.new(f"{node.name}/dequantize")
        dequantize = ir.node("DequantizeLinear", [found, scale], {"axis": axis}, outputs=[final], name=name)
        graph.append(dequantize)
        self.editor.became(node, [node, dequantize])


def require_stored(
    nodes: Mapping[str | None, ir.Node], point: WeightPoint, error: type[Exception] = ir.passes.PreconditionError
) -> None:
    """Raise `error` if the constant at `point` is not stored in codes."""
    node = nodes.get(point.node)
    reader = node if node is None or point.after_gather else node.inputs[point.index].producer()  # type: ignore[union-attr]
    source = reader.inputs[0] if reader is not None else None
    codes = (ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN, ir.DataType.INT4, ir.DataType.UINT4)
    if source is None or not source.is_initializer() or source.dtype not in codes:
        raise error(f"input {point.index} of {point.node!r} must be stored in codes")
