"""Sizes of units and edges: multiply-accumulates, weights and elements, for the shapes that values have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from autoprec.graph.topology import Topology, attribute_int, elements, is_float, static_shape
from autoprec.units.records import Partition

Shapes = Mapping[str, tuple[int, ...]]
"""Value name -> the shape that it had in a run of one sample, for the values whose shape the graph does not say."""
NO_SHAPES: Shapes = {}


def sized(partition: Partition, graph: ir.Graph, shapes: Shapes) -> Partition:
    """Return the partition with the sizes that it has for these shapes.

    Args:
        partition: the units of the graph.
        graph: the graph.
        shapes: what a run showed, see `autoprec.units.shapes`.
    """
    nodes = {str(node.name): node for node in graph}
    values = {str(value.name): value for value in (*graph.inputs, *(v for node in graph for v in node.outputs))}
    units = tuple(
        replace(unit, macs=sum(node_macs(nodes[name], shapes) for name in unit.nodes)) for unit in partition.units
    )
    edges = tuple(replace(edge, elements=elements_in(values[edge.tensor], shapes)) for edge in partition.edges)
    return replace(partition, units=units, edges=edges, shapes=dict(shapes))


def shapes_of_inputs(partition: Partition, graph: ir.Graph) -> dict[str, tuple[int, ...]]:
    """Return the shape of each input of the graph that a run showed."""
    return {str(v.name): partition.shapes[str(v.name)] for v in graph.inputs if v.name in partition.shapes}


def shapes_of_sizes(partition: Partition, graph: ir.Graph) -> dict[str, tuple[int, ...]]:
    """Return those of the shapes that a run showed from which `sized` computes what it does."""
    values = [v for node in graph if node_macs(node, partition.shapes) for v in (*node.inputs, *node.outputs)]
    names = {str(v.name) for v in (*values, *graph.inputs) if v is not None} | {edge.tensor for edge in partition.edges}
    return {name: shape for name, shape in partition.shapes.items() if name in names}


def elements_in(value: ir.Value | None, shapes: Shapes) -> int:
    """Return the number of elements of a value for one sample, or 0 if its rank is unknown."""
    seen = shapes.get(str(value.name)) if value is not None else None
    return elements(value) if seen is None else math.prod(seen)


def node_macs(node: ir.Node, shapes: Shapes = NO_SHAPES) -> int:
    """Return the number of multiply-accumulates of one node for one sample, or 0 if it is not a sum of products."""
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = _shape(node.inputs[1], shapes)
        # Of Conv [outputs, inputs / groups, kernel ...]; of ConvTranspose [inputs, outputs / groups, kernel ...].
        counted = node.outputs[0] if node.op_type == "Conv" else node.inputs[0]
        return elements_in(counted, shapes) * math.prod(weight[1:]) if weight else 0
    shape = _shape(node.inputs[0], shapes) if node.inputs else None
    if node.op_type in ("Gemm", "MatMul") and shape:
        return elements_in(node.outputs[0], shapes) * shape[0 if attribute_int(node, "transA", 0) else -1]
    if node.op_type in ("LSTM", "GRU", "RNN") and shape:
        steps = shape[0] * shape[1]  # the input is [sequence, batch, features], in either layout of the first two
        return steps * (elements_in(node.inputs[1], shapes) + elements_in(node.inputs[2], shapes))
    return _einsum_macs(node, shapes) if node.op_type == "Einsum" else 0


def _einsum_macs(node: ir.Node, shapes: Shapes) -> int:
    """Return the product of the lengths of all indices: what one loop over all of them would multiply and add."""
    terms = node.attributes["equation"].as_string().replace(" ", "").partition("->")[0].split(",")
    lengths: dict[str | int, int] = {}
    for term, value in zip(terms, node.inputs, strict=False):
        shape, (front, dots, back) = _shape(value, shapes), term.partition("...")
        if shape is None or len(terms) < 2:
            return 0
        hidden = len(shape) - len(front) - len(back) if dots else 0
        indices = [*front, *range(-hidden, 0), *back]  # what the dots stand for is counted from the right
        for index, length in zip(indices, shape, strict=False):
            lengths[index] = max(length, lengths.get(index, 1))  # of two lengths, the 1 is repeated
    return math.prod(lengths.values())


def _shape(value: ir.Value | None, shapes: Shapes) -> tuple[int, ...] | None:
    seen = shapes.get(str(value.name)) if value is not None else None
    return static_shape(value) if seen is None else seen


def weight_elements(topology: Topology, members: list[ir.Node]) -> int:
    """Return the number of elements of the float constants that the nodes read; each constant counts once."""
    values = {v for node in members for v in node.inputs if v is not None and v in topology.constants and is_float(v)}
    return sum(elements(value) for value in values)
