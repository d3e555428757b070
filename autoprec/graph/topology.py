"""Reading of an ONNX graph: families of operators, properties of values, and how nodes depend on each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir

from autoprec.precision import Array

FLOAT_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
"""The element types of ordinary floating-point values."""

LINEAR_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that are linear in the weights: sums of products."""

RESHAPING_OPS = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""The operators whose output holds exactly the values of their first input."""

SELECTING_OPS = frozenset({"Slice", "Split", "Gather", "GatherND", "GatherElements", "Expand", "Tile"})
"""The operators whose output holds some of the values of their first input, or several copies of them."""

COPY_OPS = (
    RESHAPING_OPS
    | SELECTING_OPS
    | {
        "Concat",
        "Pad",
        "DepthToSpace",
        "SpaceToDepth",
        "Where",
        "ScatterND",
        "ScatterElements",
        "Trilu",
        "ReverseSequence",
        "Compress",
        "SplitToSequence",
        "Unique",
        "TopK",
    }
)
"""The operators that move values without arithmetic. They have no precision of their own: it is that of the values."""

POOL_OPS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
"""The pooling operators."""

CONTROL_FLOW_OPS = frozenset({"If", "Loop", "Scan", "SequenceMap"})
"""The operators that hold graphs of their own, called bodies."""

RANDOM_OPS = frozenset({f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")}) | {
    "Bernoulli",
    "Multinomial",
}
"""The operators whose outputs differ from run to run."""


def main_domain(node: ir.Node) -> bool:
    """Return whether the operator of the node belongs to the standard ONNX domain."""
    return node.domain in ("", "ai.onnx")


def all_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Iterate over every node of the graph and of the bodies inside it."""
    return iter(ir.traversal.RecursiveGraphIterator(graph))


def all_graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """Yield the graph and every body inside it."""
    yield graph
    for node in graph:
        for _, body in bodies(node):
            yield from all_graphs(body)


def bodies(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    """Yield the graphs that a control-flow node holds, each with the name of its attribute."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.name, attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from ((f"{attribute.name}{index}", body) for index, body in enumerate(attribute.as_graphs()))


def const_array(value: ir.Value | None) -> Array | None:
    """Return the array of an initializer, or None for a value that is known only when the model runs."""
    if value is None or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())


def is_float(value: ir.Value | None) -> bool:
    """Return whether the value holds FP32, FP16, BF16 or FP64 numbers."""
    return value is not None and value.dtype in FLOAT_TYPES


def attribute_int(node: ir.Node, name: str, default: int) -> int:
    """Return an integer attribute, or its default if the node does not have it."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def attribute_ints(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """Return a list-of-integers attribute as a tuple, or None if the node does not have it."""
    attribute = node.attributes.get(name)
    return None if attribute is None else tuple(attribute.as_ints())


def static_shape(value: ir.Value | None, unknown: int = 1) -> tuple[int, ...] | None:
    """Return the shape with `unknown` for each unknown dimension, or None if even the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) and dim >= 0 else unknown for dim in value.shape)


def elements(value: ir.Value | None) -> int:
    """Return the number of elements of a value for one sample, or 0 if its rank is unknown.

    Unknown dimensions count as 1: usually the only one is the number of samples.
    """
    shape = static_shape(value)
    return int(np.prod(shape, dtype=np.int64)) if shape is not None else 0


