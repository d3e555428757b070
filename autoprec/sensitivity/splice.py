"""Parts of a graph: a lowered unit with what a change of it reaches, and many of them as branches of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from autoprec.graph.model import to_bytes


@dataclass(frozen=True, slots=True)
class Spliced:
    """A lowered unit with all that its outputs reach, in FP32.

    Attributes:
        graph: its outputs are those outputs of the whole model that the unit reaches.
        feeds: the name of each input -> the FP32 value that it takes.
    """

    graph: ir.Graph
    feeds: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Branched:
    """The FP32 model with branches.

    Attributes:
        model: serialised.
        outputs: for each branch, the model's output -> the name of the branch's own; those that it does not reach
            are missing.
    """

    model: bytes
    outputs: tuple[Mapping[str, str], ...]


def suffix_cut(graph: ir.Graph, changed: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Inputs and outputs of the part of the graph that the changed values reach."""
    reached = set(changed)
    inputs: dict[str, None] = {}
    made: set[str] = set()
    for node in graph:
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


def splice(lowered: ir.Graph, graph: ir.Graph, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Spliced:
    """One unit of a lowered graph in front of what it reaches in the FP32 graph.

    A value that its producer quantises or rounds is taken before that, so that the unit shows the whole error of its
    operands.

    Args:
        lowered: the graph in which the unit is lowered.
        graph: the FP32 graph, in the same opset.
        inputs: of the unit.
        outputs: of the unit.
    """
    head, feeds = _unit_alone(lowered, inputs, outputs)
    around, reached = suffix_cut(graph, outputs)
    finals = [str(v.name) for v in graph.outputs if v.name in outputs or v.name in reached]
    if reached:
        tail = ir.convenience.extract(graph, around, reached)
        feeds |= _append(head, tail)
        made = {str(v.name): v for node in head for v in node.outputs}
        head.outputs.clear()
        head.outputs.extend(made[name] for name in finals)
    return Spliced(head, feeds)


def branched(graph: ir.Graph, parts: Sequence[Spliced]) -> Branched:
    """The FP32 graph with each part as a branch, so that nothing in front of a part is computed for it alone.

    Args:
        graph: the FP32 graph, in the opset of the parts.
        parts: they are used up.
    """
    trunk = graph.clone()
    values = {str(v.name): v for v in trunk.inputs} | {str(v.name): v for node in trunk for v in node.outputs}
    values |= {str(name): v for name, v in trunk.initializers.items()}
    outputs = []
    for number, part in enumerate(parts):
        made = {str(v.name): v for v in part.graph.outputs}
        _add_branch(trunk, values, part, f"branch{number}/")
        outputs.append({name: str(value.name) for name, value in made.items()})
        trunk.outputs.extend(made.values())
    return Branched(to_bytes(ir.Model(trunk, ir_version=10)), tuple(outputs))


def _add_branch(trunk: ir.Graph, values: Mapping[str, ir.Value], part: Spliced, prefix: str) -> None:
    head = part.graph
    head.outputs.clear()
    for value in list(head.inputs):
        head.inputs.remove(value)
        ir.convenience.replace_all_uses_with(value, values[part.feeds[str(value.name)]])
    for name, value in list(head.initializers.items()):
        del head.initializers[name]
        known = values.get(name)
        if known is not None and known.const_value is value.const_value:
            ir.convenience.replace_all_uses_with(value, known)
            continue
        value.name = prefix + name
        trunk.register_initializer(value)
    nodes = list(head)
    head.remove(nodes)
    for node in nodes:
        node.name = f"{prefix}{node.name}"
        for value in node.outputs:
            value.name = f"{prefix}{value.name}" if value.name else value.name
    trunk.extend(nodes)


def _unit_alone(graph: ir.Graph, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> tuple[ir.Graph, dict[str, str]]:
    """The unit, and the name of each input that it uses -> the FP32 value that it takes."""
    names = {str(v.name): v for node in graph for v in node.outputs}
    names |= {str(v.name): v for v in graph.inputs}
    taken = {next(n for n in (f"{name}/raw", f"{name}/exact", name) if n in names): name for name in inputs}
    part = ir.convenience.extract(graph, [names[n] for n in taken], [names[n] for n in outputs])
    part.opset_imports.update(graph.opset_imports)
    used = {str(v.name) for v in part.inputs if v.uses() or v.is_graph_output()}
    return part, {new: name for new, name in taken.items() if new in used}


def _append(head: ir.Graph, tail: ir.Graph) -> dict[str, str]:
    """Move the nodes of `tail` behind those of `head`; the name of each new input -> the FP32 value that it takes."""
    known = {str(v.name): v for v in (*head.inputs, *head.outputs)}
    inner = {str(v.name) for node in head for v in node.outputs}
    added = {}
    for value in list(tail.inputs):
        name = str(value.name)
        tail.inputs.remove(value)
        if name in known:
            ir.convenience.replace_all_uses_with(value, known[name])
            continue
        if name in inner:  # the unit rounds what it takes under this name; behind it the exact value is wanted
            value.name = f"{name}/behind"
        head.inputs.append(value)
        added[str(value.name)] = name
    tail.outputs.clear()
    for name, value in list(tail.initializers.items()):
        del tail.initializers[name]
        if name in head.initializers:  # the unit may have changed its copy
            value.name = f"{name}/behind"
        head.register_initializer(value)
    nodes = list(tail)
    tail.remove(nodes)
    head.extend(nodes)
    return added
