"""x -> op  =>  x -> QuantizeLinear -> DequantizeLinear -> op, on the edges that the placement names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from autoprec.constants import shared_initializer
from autoprec.placement import ActivationPoint
from autoprec.precision import Array, Precision, float_dtype
from autoprec.ranges.affine import QuantParams


class InsertQDQPass(ir.passes.InPlacePass):
    """Insert one pair for each point; consumers that are not named bypass it.

    Args:
        points: where.
        scales: value name -> its affine map; the scale is representable in every type that stores it.

    Ensures: where a pair sits at the producer, the dequantised value carries the original name.
    """

    def __init__(self, points: Sequence[ActivationPoint], scales: Mapping[str, QuantParams]) -> None:
        super().__init__()
        self.points = tuple(points)
        self.scales = scales

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

    def _insert(
        self, graph: ir.Graph, value: ir.Value, point: ActivationPoint, nodes: Mapping[str, ir.Node]
    ) -> None:
        scale = self.scales[point.tensor]
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
