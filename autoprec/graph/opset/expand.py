"""Operators that ONNX defines by other operators, written out in those."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx.inliner
import onnx_ir as ir

from autoprec.graph.opset.site import NotConvertible, Site


def expand(site: Site, opset: int) -> list[ir.Node]:
    """Write a node in the operators by which ONNX defines it in `opset`, and return the new nodes.

    Raises:
        NotConvertible: ONNX does not define it by others, or not for these inputs.
    """
    node = site.node
    try:
        proto = onnx.inliner.inline_selected_functions(
            _alone(node, opset), [("", node.op_type)], inline_schema_functions=True
        )
        body = ir.from_proto(proto).graph
    except Exception as error:  # an older onnx cannot do it; its C++ part raises errors of its own
        raise NotConvertible("it does not exist there, and ONNX could not write it in other operators") from error
    if any(inner.op_type == node.op_type for inner in body):
        raise NotConvertible("it does not exist there, and ONNX does not define it by other operators")
    return _move(site, body)


def _alone(node: ir.Node, opset: int) -> onnx.ModelProto:
    """A model of the node alone; its values are called by their place."""
    inputs = [
        None if v is None else ir.Value(name=f"in{n}", type=v.type, shape=v.shape) for n, v in enumerate(node.inputs)
    ]
    outputs = [ir.Value(name=f"out{n}", type=v.type, shape=v.shape) for n, v in enumerate(node.outputs)]
    if any(v is not None and v.type is None for v in inputs):
        raise NotConvertible("it does not exist there, and the types of its inputs are not known")
    copy = ir.node(node.op_type, inputs, dict(node.attributes), outputs=outputs, name="node")
    used = [made for made, real in zip(outputs, node.outputs, strict=True) if real.uses() or real.is_graph_output()]
    graph = ir.Graph(
        [value for value in inputs if value is not None], used, nodes=[copy], opset_imports={"": opset}, name="alone"
    )
    return ir.to_proto(ir.Model(graph, ir_version=10))


def _move(site: Site, body: ir.Graph) -> list[ir.Node]:
    """Put the nodes of `body` in the place of the node."""
    node, graph = site.node, site.node.graph
    if graph is None:
        raise ValueError("the node must be in a graph")
    outside: Mapping[str, ir.Value | None] = {f"in{n}": value for n, value in enumerate(node.inputs)}
    for value in list(body.inputs):
        real = outside[str(value.name)]
        if real is not None:
            ir.convenience.replace_all_uses_with(value, real)
    results = {str(value.name): value for value in body.outputs}
    body.outputs.clear()
    inner = list(body)
    body.remove(inner)
    for each in inner:
        each.name = site.names.new(f"{node.name or node.op_type}/{each.op_type}")
        each.metadata_props.update(node.metadata_props)
        for value in each.outputs:
            if value.name and str(value.name) not in results:
                value.name = site.names.new(f"{node.name or node.op_type}/{value.name}")
        graph.insert_before(node, each)
    first = node.outputs[0]
    for number, old in enumerate(node.outputs):
        new = results.get(f"out{number}")
        if new is None:
            continue
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        new.type, new.shape = old.type, old.shape
        new.name = old.name
        maker = new.producer()
        if old is first and maker is not None:
            maker.name = node.name
    graph.remove(node, safe=True)
    return inner
