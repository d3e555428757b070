"""The walk over a model that brings it to another opset, one opset at a time."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from autoprec.errors import ModelError
from autoprec.graph.constants import drop_unused
from autoprec.graph.names import Names
from autoprec.graph.onnx_file import as_inputs, is_external
from autoprec.graph.opset.expand import expand
from autoprec.graph.opset.schemas import drop_defaults, schema_at, versions_between, why_unfit
from autoprec.graph.opset.site import NotConvertible, Site
from autoprec.graph.opset.steps_down import STEPS_DOWN
from autoprec.graph.opset.steps_up import STEPS_UP
from autoprec.graph.topology import all_graphs, main_domain

_OLDEST_WITH_STEPS = 7
_IR_VERSIONS = ((7, 3), (8, 3), (9, 4), (10, 5), (11, 6), (14, 7), (17, 8), (20, 9), (22, 10), (23, 11), (24, 12))
"""(opset, the IR version that came with it), from the table of versions of the ONNX project."""


def opset_of(model: ir.Model) -> int:
    """Return the version of the standard operators that the model uses."""
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))


def to_opset(model: ir.Model, target: int) -> ir.Model:
    """Bring `model` to opset `target`, up or down, and return it; it is edited in place where that is possible.

    Values and nodes keep their names. Where one node becomes several, the one that makes its result has its name.

    Raises:
        ModelError: an operator cannot be written in that opset; the message names the node and says why.
    """
    if opset_of(model) < min(_OLDEST_WITH_STEPS, target):
        model = _from_prehistory(model, min(_OLDEST_WITH_STEPS, target))
    start = opset_of(model)
    if start == target:
        return model
    names = Names(model.graph, model.functions.values())
    _walk(model.graph, start, target, names)
    drop_unused(model.graph)
    _set_opset(model.graph.opset_imports, target)
    newest = next((version for opset, version in reversed(_IR_VERSIONS) if opset <= target), 3)
    model.ir_version = max(model.ir_version, min(newest, 10)) if target > start else min(model.ir_version, newest)
    return model


def raised(model: ir.Model, target: int) -> ir.Model:
    """Return a copy of `model` in opset `target`, or the same object if its opset is at least that.

    Raises:
        ModelError: see `to_opset`.
    """
    return model if opset_of(model) >= target else to_opset(model.clone(), target)


def align_functions(model: ir.Model) -> ir.Model:
    """Bring the model and the functions in it to the newest opset among them, so that they can be inlined.

    Raises:
        ModelError: see `to_opset`.
    """
    opsets = [opset_of(model), *(_function_opset(function) for function in model.functions.values())]
    newest = max(opsets)
    if min(opsets) == newest:
        return model
    names = Names(model.graph, model.functions.values())
    for function in model.functions.values():
        _walk(function.graph, _function_opset(function) or newest, newest, names)
        _set_opset(function.opset_imports, newest)
    return to_opset(model, newest)


def _function_opset(function: ir.Function) -> int:
    return function.opset_imports.get("", function.opset_imports.get("ai.onnx", 0))


def _set_opset(imports: dict[str, int], opset: int) -> None:
    imports.pop("ai.onnx", None)
    imports[""] = opset


def _walk(graph: ir.Graph, start: int, target: int, names: Names) -> None:
    """Take all nodes through every opset between, since a node may become others that change later."""
    ops = {node.op_type for each in all_graphs(graph) for node in each if main_domain(node)}
    low, high = min(start, target), max(start, target)
    if not any(versions_between(op, low, high) for op in ops):
        return
    steps = range(start + 1, target + 1) if target > start else range(start, target, -1)
    for opset in steps:
        for each in list(all_graphs(graph)):
            for node in list(each):
                if main_domain(node) and _changes(node.op_type, opset):
                    _convert(Site(node, names), opset, upwards=target > start)


def _changes(op_type: str, opset: int) -> bool:
    try:
        return bool(onnx.defs.get_schema(op_type, opset).since_version == opset)
    except onnx.defs.SchemaError:
        return False


def _convert(site: Site, opset: int, *, upwards: bool) -> None:
    """Take one node over the change of its operator in `opset`."""
    node, key = site.node, (site.node.op_type, opset)
    described = f"node {node.name!r} ({node.op_type})"
    try:
        if upwards:
            if key in STEPS_UP:
                STEPS_UP[key](site)
            _refuse_unfit(site, opset)
        else:
            _downwards(site, opset)
    except NotConvertible as error:
        other = opset if upwards else opset - 1
        raise ModelError(
            f"{described} cannot be written in opset {other}: {error}; export the model at that opset, or without the "
            f"operator"
        ) from error


def _downwards(site: Site, opset: int) -> None:
    node = site.node
    newer, older = schema_at(node.op_type, opset), schema_at(node.op_type, opset - 1)
    if newer is not None and older is not None:
        drop_defaults(node, newer, older)
    if (node.op_type, opset) in STEPS_DOWN:
        STEPS_DOWN[node.op_type, opset](site)
    elif older is None or why_unfit(node, older) is not None:
        _expand_or_say(site, opset)
        return
    _refuse_unfit(site, opset - 1)


def _expand_or_say(site: Site, opset: int) -> None:
    """Write the node in other operators; where that is not possible, say what it is that the older one cannot say."""
    older = schema_at(site.node.op_type, opset - 1)
    try:
        made = expand(site, opset)
    except NotConvertible as error:
        reason = None if older is None else why_unfit(site.node, older)
        raise (error if reason is None else NotConvertible(reason)) from error
    for node in made:  # they are written as in the newer opset
        if _changes(node.op_type, opset):
            _downwards(Site(node, site.names), opset)


def _refuse_unfit(site: Site, opset: int) -> None:
    """Refuse a node that no schema of the opset describes; one that was replaced is not looked at."""
    schema = schema_at(site.node.op_type, opset) if site.node.graph is not None else None
    reason = None if schema is None else why_unfit(site.node, schema)
    if reason is not None:
        raise NotConvertible(reason)


def _from_prehistory(model: ir.Model, target: int) -> ir.Model:
    """Raise a model of before opset 7 by ONNX's own converter."""
    try:
        proto = ir.to_proto(model)  # the converter serialises it, and drops what lies in files
        slim = as_inputs(proto, [tensor for tensor in proto.graph.initializer if is_external(tensor)])
        return _with_weights(ir.from_proto(onnx.version_converter.convert_version(slim, target)), model)
    except Exception as error:  # the converter throws plain RuntimeErrors of its C++ part
        raise ModelError(
            f"the model must be raised from opset {opset_of(model)} to {target}, but the ONNX converter refused: "
            f"{error}; export it at opset 13 or newer"
        ) from error


def _with_weights(converted: ir.Model, model: ir.Model) -> ir.Model:
    """Give a model that was converted without its weights in files these weights back; returns it."""
    inputs = {value.name: value for value in converted.graph.inputs}
    for name, value in model.graph.initializers.items():
        if isinstance(value.const_value, ir.ExternalTensor):
            declared = inputs[name]
            converted.graph.inputs.remove(declared)
            declared.const_value = value.const_value
            converted.graph.register_initializer(declared)
    return converted
