"""y = op(x)  =>  y = Cast_fp32(Cast_half(op(x))): half precision by rounding, where a CPU has no kernel for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import add_initializer, drop_unused
from autoprec.graph.topology import const_array
from autoprec.lowering.passes.assign_types import DATA_TYPES, OPSET_BF16, free_slots, opset_of, require_floats
from autoprec.precision import Precision, cast_clamped


class SimulateTypesPass(ir.passes.InPlacePass):
    """Round what half-precision nodes read and make, and leave the arithmetic in FP32.

    A real half kernel also accumulates in FP32, so rounding its operands and its result is what it does.

    Args:
        node_types: node name -> the type that the node would compute in.

    Requires: FP32 values throughout. Ensures: the rounded value carries the original name.
    """

    def __init__(self, node_types: Mapping[str, Precision]) -> None:
        super().__init__()
        self.half = {name: p for name, p in node_types.items() if p in (Precision.FP16, Precision.BF16)}

    def requires(self, model: ir.Model) -> None:
        """No value that a listed node makes is in half precision already."""
        require_floats(model, self.half)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Round; modified where there is a node in half precision."""
        graph = model.graph
        opset = max(opset_of(model), OPSET_BF16)  # the real model would be raised to it
        self._rounded: dict[tuple[ir.Value, Precision], ir.Value] = {}
        for node in list(graph):
            precision = self.half.get(str(node.name))
            if precision is not None:
                inputs, outputs = free_slots(node, opset, precision)
                self._inputs(graph, node, precision, inputs)
                self._outputs(graph, node, precision, outputs)
        graph.sort()
        drop_unused(graph)
        return ir.passes.PassResult(model, bool(self.half))

    def _inputs(self, graph: ir.Graph, node: ir.Node, precision: Precision, free: set[int]) -> None:
        for index, value in enumerate(node.inputs):
            if index not in free or value is None or value.dtype is not ir.DataType.FLOAT:
                continue
            producer = value.producer()
            if producer is not None and self.half.get(_origin(producer)) is precision:
                continue  # already rounded where it was made
            key = (value, precision)
            if key not in self._rounded:
                self._rounded[key] = self._round(graph, value, precision)
            node.replace_input_with(index, self._rounded[key])

    def _round(self, graph: ir.Graph, value: ir.Value, precision: Precision) -> ir.Value:
        array = const_array(value)
        if array is not None and value.is_initializer():
            rounded = cast_clamped(array, precision).astype(np.float32)
            return add_initializer(graph, f"{value.name}/as_{precision}", rounded)
        return _round_trip(graph, value, precision, f"{value.name}/as_{precision}", f"{value.name}/in_{precision}")

    def _outputs(self, graph: ir.Graph, node: ir.Node, precision: Precision, free: set[int]) -> None:
        for index, value in enumerate(list(node.outputs)):
            if (
                index not in free
                or value.dtype is not ir.DataType.FLOAT
                or not (value.uses() or value.is_graph_output())
            ):
                continue
            name = str(value.name)
            value.name = f"{name}/exact"
            rounded = ir.Value(name=name, type=value.type, shape=value.shape)
            ir.convenience.replace_all_uses_with(value, rounded, replace_graph_outputs=True)
            _round_trip(graph, value, precision, name, f"{node.name}/round_{precision}", rounded)


def _origin(node: ir.Node) -> str:
    """The node that a rounding Cast belongs to."""
    name = str(node.name)
    return name.split("/round_")[0] if "/round_" in name else name


def _round_trip(
    graph: ir.Graph, value: ir.Value, precision: Precision, name: str, node_name: str, final: ir.Value | None = None
) -> ir.Value:
    small = ir.Value(name=f"{name}/{precision}", type=ir.TensorType(DATA_TYPES[precision]), shape=value.shape)
    output = final or ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=value.shape)
    down = ir.node("Cast", [value], {"to": int(DATA_TYPES[precision])}, outputs=[small], name=f"{node_name}.down")
    up = ir.node("Cast", [small], {"to": int(ir.DataType.FLOAT)}, outputs=[output], name=node_name)
    graph.append(down)
    graph.append(up)
    return output