@dataclass
class Topology:
    """An index of one graph: its order, its constants, and which nodes depend on which.

    Sets of nodes are integers in which bit `i` stands for `nodes[i]`. Union and intersection of such sets are fast,
    and a graph of a thousand nodes needs only 125 bytes for each.

    Attributes:
        graph: the graph, whose nodes are sorted when the index is made.
        nodes: the nodes in topological order.
        index: node -> its index in `nodes`.
    """

    graph: ir.Graph
    nodes: list[ir.Node] = field(init=False)
    index: dict[ir.Node, int] = field(init=False)

    def __post_init__(self) -> None:
        self.graph.sort()  # the ONNX specification demands a topological order, but not all exporters keep it
        self.nodes = list(self.graph)
        self.index = {node: number for number, node in enumerate(self.nodes)}

    @cached_property
    def outputs(self) -> frozenset[ir.Value]:
        """The values that leave the graph."""
        return frozenset(self.graph.outputs)

    @cached_property
    def constants(self) -> frozenset[ir.Value]:
        """The values that do not depend on any input: initializers and what is computed from them alone."""
        known = set(self.graph.initializers.values())
        for node in self.nodes:
            fed = [value for value in node.inputs if value is not None]
            fixed = main_domain(node) and node.op_type not in CONTROL_FLOW_OPS | RANDOM_OPS
            if fixed and (fed or node.op_type == "Constant") and all(value in known for value in fed):
                known.update(node.outputs)
        return frozenset(known)

    @cached_property
    def shape_values(self) -> frozenset[ir.Value]:
        """The values that depend on the shapes of the inputs, but not on what the inputs hold."""
        known: set[ir.Value] = set()
        for node in self.nodes:
            if main_domain(node) and (node.op_type in ("Shape", "Size") or self._is_shape_arithmetic(node, known)):
                known.update(node.outputs)
        return frozenset(known)

    def _is_shape_arithmetic(self, node: ir.Node, known: set[ir.Value]) -> bool:
        if node.op_type in CONTROL_FLOW_OPS | RANDOM_OPS | LINEAR_OPS:
            return False
        source = node.inputs[0] if node.inputs else None
        if node.op_type in COPY_OPS - {"Concat", "Where"} and source in self.constants and is_float(source):
            # A table of embeddings or a repeated token: weights, even if the positions come from shapes.
            return False
        fed = self.dynamic_inputs(node)
        return bool(fed) and all(value in known for value in fed)

    @cached_property
    def flowing_nodes(self) -> int:
        """The set of the nodes that compute with what the inputs hold, not just with constants or shapes."""
        idle = self.constants | self.shape_values
        return sum(1 << number for number, node in enumerate(self.nodes) if not idle.issuperset(node.outputs))

    @cached_property
    def captured(self) -> frozenset[ir.Value]:
        """The values of this graph that the body of some control-flow node reads."""
        return frozenset(value for node in self.nodes for value in self.captured_by(node))

    def captured_by(self, node: ir.Node) -> list[ir.Value]:
        """Return the values of this graph that the bodies of one node read, once for each time they are read."""
        values: list[ir.Value | None] = []
        for _, body in bodies(node):
            values += [value for inner in all_nodes(body) for value in inner.inputs]
            values += [value for graph in all_graphs(body) for value in graph.outputs]
        return [value for value in values if value is not None and self._owns(value)]

    def _owns(self, value: ir.Value) -> bool:
        producer = value.producer()
        return producer in self.index if producer is not None else value.graph is self.graph

    @cached_property
    def ancestors(self) -> list[int]:
        """For each node the set of the nodes that it depends on."""
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

    @cached_property
    def successors(self) -> dict[ir.Node, list[ir.Node]]:
        """For each node the nodes that read its results, either themselves or in their bodies."""
        readers: dict[ir.Node, dict[ir.Node, None]] = {node: {} for node in self.nodes}  # a dict keeps the order
        for node in self.nodes:
            for value in self.dependencies(node):
                producer = value.producer()
                if producer in readers:
                    readers[producer][node] = None
        return {node: list(after) for node, after in readers.items()}

    def dependencies(self, node: ir.Node) -> list[ir.Value]:
        """Return the values that the node reads, including those that its bodies read."""
        return [value for value in node.inputs if value is not None] + self.captured_by(node)

    def consumers(self, value: ir.Value) -> list[ir.Node]:
        """Return the nodes of this graph that read the value, each once, in topological order."""
        readers = {node for node in value.consumers() if node in self.index}
        return sorted(readers, key=self.index.__getitem__)

    def escapes(self, value: ir.Value) -> bool:
        """Return whether the value is an output of the graph or is read by a body, so that it must be computed."""
        return value in self.outputs or value in self.captured

    def dynamic_inputs(self, node: ir.Node) -> list[ir.Value]:
        """Return the inputs of the node that are not constant."""
        return [value for value in node.inputs if value is not None and value not in self.constants]

    def flowing_inputs(self, node: ir.Node) -> list[ir.Value]:
        """Return the inputs of the node that depend on what the graph's inputs hold, not just on their shapes."""
        return [value for value in self.dynamic_inputs(node) if value not in self.shape_values]

    def is_convex(self, members: set[ir.Node]) -> bool:
        """Return whether no path leaves the set and comes back, so that the set can run as one kernel."""
        numbers = sorted(self.index[node] for node in members)
        inside = sum(1 << number for number in numbers)
        outside = 0  # the nodes between the members that depend on one of them
        for number in range(numbers[0] + 1, numbers[-1]):
            if self.ancestors[number] & (inside | outside) and not inside >> number & 1:
                outside |= 1 << number
        return all(not self.ancestors[number] & outside for number in numbers)
