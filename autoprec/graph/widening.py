"""Models in half precision or FP64, written in FP32 for all that measures and rewrites, with a note of what nodes had.

Everything between loading and lowering computes with FP32 values. Lowering gives each node its own type back, or the
one that the plan asks for. Every FP16 and BF16 number is an FP32 number, and FP64 weights are kept beside their FP32
copies, so that no bit of a weight is lost on the way.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from autoprec.graph.names import Names
from autoprec.graph.topology import CONTROL_FLOW_OPS, RANDOM_OPS, all_nodes, bodies, main_domain
from autoprec.precision import Precision

HALVES = {ir.DataType.FLOAT16: Precision.FP16, ir.DataType.BFLOAT16: Precision.BF16}
"""The element types of half precision."""

_DOUBLE = {ir.DataType.DOUBLE: Precision.FP64}
_GIVEN = {**HALVES, **_DOUBLE}
_SOURCE = "autoprec.source"
_EXACT = "autoprec.exact"
_BRIDGE = "autoprec.bridge"
_PAIR = "autoprec.pair"
# Their type is an attribute's, or that of a scale, so that they cannot be told apart from FP32 by their inputs.
_TYPED = (
    RANDOM_OPS
    | CONTROL_FLOW_OPS
    | {
        "BlackmanWindow",
        "CastLike",
        "ConstantOfShape",
        "DequantizeLinear",
        "EyeLike",
        "HammingWindow",
        "HannWindow",
        "MelWeightMatrix",
        "QuantizeLinear",
    }
)


def source_of(node: ir.Node) -> Precision:
    """Return the float type that a node computes in, as the model was given."""
    found = node.meta.get(_SOURCE)
    return found if isinstance(found, Precision) else Precision.FP32


def sources_of(graph: ir.Graph) -> dict[str, Precision]:
    """Return node name -> its half precision, for each node that had one in the model as it was given."""
    return {str(node.name): source_of(node) for node in graph if source_of(node) is not Precision.FP32}


def is_given_pair(node: ir.Node) -> bool:
    """Return whether the node is a QuantizeLinear or DequantizeLinear of the model as it was given."""
    return bool(node.meta.get(_PAIR))


def given_type(value: ir.Value) -> Precision | None:
    """Return the type of a constant of the model as it was given, or None if that is FP32 or no float type."""
    found = value.meta.get(_SOURCE)
    return found if isinstance(found, Precision) else None


def exact_weight(value: ir.Value) -> ir.TensorProtocol | None:
    """Return the FP64 numbers of a constant whose value is their FP32 copy, or None if it is no such copy."""
    found: ir.TensorProtocol | None = value.meta.get(_EXACT)
    return found


def before_bridge(value: ir.Value | None) -> ir.Value | None:
    """Return the half-precision value of which `widen` made this FP32 value by a Cast, else None."""
    maker = None if value is None else value.producer()
    return maker.inputs[0] if maker is not None and maker.meta.get(_BRIDGE) else None


def drop_bridges(graph: ir.Graph) -> None:
    """Remove the Casts that `widen` has added, where nothing reads them or they convert to the type that is there."""
    for node in [node for node in graph if node.meta.get(_BRIDGE)]:
        source, output = node.inputs[0], node.outputs[0]
        returned = output.is_graph_output()
        same = source is not None and source.dtype is output.dtype and not source.is_graph_input()
        if source is not None and same and not (returned and source.is_graph_output()):
            ir.convenience.replace_all_uses_with(output, source, replace_graph_outputs=True)
            if returned:
                source.name, output.name = output.name, source.name
        if not output.uses() and not output.is_graph_output():
            graph.remove(node, safe=True)


def widen(model: ir.Model) -> None:
    """Write the half-precision values of the main graph as FP32, in place, and note what each node had.

    A graph that computes in FP64 alone is written so too. Where FP64 stands beside other types it stays as it is, since
    somebody wanted these digits there.

    Inputs and outputs of the model keep their types behind Casts. So do nodes of which it is not known what else they
    take, and the bodies of control flow. The Q/DQ pairs that the model has already are noted too.
    """
    graph = model.graph
    for node in graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.meta[_PAIR] = True
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    wanted = _DOUBLE if _is_double(graph) else HALVES
    halves = {value: value.dtype for value in values if value.dtype in wanted}
    if halves:
        _Widening(graph, halves, Names(graph, model.functions.values())).run()
        graph.sort()


class _Widening:
    """One graph that is widened.

    Args:
        graph: the graph.
        halves: the values in half precision, and their types.
        names: gives new names.
    """

    def __init__(self, graph: ir.Graph, halves: Mapping[ir.Value, ir.DataType | None], names: Names) -> None:
        self._graph, self._halves, self._names = graph, halves, names
        self._closed = {node for node in graph if _keeps_its_types(node)}
        inside = [inner for node in graph for _, body in bodies(node) for inner in all_nodes(body)]
        self._closed.update(inside)
        self._returned = [output for node in graph for _, body in bodies(node) for output in body.outputs]

    def run(self) -> None:
        """Widen the graph."""
        for node in self._graph:
            kinds = [_GIVEN[dtype] for value in (*node.outputs, *node.inputs) if (dtype := self._half(value))]
            if node.op_type in ("Shape", "Size"):
                continue  # they take a value in whatever type it is
            if kinds and node not in self._closed and (self._half(node.outputs[0]) or not _gives_floats(node)):
                node.meta[_SOURCE] = kinds[0]
        for value, dtype in self._halves.items():
            producer = value.producer()
            if dtype is None:
                continue
            if value.is_initializer() or (producer is not None and producer not in self._closed):
                self._widen(value, dtype)
            else:
                self._read_wide(value)

    def _half(self, value: ir.Value | None) -> ir.DataType | None:
        return None if value is None else self._halves.get(value)

    def _widen(self, value: ir.Value, dtype: ir.DataType) -> None:
        """Let the value itself be FP32, and a Cast of it be what the closed nodes and the user read."""
        value.type = ir.TensorType(ir.DataType.FLOAT)
        producer = value.producer()
        if value.const_value is not None:
            value.meta[_SOURCE] = _GIVEN[dtype]
            if dtype in _DOUBLE:
                value.meta[_EXACT] = value.const_value
            value.const_value = _widened(value.const_value)
        elif producer is not None and producer.op_type == "Cast":
            producer.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
        readers = [(node, index) for node, index in value.uses() if node in self._closed]
        if not readers and not value.is_graph_output() and value not in self._returned:
            return
        narrow = self._bridge(value, dtype, "narrow")
        for node, index in readers:
            node.replace_input_with(index, narrow)
        for outputs in (self._graph.outputs, *(body.outputs for node in self._graph for _, body in bodies(node))):
            for index, output in enumerate(list(outputs)):
                if output is value:
                    outputs[index] = narrow
        if narrow.is_graph_output():  # the user knows the output by its name
            narrow.name, value.name = value.name, self._names.new(f"{value.name}/wide")

    def _read_wide(self, value: ir.Value) -> None:
        """Let the value be what it is, and a Cast of it be what all but the closed nodes read."""
        readers = [(node, index) for node, index in value.uses() if node not in self._closed]
        if readers:
            wide = self._bridge(value, ir.DataType.FLOAT, "wide")
            for node, index in readers:
                node.replace_input_with(index, wide)

    def _bridge(self, value: ir.Value, dtype: ir.DataType, word: str) -> ir.Value:
        name = self._names.new(f"{value.name}/{word}")
        output = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
        cast = ir.node("Cast", [value], {"to": int(dtype)}, outputs=[output], name=self._names.new(f"{name}_cast"))
        cast.meta[_BRIDGE] = True
        self._graph.append(cast)
        return output


def _is_double(graph: ir.Graph) -> bool:
    """Return whether all floats that the graph takes and makes are FP64; constants of other types may set sizes."""
    made = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    types = {value.dtype for value in made if value.dtype in {ir.DataType.FLOAT, *_GIVEN}}
    return types == {ir.DataType.DOUBLE}


def _gives_floats(node: ir.Node) -> bool:
    return any(value.dtype in {ir.DataType.FLOAT, ir.DataType.DOUBLE, *HALVES} for value in node.outputs)


def _keeps_its_types(node: ir.Node) -> bool:
    """Return whether the types of the node's values are left as they are."""
    odd = any(v is not None and v.type is not None and not isinstance(v.type, ir.TensorType) for v in node.inputs)
    odd = odd or any(v.type is not None and not isinstance(v.type, ir.TensorType) for v in node.outputs)
    return odd or not main_domain(node) or node.op_type in _TYPED


def _widened(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Return the numbers of a tensor as FP32; they are converted when they are read, and not kept twice."""
    return ir.LazyTensor(
        lambda: ir.tensor(np.asarray(tensor.numpy()).astype(np.float32)),
        ir.DataType.FLOAT,
        ir.Shape(tuple(tensor.shape.numpy())),
        cache=False,
        name=tensor.name,
    )
