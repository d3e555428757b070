"""Parts of a graph: a lowered unit with what a change of it reaches, and many of them as branches of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from autoprec.graph.model import to_bytes
from autoprec.graph.names import Names
from autoprec.lowering.lowerer import Lowered
from autoprec.units.records import Unit


@dataclass(frozen=True, slots=True)
class Spliced:
    """A lowered unit with all that its outputs reach, in FP32; none of its values is in a graph.

    Attributes:
        nodes: the nodes, those of the unit first. There are none where the unit reaches no output of the model.
        constants: the initializers that they read.
        feeds: each value that they read from outside -> the name of the FP32 value that it is.
        outputs: the name of each output of the model that the unit reaches -> the value that stands for it.
    """

    nodes: Sequence[ir.Node]
    constants: Sequence[ir.Value]
    feeds: Mapping[ir.Value, str]
    outputs: Mapping[str, ir.Value]


@dataclass(frozen=True, slots=True)
class Branched:
    """The FP32 model with branches.

    Attributes:
        model: the model, serialised.
        outputs: for each branch, the model's output -> the name of the branch's own; those that it does not reach
            are missing.
    """

    model: bytes
    outputs: tuple[Mapping[str, str], ...]


def reached_part(graph: ir.Graph, unit: Unit) -> tuple[list[str], list[str]]:
    """Names of the inputs and outputs of the part of the graph that the outputs of a unit reach.

    The unit's own nodes are no part of it, even those that read one of its outputs: the unit computes them.
    """
    reached, own = set(unit.outputs), set(unit.nodes)
    inputs: dict[str, None] = {}
    made: set[str] = set()
    for node in graph:
        if node.name in own:
            continue
        fed = [v for v in _reads(node, graph) if v.const_value is None or v.producer() is not None]
        if any(str(v.name) in reached for v in fed):
            reached.update(str(v.name) for v in node.outputs)
            inputs.update(dict.fromkeys(str(v.name) for v in fed if str(v.name) not in made))
            made.update(str(v.name) for v in node.outputs)
    outputs = [str(v.name) for v in graph.outputs if v.name in made]
    return [name for name in inputs if name not in made], outputs


def _reads(node: ir.Node, graph: ir.Graph) -> list[ir.Value]:
    values = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                values += [v for v in inner.inputs if v is not None and v.graph is graph]
    return [value for value in values if not value.is_initializer()]


def splice(lowered: Lowered, graph: ir.Graph, unit: Unit) -> Spliced:
    """Put one unit of a lowered model in front of what it reaches in the FP32 model.

    A value that its producer quantises or rounds is taken before that, so that the unit shows the whole error of its
    operands.

    Args:
        lowered: a model in which the unit is lowered.
        graph: the FP32 graph, in the same opset.
        unit: the unit.
    """
    around, reached = reached_part(graph, unit)
    finals = [str(v.name) for v in graph.outputs if v.name in unit.outputs or v.name in reached]
    if not finals:
        return Spliced((), (), {}, {})
    head = _head(lowered, unit)
    made = dict(zip(unit.outputs, head.outputs, strict=True))
    feeds = dict(zip(head.inputs, unit.inputs, strict=True))
    parts = [head]
    if reached:
        tail = ir.convenience.extract(graph, around, reached)
        for value, name in zip(list(tail.inputs), around, strict=True):
            if name in made:  # the unit computes it
                tail.inputs.remove(value)
                ir.convenience.replace_all_uses_with(value, made[name])
            else:
                feeds[value] = name
        made.update(zip(reached, tail.outputs, strict=True))
        parts.append(tail)
    return _freed(parts, feeds, {name: made[name] for name in finals})


def _head(lowered: Lowered, unit: Unit) -> ir.Graph:
    """The unit with its own conversion of its operands, which counts as its loss, but with no conversion before that.

    The producer of an operand may round it to a half type before a pair of the unit quantises it. This rounding is part
    of what the producer loses.
    """
    values, own = lowered.record.values, set(unit.nodes)
    taken = [values[name] for name in unit.inputs]
    head = ir.convenience.extract(
        lowered.ir.graph, [value.raw for value in taken], [values[name].final for name in unit.outputs]
    )
    copies = {node.name: node for node in head}
    for pair in lowered.record.pairs:
        if any(reader in own for reader, _ in pair.point.consumers) and pair.quantize.name in copies:
            for value, fed in zip(taken, head.inputs, strict=True):
                if pair.quantize.inputs[0] is value.final:
                    copies[pair.quantize.name].replace_input_with(0, fed)
    for node in reversed(list(head)):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            head.remove(node, safe=True)
    return head


def _freed(parts: Sequence[ir.Graph], feeds: Mapping[ir.Value, str], outputs: Mapping[str, ir.Value]) -> Spliced:
    """Take nodes and values out of the graphs, which are used up."""
    nodes: list[ir.Node] = []
    constants: list[ir.Value] = []
    for part in parts:
        part.outputs.clear()
        for value in list(part.inputs):
            part.inputs.remove(value)
        constants += part.initializers.values()
        part.initializers.clear()
        own = list(part)
        part.remove(own)
        nodes += own
    return Spliced(nodes, constants, feeds, outputs)


def branched(graph: ir.Graph, parts: Sequence[Spliced]) -> Branched:
    """The FP32 graph with each part as a branch, so that nothing in front of a part is computed for it alone.

    Args:
        graph: the FP32 graph, in the opset of the parts.
        parts: they are used up.
    """
    trunk = graph.clone()
    branches = _Branches(trunk)
    outputs = []
    for number, part in enumerate(parts):
        branches.add(part, f"branch{number}")
        outputs.append({name: str(value.name) for name, value in part.outputs.items()})
        trunk.outputs.extend(part.outputs.values())
    return Branched(to_bytes(ir.Model(trunk, ir_version=10)), tuple(outputs))


class _Branches:
    """Adds branches to a trunk, whose weights they share where a unit has not changed them."""

    def __init__(self, trunk: ir.Graph) -> None:
        self._trunk, self._names = trunk, Names(trunk)
        self._values = {str(v.name): v for v in trunk.inputs}
        self._values |= {str(v.name): v for node in trunk for v in node.outputs}
        self._weights = {id(v.const_value): v for v in trunk.initializers.values()}

    def add(self, part: Spliced, prefix: str) -> None:
        for value, name in part.feeds.items():
            ir.convenience.replace_all_uses_with(value, self._values[name])
        for value in part.constants:
            known = self._weights.get(id(value.const_value))  # clones of a graph share its tensors
            if known is not None:
                ir.convenience.replace_all_uses_with(value, known)
                continue
            value.name = self._names.new(f"{prefix}/{value.name}")
            self._trunk.register_initializer(value)
        for node in part.nodes:
            node.name = self._names.new(f"{prefix}/{node.name}")
            for value in node.outputs:
                value.name = self._names.new(f"{prefix}/{value.name}") if value.name else value.name
                if value.shape is not None and not value.shape.is_static():
                    # How many rows Unique keeps differs between branches, so that they cannot share a symbol for it.
                    value.shape = None
        self._trunk.extend(part.nodes)
