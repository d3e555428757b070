"""Preparation of a graph for tuning: functions inlined, constants as initializers, unique names, inferred types."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir
from onnx_ir.passes import common as passes

from autoprec.graph.dimensions import forget_placeholders
from autoprec.graph.opset.convert import align_functions
from autoprec.graph.schemas import complete_types, restore_containers
from autoprec.graph.topology import all_nodes


def prepare(model: ir.Model) -> ir.Model:
    """Prepare `model` in place, and return it.

    Functions are inlined, constants become initializers, every node gets a unique name, the nodes are sorted, and
    types and shapes are inferred.
    """
    if model.functions:
        passes.InlinePass()(align_functions(model))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveInitializersFromInputsPass()(model)
    model.ir_version = max(model.ir_version, 4)  # before version 4 every initializer had to be an input too
    model.graph.sort()
    forget_placeholders(model)
    _name_nodes(model.graph)
    infer_types(model)
    return model


def infer_types(model: ir.Model) -> None:
    """Infer types and shapes of every value; a graph that inference cannot follow keeps those it has.

    ONNX's inference stops at an operator that it does not know. Behind it, types are carried on without shapes, as far
    as the schemas of the operators tell them.
    """
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    restore_containers(model.graph, model.opset_imports)
    complete_types(model.graph, model.opset_imports)


def _name_nodes(graph: ir.Graph) -> None:
    """Give every node a unique name; names that are unique already stay, since users write pins for them."""
    nodes = list(all_nodes(graph))
    given = Counter(node.name for node in nodes)
    taken = {name for name, count in given.items() if name and count == 1}
    for number, node in enumerate(nodes):
        if node.name in taken and given[node.name] == 1:
            continue
        name = node.name or (node.outputs[0].name if node.outputs else "") or f"{node.op_type}_{number}"
        unique, count = name, 1
        while unique in taken:
            unique, count = f"{name}#{count}", count + 1
        node.name = unique
        taken.add(unique)
