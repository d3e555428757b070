"""Preparation of a graph for tuning: functions inlined, constants as initializers, unique names, inferred types."""

from __future__ import annotations

from collections import Counter

import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from autoprec.graph.dimensions import forget_placeholders
from autoprec.graph.opset.convert import align_functions
from autoprec.graph.topology import all_nodes, main_domain


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

    ONNX's inference stops at an operator that it does not know. Behind it, element types are carried on without
    shapes, as far as the schemas of the operators tell them.
    """
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 17))
    for node in model.graph:
        untyped = bool(node.outputs) and node.outputs[0].dtype is None
        if untyped and (dtype := type_by_schema(node, opset)) is not None:
            node.outputs[0].dtype = dtype


def type_by_schema(node: ir.Node, opset: int) -> ir.DataType | None:
    """Return the type of the first output if the operator's schema ties it to an input of known type, else None."""
    if not main_domain(node) or not onnx.defs.has(node.op_type, max_inclusive_version=opset):
        return None
    schema = onnx.defs.get_schema(node.op_type, opset)
    formal = list(schema.inputs)
    for index, value in enumerate(node.inputs):
        # The last formal input may be variadic; then it stands for all further inputs of the node.
        tied = formal[min(index, len(formal) - 1)].type_str == schema.outputs[0].type_str
        if tied and value is not None and value.dtype is not None:
            return value.dtype
    return None


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
