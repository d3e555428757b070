"""Conv(Concat(a, b), W)  =>  Conv(a, Wa) + Conv(b, Wb), each with a range and weights of its own.

Where the inputs of a Concat differ in range, one 8-bit scale for all of its result leaves few codes for narrow ones. A
matrix product is split in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import Topology, attribute_int, main_domain
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.scaling import input_axis, readers_of
from autoprec.precision import Array

_MOST_PARTS = 4
"""The most products that one becomes: each writes its own result, which the sum reads again."""


@dataclass
class SplitResult(ir.passes.PassResult):
    """The result of the pass.

    Attributes:
        refused: the name of each value whose products were left as they are -> why.
        products: value -> the names of the products that were made of those that read it.
    """

    refused: Mapping[str, str] = field(default_factory=dict)
    products: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class SplitProductsPass(LoweringPass):
    """Split the products that read the result of a Concat along their channels.

    Args:
        editor: the editor of the model.
        values: the names of the results of Concats.

    Requires: FP32 weights. Ensures: equality up to FP32 rounding, as sums are added in another order; the first part
    keeps the name of the product, and the sum the name of its result.
    """

    def __init__(self, editor: GraphEditor, values: Collection[str]) -> None:
        super().__init__(editor)
        self.values = tuple(values)

    def call(self, model: ir.Model) -> SplitResult:
        """Split the products; the model is modified if at least one could be split."""
        topology = Topology(model.graph)
        known = {str(v.name): v for node in topology.nodes for v in node.outputs}
        refused: dict[str, str] = {}
        products: dict[str, tuple[str, ...]] = {}
        for name in self.values:
            reason = why_not_split(topology, known[name]) if name in known else "the model has no such value"
            if reason is not None:
                refused[name] = reason
                continue
            readers = readers_of(topology, known[name])
            made = [self._split(model.graph, node, known[name]) for node in (readers.nodes if readers else ())]
            products[name] = tuple(part for parts in made for part in parts)
            concat = known[name].producer()
            if concat is not None and not known[name].uses() and not topology.escapes(known[name]):
                model.graph.remove(concat, safe=True)
        drop_unused(model.graph)
        return SplitResult(model, len(refused) < len(self.values), refused, products)

    def _split(self, graph: ir.Graph, node: ir.Node, value: ir.Value) -> list[str]:
        """Split one product; returns the names of its parts."""
        concat = value.producer()
        assert concat is not None
        parts: list[ir.Node] = []
        start = 0
        for index, (source, size) in enumerate(zip(concat.inputs, part_sizes(value) or (), strict=True)):
            weight = self._weight(node, slice(start, start + size), index)
            bias = list(node.inputs[2:]) if index == 0 else []
            result = self.editor.value(f"{node.name}/part{index}.out", node.outputs[0])
            parts.append(
                ir.Node(
                    node.domain,
                    node.op_type,
                    [source, weight, *bias],
                    tuple(node.attributes.values()),
                    outputs=[result],
                    name=str(node.name) if index == 0 else self.editor.names.new(f"{node.name}/part{index}"),
                )
            )
            start += size
        sums = self._sum(node, parts)
        graph.insert_after(node, [*parts, *sums])
        self.editor.take_over(node.outputs[0], sums[-1].outputs[0])
        self.editor.became(node, [*parts, *sums])
        graph.remove(node, safe=True)
        return [str(part.name) for part in parts]

    def _sum(self, node: ir.Node, parts: list[ir.Node]) -> list[ir.Node]:
        sums: list[ir.Node] = []
        total = parts[0].outputs[0]
        for index, part in enumerate(parts[1:]):
            result = self.editor.value(f"{node.name}/sum{index}.out", node.outputs[0])
            name = self.editor.names.new(f"{node.name}/sum{index}")
            sums.append(ir.node("Add", [total, part.outputs[0]], outputs=[result], name=name))
            total = result
        return sums

    def _weight(self, node: ir.Node, rows: slice, index: int) -> ir.Value:
        axis, weight = input_axis(node), node.inputs[1]
        assert weight is not None

        def cut(array: Array) -> Array:
            return array[(slice(None),) * (axis % array.ndim) + (rows,)]

        what = ("part", axis, rows.start, rows.stop)
        return self.editor.derived(weight, what, f"{weight.name}/part{index}", cut)


def part_sizes(value: ir.Value) -> tuple[int, ...] | None:
    """Return the channels of each input of the Concat that makes a value, None where they are not known."""
    concat = value.producer()
    if concat is None or not main_domain(concat) or concat.op_type != "Concat" or value.shape is None:
        return None
    axis = attribute_int(concat, "axis", 0) % len(value.shape)
    sizes = [v.shape[axis] if v is not None and v.shape is not None else None for v in concat.inputs]
    found = tuple(size for size in sizes if isinstance(size, int))
    return found if len(found) == len(sizes) else None


def why_not_split(topology: Topology, value: ir.Value) -> str | None:
    """Return why no product that reads a value can be split, or None if they can."""
    readers, sizes = readers_of(topology, value), part_sizes(value)
    concat = value.producer()
    if sizes is None or concat is None:
        return "it is not the result of a Concat whose inputs have known channels"
    if readers is None:
        return "no product reads it by constant weights"
    if value.shape is None or attribute_int(concat, "axis", 0) % len(value.shape) != readers.axis:
        return "the Concat does not join channels"
    if sum(sizes) != readers.channels or not 2 <= len(sizes) <= _MOST_PARTS:
        return f"a product is split into at most {_MOST_PARTS} parts, and at least two"
    if any(node.op_type == "ConvTranspose" or attribute_int(node, "group", 1) != 1 for node in readers.nodes):
        return "a convolution with groups has a scale for each of its channels already"
    return None
