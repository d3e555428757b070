"""Reading an ONNX graph: order, constants, consumers, reachability, op families and fingerprints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
import onnx_ir as ir

from autoprec.files.json import fingerprint
from autoprec.precision import Array

FLOAT_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})

LINEAR_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

RESHAPING_OPS = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Ops whose output holds exactly the values of their first input."""

COPY_OPS = RESHAPING_OPS | {
    "Slice",
    "Split",
    "Gather",
    "GatherND",
    "GatherElements",
    "Expand",
    "Tile",
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
"""Ops that move values without arithmetic: they take the type of what they move."""

POOL_OPS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})

CONTROL_FLOW_OPS = frozenset({"If", "Loop", "Scan", "SequenceMap"})

RANDOM_OPS = frozenset({f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")}) | {
    "Bernoulli",
    "Multinomial",
}


def main_domain(node: ir.Node) -> bool:
    """Whether the node's operator belongs to the standard ONNX domain."""
    return node.domain in ("", "ai.onnx")


def all_nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    """Every node of the graph and of the bodies inside it."""
    return iter(ir.traversal.RecursiveGraphIterator(graph))


def all_graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """The graph and every body inside it."""
    yield graph
    for node in graph:
        for _, body in bodies(node):
            yield from all_graphs(body)


def bodies(node: ir.Node) -> Iterator[tuple[str, ir.Graph]]:
    """The graphs that a control-flow node holds, each with the name of its attribute."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.name, attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from ((f"{attribute.name}{index}", body) for index, body in enumerate(attribute.as_graphs()))


def const_array(value: ir.Value | None) -> Array | None:
    """The array of an initializer, or None for a value known only when the model runs."""
    if value is None or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())


def is_float(value: ir.Value | None) -> bool:
    """Whether the value holds FP32, FP16, BF16 or FP64 numbers."""
    return value is not None and value.dtype in FLOAT_TYPES


def type_by_schema(node: ir.Node, opset: int) -> ir.DataType | None:
    """The type of the first output where the operator's schema ties it to an input of known type."""
    if not main_domain(node) or not onnx.defs.has(node.op_type, max_inclusive_version=opset):
        return None
    schema = onnx.defs.get_schema(node.op_type, opset)
    formal = list(schema.inputs)
    for index, value in enumerate(node.inputs):
        tied = formal[min(index, len(formal) - 1)].type_str == schema.outputs[0].type_str
        if tied and value is not None and value.dtype is not None:
            return value.dtype
    return None


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
            fixed = main_domain(node) and node.op_type not in CONTROL_FLOW_OPS | RANDOM_OPS
            if fixed and (fed or node.op_type == "Constant") and all(value in known for value in fed):
                known.update(node.outputs)
        return frozenset(known)

    @cached_property
    def shape_values(self) -> frozenset[ir.Value]:
        """Values that the shapes of the inputs determine, whatever the inputs hold."""
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
            return False  # a table looked up, a token repeated: weights, wherever the positions come from
        fed = self.dynamic_inputs(node)
        return bool(fed) and all(value in known for value in fed)

    @cached_property
    def flowing_nodes(self) -> int:
        """A bit set of the nodes that compute from what the inputs hold: neither constants nor shapes."""
        idle = self.constants | self.shape_values
        return sum(1 << number for number, node in enumerate(self.nodes) if not idle.issuperset(node.outputs))

    @cached_property
    def captured(self) -> frozenset[ir.Value]:
        """Values of this graph that the body of a control-flow node reads."""
        return frozenset(value for node in self.nodes for value in self.captured_by(node))

    def captured_by(self, node: ir.Node) -> list[ir.Value]:
        """Values of this graph that the bodies of one node read, once for each reading."""
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

    @cached_property
    def successors(self) -> dict[ir.Node, list[ir.Node]]:
        """For each node those that read its results, themselves or in their bodies."""
        found: dict[ir.Node, dict[ir.Node, None]] = {node: {} for node in self.nodes}
        for node in self.nodes:
            for value in self.dependencies(node):
                producer = value.producer()
                if producer in found:
                    found[producer][node] = None
        return {node: list(readers) for node, readers in found.items()}

    def dependencies(self, node: ir.Node) -> list[ir.Value]:
        """Values that the node reads, those read by its bodies included."""
        return [value for value in node.inputs if value is not None] + self.captured_by(node)

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

    def flowing_inputs(self, node: ir.Node) -> list[ir.Value]:
        """Inputs that depend on what the graph's inputs hold, not on their shapes alone."""
        return [value for value in self.dynamic_inputs(node) if value not in self.shape_values]

    def is_convex(self, members: set[ir.Node]) -> bool:
        """Whether no path leaves the set and comes back, so that it can run as one kernel."""
        numbers = sorted(self.index[node] for node in members)
        inside = sum(1 << number for number in numbers)
        outside = 0
        for number in range(numbers[0] + 1, numbers[-1]):
            if self.ancestors[number] & (inside | outside) and not inside >> number & 1:
                outside |= 1 << number
        return all(not self.ancestors[number] & outside for number in numbers)


def graph_fingerprint(graph: ir.Graph) -> str:
    """A fingerprint of operators, attributes, connections, shapes and interface.

    It is blind to the names of nodes, inner values and symbolic dimensions, and to the weights.
    """
    opsets = sorted(f"{domain or 'ai.onnx'}={version}" for domain, version in graph.opset_imports.items())
    interface = [str(value.name) for value in (*graph.inputs, *graph.outputs)]
    return fingerprint([*opsets, *interface, *graph_parts(graph, {})])


def graph_parts(graph: ir.Graph, outer: Mapping[ir.Value, str]) -> Iterator[str]:
    """The graph in words that hold no names but those that `outer` has for values of other graphs."""
    names, depth = dict(outer), len(outer)
    for index, value in enumerate(graph.inputs):
        names[value] = f"input {depth}.{index}:{type_words(value)}"
        yield names[value]
    names.update({value: f"weight {type_words(value)}" for value in graph.initializers.values()})
    for number, node in enumerate(graph):
        inputs = ["-" if value is None else names.get(value, "?") for value in node.inputs]
        yield f"{node.domain}:{node.op_type}({','.join(inputs)}) {attribute_words(node)}"
        names.update({value: f"node {depth}.{number}.{index}" for index, value in enumerate(node.outputs)})
        for attribute, body in bodies(node):
            yield f"{attribute}:"
            yield from graph_parts(body, names)
    yield from (f"-> {names.get(value, '?')}" for value in graph.outputs)


def attribute_words(node: ir.Node) -> list[str]:
    """The attributes of a node in words, sorted; bodies are left out."""
    text = []
    for attribute in sorted(node.attributes.values(), key=lambda attribute: attribute.name):
        if attribute.type == ir.AttributeType.TENSOR:
            text.append(f"{attribute.name}={fingerprint([*_tensor_parts(attribute.as_tensor())])}")
        elif attribute.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            text.append(f"{attribute.name}={attribute.value}")
    return text


def type_words(value: ir.Value) -> str:
    """Element type and shape of a value in words, a question mark for each dimension that is not known."""
    shape = static_shape(value, -1)
    dims = "any" if shape is None else "x".join("?" if dim < 0 else str(dim) for dim in shape)
    return f"{value.dtype}[{dims}]"


def weights_fingerprint(graph: ir.Graph) -> str:
    """A fingerprint of every initializer's type, shape and bytes in the order the graph uses them."""
    seen: dict[ir.Value, None] = {}
    for node in all_nodes(graph):
        seen.update(dict.fromkeys(value for value in node.inputs if value is not None))
    seen.update(dict.fromkeys(value for each in all_graphs(graph) for value in each.outputs))
    return fingerprint(
        part for value in seen if value.const_value is not None for part in _tensor_parts(value.const_value)
    )


def _tensor_parts(tensor: ir.TensorProtocol) -> Iterator[bytes | str]:
    array = np.asarray(tensor.numpy())
    yield f"{tensor.dtype}{array.shape}"
    yield repr(array.tolist()) if array.dtype == object else np.ascontiguousarray(array).tobytes()
