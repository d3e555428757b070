"""x -> op  =>  x -> QuantizeLinear -> DequantizeLinear -> op, on the edges that the placement names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import shared_initializer
from autoprec.lowering.placement import ActivationPoint
from autoprec.precision import Array, Precision, float_dtype
from autoprec.ranges.affine import QuantParams


class InsertQDQPass(ir.passes.InPlacePass):
    """Insert one pair for each point; consumers that are not named bypass it.

    Args:
        points: where.
        scales: (value name, precision) -> its affine map; the scale is representable in every type that stores it.

    Requires: every point is a value of the graph, or an input of it, with a positive finite scale.
    Ensures: where a pair sits at the producer, the dequantised value carries the original name.
    """

    def __init__(self, points: Sequence[ActivationPoint], scales: Mapping[tuple[str, Precision], QuantParams]) -> None:
        super().__init__()
        self.points = tuple(points)
        self.scales = scales

    def requires(self, model: ir.Model) -> None:
        """Every point exists and has a usable scale."""
        known = {value.name for value in model.graph.inputs}
        known |= {value.name for node in model.graph for value in node.outputs}
        for point in self.points:
            scale = self.scales.get((point.tensor, point.precision))
            if point.tensor not in known:
                raise ir.passes.PreconditionError(f"there is no value {point.tensor!r}")
            if scale is None or not 0 < scale.scale < np.inf:
                raise ir.passes.PreconditionError(f"the scale of {point.tensor!r} must be positive and finite")

    def ensures(self, model: ir.Model) -> None:
        """Every consumer that a point names reads a DequantizeLinear."""
        nodes = {node.name: node for node in model.graph}
        for name, index in (edge for point in self.points for edge in point.consumers):
            source = nodes[name].inputs[index]
            maker = source.producer() if source is not None else None
            if maker is None or maker.op_type != "DequantizeLinear":
                raise ir.passes.PostconditionError(f"input {index} of {name!r} must read a DequantizeLinear")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Insert; modified where there was a point."""
        graph = model.graph
        values = {value.name: value for value in graph.inputs}
        values |= {value.name: value for node in graph for value in node.outputs}
        nodes = {str(node.name): node for node in graph}
        for point in self.points:
            self._insert(graph, values[point.tensor], point, nodes)
        graph.sort()
        return ir.passes.PassResult(model, bool(self.points))

    def _insert(self, graph: ir.Graph, value: ir.Value, point: ActivationPoint, nodes: Mapping[str, ir.Node]) -> None:
        scale = self.scales[point.tensor, point.precision]
        suffix = "" if point.precision is Precision.INT8 else f".{point.precision}"
        inputs = (
            shared_initializer(graph, f"{point.tensor}/scale{suffix}", np.array(scale.scale, np.float32)),
            shared_initializer(graph, _zero_name(point, scale), _zero(point, scale)),
        )
        name = point.tensor
        codes = ir.Value(name=f"{name}/q{suffix}", type=ir.TensorType(_code_type(point, scale)), shape=value.shape)
        output = ir.Value(name=f"{name}/dq{suffix}", type=value.type, shape=value.shape)
        if point.everywhere:
            ir.convenience.replace_all_uses_with(value, output, replace_graph_outputs=True)
            value.name, output.name = f"{name}/raw", name
        else:
            for node, index in sorted(point.consumers):
                nodes[node].replace_input_with(index, output)
        graph.append(ir.node("QuantizeLinear", [value, *inputs], outputs=[codes], name=f"{name}/quantize{suffix}"))
        graph.append(ir.node("DequantizeLinear", [codes, *inputs], outputs=[output], name=f"{name}/dequantize{suffix}"))


def _code_type(point: ActivationPoint, scale: QuantParams) -> ir.DataType:
    if point.precision is Precision.FP8:
        return ir.DataType.FLOAT8E4M3FN
    return ir.DataType.INT8 if scale.signed else ir.DataType.UINT8


def _zero(point: ActivationPoint, scale: QuantParams) -> Array:
    if point.precision is Precision.FP8:
        return np.zeros((), float_dtype(Precision.FP8))
    return np.array(scale.zero_point, np.int8 if scale.signed else np.uint8)


def _zero_name(point: ActivationPoint, scale: QuantParams) -> str:
    kind = "fp8" if point.precision is Precision.FP8 else ("int8" if scale.signed else "uint8")
    return f"zero_point/{kind}.{scale.zero_point}"
