"""x -> op  =>  x -> QuantizeLinear -> DequantizeLinear -> op, on the edges that the placement names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.placement import ActivationPoint
from autoprec.precision import Array, Precision, float_dtype
from autoprec.ranges.affine import QuantParams


class InsertQDQPass(LoweringPass):
    """Insert one pair for each point; consumers that are not named bypass it.

    Args:
        editor: the editor of the model.
        points: where the pairs go.
        scales: (value name, precision) -> its affine map; the scale is representable in every type that stores it.

    Requires: every point is a value of the graph, or an input of it, with a positive finite scale.
    Ensures: where a pair sits at the producer, the dequantised value carries the original name.
    """

    def __init__(
        self,
        editor: GraphEditor,
        points: Sequence[ActivationPoint],
        scales: Mapping[tuple[str, Precision], QuantParams],
    ) -> None:
        super().__init__(editor)
        self.points = tuple(points)
        self.scales = scales

    def requires(self, model: ir.Model) -> None:
        """Check that every point exists and has a usable scale."""
        super().requires(model)
        known = {value.name for value in model.graph.inputs}
        known |= {value.name for node in model.graph for value in node.outputs}
        for point in self.points:
            scale = self.scales.get((point.tensor, point.precision))
            if point.tensor not in known:
                raise ir.passes.PreconditionError(f"there is no value {point.tensor!r}")
            if scale is None or not 0 < scale.scale < np.inf:
                raise ir.passes.PreconditionError(f"the scale of {point.tensor!r} must be positive and finite")

    def ensures(self, model: ir.Model) -> None:
        """Check that every consumer that a point names reads a DequantizeLinear."""
        super().ensures(model)
        nodes = {node.name: node for node in model.graph}
        for name, index in (edge for point in self.points for edge in point.consumers):
            source = nodes[name].inputs[index]
            maker = source.producer() if source is not None else None
            if maker is None or maker.op_type != "DequantizeLinear":
                raise ir.passes.PostconditionError(f"input {index} of {name!r} must read a DequantizeLinear")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Insert the pairs; the model is modified if there was a point."""
        graph = model.graph
        values = {value.name: value for value in graph.inputs}
        values |= {value.name: value for node in graph for value in node.outputs}
        nodes = {str(node.name): node for node in graph}
        for point in self.points:
            self._insert(graph, values[point.tensor], point, nodes)
        graph.sort()
        return ir.passes.PassResult(model, bool(self.points))

    def _insert(self, graph: ir.Graph, value: ir.Value, point: ActivationPoint, nodes: Mapping[str, ir.Node]) -> None:
        editor, name = self.editor, point.tensor
        suffix = "" if point.precision is Precision.INT8 else f".{point.precision}"
        inputs = self._parameters(point, suffix)
        codes = editor.value(f"{name}/q{suffix}", value, _code_type(point, self.scales[name, point.precision]))
        if point.everywhere:
            output = ir.Value(type=value.type, shape=value.shape)
            editor.quantized(value, output, f"{name}/raw")
        else:
            output = editor.value(f"{name}/dq{suffix}", value)
            for node, index in sorted(point.consumers):
                nodes[node].replace_input_with(index, output)
        ends = editor.names.new(f"{name}/quantize{suffix}"), editor.names.new(f"{name}/dequantize{suffix}")
        quantize = ir.node("QuantizeLinear", [value, *inputs], outputs=[codes], name=ends[0])
        graph.append(quantize)
        graph.append(ir.node("DequantizeLinear", [codes, *inputs], outputs=[output], name=ends[1]))
        editor.pair(point, quantize)

    def _parameters(self, point: ActivationPoint, suffix: str) -> tuple[ir.Value, ir.Value]:
        """Return the scale of a pair and its zero point; pairs with equal zero points share one initializer."""
        scale = self.scales[point.tensor, point.precision]
        zero = _zero(point, scale)
        kind = "fp8" if point.precision is Precision.FP8 else str(zero.dtype)
        return (
            self.editor.constant(f"{point.tensor}/scale{suffix}", np.array(scale.scale, np.float32)),
            self.editor.shared_constant(
                ("zero point", kind, scale.zero_point), f"zero_point/{kind}.{scale.zero_point}", zero
            ),
        )


def _code_type(point: ActivationPoint, scale: QuantParams) -> ir.DataType:
    if point.precision is Precision.FP8:
        return ir.DataType.FLOAT8E4M3FN
    return ir.DataType.INT8 if scale.signed else ir.DataType.UINT8


def _zero(point: ActivationPoint, scale: QuantParams) -> Array:
    if point.precision is Precision.FP8:
        return np.zeros((), float_dtype(Precision.FP8))
    return np.array(scale.zero_point, np.int8 if scale.signed else np.uint8)
