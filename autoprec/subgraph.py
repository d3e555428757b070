"""Parts of a graph as models: what a change reaches, and one unit alone."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.model import to_bytes


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


def extract_unit(graph: ir.Graph, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> tuple[bytes, dict[str, str]]:
    """One unit of a lowered graph as a model, and the names under which it takes the unit's inputs.

    A value that its producer quantises or rounds is taken before that, so that the unit alone shows the
    whole error of its operands.
    """
    names = {str(v.name): v for node in graph for v in node.outputs}
    names |= {str(v.name): v for v in graph.inputs}
    renamed = {name: next(n for n in (f"{name}/raw", f"{name}/exact", name) if n in names) for name in inputs}
    part = ir.convenience.extract(graph, [names[n] for n in renamed.values()], [names[n] for n in outputs])
    used = {str(v.name) for v in part.inputs if v.uses() or v.is_graph_output()}
    model = ir.Model(part, ir_version=10)
    part.opset_imports.update(graph.opset_imports)
    return to_bytes(model), {name: new for name, new in renamed.items() if new in used}


def suffix_model(graph: ir.Graph, inputs: list[str], outputs: list[str], like: ir.Model) -> bytes:
    """The part of the graph between values, as a model."""
    part = ir.convenience.extract(graph, inputs, outputs)
    part.opset_imports.update(like.opset_imports)
    return to_bytes(ir.Model(part, ir_version=like.ir_version))
