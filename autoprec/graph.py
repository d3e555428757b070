"""Reading an ONNX graph: order, constants, consumers, reachability and op families."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir

from autoprec.precision import Array

FLOAT_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})

LINEAR_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

RESHAPING_OPS = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Ops whose output holds exactly the values of their first input."""

COPY_OPS = RESHAPING_OPS | {
    "Slice", "Split", "Gather", "GatherND", "GatherElements", "Expand", "Tile", "Concat", "Pad",
    "DepthToSpace", "SpaceToDepth", "Where", "ScatterND", "ScatterElements", "Trilu", "ReverseSequence",
    "Compress", "SplitToSequence", "Unique", "TopK",
}  # fmt: skip
"""Ops that move values without arithmetic: they take the type of what they move."""

POOL_OPS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})

CONTROL_FLOW_OPS = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def main_domain(node: ir.Node) -> bool:
    """Whether the node's operator belongs to the standard ONNX domain."""
    return node.domain in ("", "ai.onnx")


def all_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Every node of the graph and of the bodies inside it."""
    return iter(ir.traversal.RecursiveGraphIterator(graph))


def const_array(value: ir.Value | None) -> Array | None:
    """The array of an initializer, or None for a value known only when the model runs."""
    if value is None or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())


def is_float(value: ir.Value | None) -> bool:
    """Whether the value holds FP32, FP16, BF16 or FP64 numbers."""
    return value is not None and value.dtype in FLOAT_TYPES


def attribute_int(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute, or its default."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def attribute_ints(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """A tuple-of-integers attribute, or None where absent."""
    attribute = node.attributes.get(name)
    return None if attribute is None else tuple(attribute.as_ints())


def static_shape(value: ir.Value | None, unknown: int = 1) -> tuple[int, ...] | None:
    """The shape with dimensions that are not known counted as `unknown`; None where even the rank is not known."""
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) and dim >= 0 else unknown for dim in value.shape)


def elements(value: ir.Value | None) -> int:
    """Elements of a value for one sample: dimensions that are not known count once."""
    shape = static_shape(value)
    return int(np.prod(shape, dtype=np.int64)) if shape is not None else 0


@dataclass
class Topology:
    """An index of one graph: nodes in topological order, what is constant, who can reach whom."""

    graph: ir.Graph
    nodes: list[ir.Node] = field(init=False)
    index: dict[ir.Node, int] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the nodes; ONNX demands this order, exporters do not always keep it."""
        self.graph.sort()
        self.nodes = list(self.graph)
        self.index = {node: number for number, node in enumerate(self.nodes)}

    @cached_property
    def outputs(self) -> frozenset[ir.Value]:
        """Values that leave the graph."""
        return frozenset(self.graph.outputs)

    @cached_property
    def constants(self) -> frozenset[ir.Value]:
        """Values that no input can change: initializers and what is computed from them alone."""
        known = set(self.graph.initializers.values())
        for node in self.nodes:
            fed = [value for value in node.inputs if value is not None]
            if fed and all(value in known for value in fed) and not node.op_type.startswith("Random"):
                if node.op_type not in CONTROL_FLOW_OPS:
                    known.update(node.outputs)
        return frozenset(known)

    @cached_property
    def captured(self) -> frozenset[ir.Value]:
        """Values of this graph that the body of a control-flow node reads."""
        own = set(self.nodes)
        inner = (node for node in all_nodes(self.graph) if node not in own)
        return frozenset(v for node in inner for v in node.inputs if v is not None and v.graph is self.graph)

    @cached_property
    def ancestors(self) -> list[int]:
        """For each node a bit set of the nodes that it depends on."""
        sets: list[int] = []
        for node in self.nodes:
            bits = 0
            for value in self.dependencies(node):
                producer = value.producer()
                if producer is not None and producer in self.index:
                    number = self.index[producer]
                    bits |= sets[number] | (1 << number)
            sets.append(bits)
        return sets

    def dependencies(self, node: ir.Node) -> list[ir.Value]:
        """Values that the node reads, those read by its bodies included."""
        values = [value for value in node.inputs if value is not None]
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH:
                for inner in all_nodes(attribute.as_graph()):
                    values += [v for v in inner.inputs if v is not None and v.graph is self.graph]
        return values

    def consumers(self, value: ir.Value) -> list[ir.Node]:
        """Nodes of this graph that read the value, each once, in topological order."""
        found = {node for node in value.consumers() if node in self.index}
        return sorted(found, key=self.index.__getitem__)

    def escapes(self, value: ir.Value) -> bool:
        """Whether the value is a graph output or read by a body, so that no fusion may swallow it."""
        return value in self.outputs or value in self.captured

    def dynamic_inputs(self, node: ir.Node) -> list[ir.Value]:
        """Inputs that are not constant."""
        return [value for value in node.inputs if value is not None and value not in self.constants]

    def is_convex(self, members: set[ir.Node]) -> bool:
        """Whether no path leaves the set and comes back, so that it can run as one kernel."""
        inside = sum(1 << self.index[node] for node in members)
        last = max(self.index[node] for node in members)
        between = [n for n in self.nodes[:last] if n not in members and self.ancestors[self.index[n]] & inside]
        outside = sum(1 << self.index[node] for node in between)
        return all(not self.ancestors[self.index[node]] & outside for node in members)
