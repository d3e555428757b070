"""A torch module as an ONNX model: exported by torch's exporter, in evaluation mode, and checked against the module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
import torch

from autoprec.errors import ModelError
from autoprec.exporting.signature import Signature, parameters_of
from autoprec.exporting.structure import Structure, structure_of, tensor_names
from autoprec.exporting.torch_call import Call, called, evaluating, prepared_call, unwrapped
from autoprec.exporting.torch_culprit import culprit_of, first_line

OPSET = 18
"""The exporter is written for this opset; every runtime reads it, or the model is brought down when it is loaded.
With one opset for all, the model of a run is the same for every runtime."""

_KEPT = "pkg.torch.onnx.name_scopes"
"""The paths of modules. The rest of the exporter's notes are the source code and folders of this machine."""


def is_module(model: object) -> bool:
    """Return whether an object is a torch module."""
    return isinstance(model, torch.nn.Module)


def export_module(module: Any, example: Any, dynamic_shapes: Any = None) -> tuple[ir.Model, Signature]:
    """Export a module as it computes in evaluation mode; afterwards it is as it was.

    Args:
        module: the module, on any one device.
        example: a tuple of the arguments of one call, a mapping of them by name, or the only one. The first axis of
            each tensor is the samples.
        dynamic_shapes: which axes may have any length, as `torch.export.export` takes it; None for the first axis of
            each tensor, and {} for none.

    Raises:
        ModelError: the module cannot be exported, or the exported model computes something else.
        UsageError: the example is not what the module takes.
    """
    module = unwrapped(module)
    call = prepared_call(module, example, enlarge=dynamic_shapes is None)
    with evaluating(module):
        returned = called(module, call)
        classes: dict[str, type] = {}
        inputs = {
            name: structure_of(value, torch.is_tensor, name, classes)
            for name, value in call.arguments.arguments.items()
        }
        outputs = _named_outputs(returned, classes)
        shapes = _batch_axes(call) if dynamic_shapes is None else dynamic_shapes or None
        program = _exported(module, call, shapes)
        signature = Signature(
            name=type(module).__name__,
            parameters=parameters_of(call.parameters),
            inputs=inputs,
            outputs=outputs,
            classes=classes,
        )
        return _tidied(program.model, signature), signature


def _batch_axes(call: Call) -> dict[str, Any]:
    """Return the description of shapes in which the first axis of each tensor may have any length."""
    batch, axis = call.batch, torch.export.Dim("batch")

    def axes(value: Any) -> Any:
        if torch.is_tensor(value):
            return {0: axis} if value.ndim and len(value) == batch else None
        if isinstance(value, Mapping):
            return {key: axes(item) for key, item in value.items()}
        return type(value)(map(axes, value)) if type(value) in (tuple, list) else None

    return {name: axes(value) for name, value in call.arguments.arguments.items()}


def _named_outputs(returned: Any, classes: dict[str, type]) -> Structure:
    """Return the structure of what a module returned: one tensor is "output", those of a tuple have numbers behind."""
    keyed = isinstance(returned, Mapping) or hasattr(returned, "_fields")
    outputs = structure_of(returned, torch.is_tensor, "" if keyed else "output", classes)
    if not tensor_names(outputs):
        raise ModelError(f"the module must return at least one tensor, got {type(returned).__name__}")
    return outputs


def _exported(module: torch.nn.Module, call: Call, shapes: Any) -> Any:
    """Return the exported program; where torch makes an axis fixed that must not be, its other way of tracing is tried.

    Raises:
        ModelError: the module cannot be exported, or only for one length of an axis.
    """
    arguments, named = call.arguments.args, call.arguments.kwargs
    options: dict[str, Any] = {"dynamic_shapes": shapes, "dynamo": True, "opset_version": OPSET, "verbose": False}
    try:
        program = torch.onnx.export(module, arguments, kwargs=named, **options)
        if _is_fixed(program.model, call, shapes):
            traced = torch.export.export(module, arguments, named, dynamic_shapes=shapes, strict=True)
            program = torch.onnx.export(traced, **options)
        if _is_fixed(program.model, call, shapes):
            raise ValueError("an axis that may have any length comes out with that of the example")
        return program
    except Exception as error:  # of many kinds, from torch and from the user's code
        culprit = culprit_of(module, arguments, named)
        name, said = type(module).__name__, first_line(error)
        if culprit is None:
            raise ModelError(
                f"{name} cannot be exported: {said}; each of its modules can by itself, so it is what {name}.forward "
                f"does with them, or an axis that it takes for fixed: give dynamic_shapes={{}} for a fixed batch"
            ) from error
        path, kind, reason = culprit
        raise ModelError(
            f"{name} cannot be exported because of its module {path!r} ({kind}): {reason}; write it with operations "
            f"that torch.onnx.export knows, and without Python branches on values of tensors"
        ) from error


def _is_fixed(model: ir.Model, call: Call, shapes: Any) -> bool:
    """Return whether an axis that should be open has a length in the exported model."""
    if len(model.graph.inputs) != len(call.tensors):
        return False  # said later
    wanted = _open_axes(tuple(call.arguments.arguments.values()), _in_order(call, shapes))
    for value, axes in zip(model.graph.inputs, wanted, strict=True):
        if value.shape is not None and any(isinstance(value.shape[axis], int) for axis in axes):
            return True
    return False


def _in_order(call: Call, shapes: Any) -> Any:
    """Return the descriptions of shapes in the order of the arguments."""
    if isinstance(shapes, Mapping):
        return tuple(shapes.get(name) for name in call.arguments.arguments)
    return shapes


def _open_axes(value: Any, shapes: Any) -> list[list[int]]:
    """Return the axes of each tensor that may have any length."""
    if torch.is_tensor(value):
        axes = dict(enumerate(shapes)) if isinstance(shapes, (tuple, list)) else shapes or {}
        fixed = (int, type(None), type(torch.export.Dim.STATIC))
        moving = (torch.export.Dim.AUTO, torch.export.Dim.DYNAMIC)
        return [[axis for axis, dim in axes.items() if dim in moving or not isinstance(dim, fixed)]]
    if isinstance(value, Mapping):
        shapes = [shapes.get(key) for key in value] if isinstance(shapes, Mapping) else shapes
        value = list(value.values())
    if not isinstance(value, (tuple, list)):
        return []
    inner = shapes if isinstance(shapes, (tuple, list)) and len(shapes) == len(value) else [None] * len(value)
    return [axes for item, shape in zip(value, inner, strict=True) for axes in _open_axes(item, shape)]


def _tidied(model: ir.Model, signature: Signature) -> ir.Model:
    """Name inputs and outputs as the signature does, and leave out notes about the machine that exported it.

    Raises:
        ModelError: the exported model has other inputs or outputs than the module.
    """
    graph = model.graph
    sides = (
        (graph.inputs, signature.input_names, "inputs"),
        (graph.outputs, tensor_names(signature.outputs), "outputs"),
    )
    for values, names, what in sides:
        if len(values) != len(names) or len(set(values)) != len(values):
            raise ModelError(
                f"the exported model must have the {what} {', '.join(names)}, but torch gave it "
                f"{', '.join(str(value.name) for value in values)}; return each tensor once, and none that is an input"
            )
    wanted = [name for _, names, _ in sides for name in names]
    for values, _, _ in sides:
        for number, value in enumerate(values):
            value.name = f"_{wanted[number]}_{number}_of_{len(values)}"  # no name is there twice meanwhile
    for value in [*graph.initializers.values(), *(value for node in graph.all_nodes() for value in node.outputs)]:
        if value.name in wanted:
            value.name = f"{value.name}_inner"
    for value, name in zip((*graph.inputs, *graph.outputs), wanted, strict=True):
        value.name = name
    _forget_notes(model)
    return model


def _forget_notes(model: ir.Model) -> None:
    model.metadata_props.clear()
    model.doc_string = None
    model.producer_name, model.producer_version = "pytorch", None
    parts: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for part in parts:
        part.metadata_props.clear()
        part.doc_string = None
        for node in part.all_nodes():
            node.doc_string = None
            for key in [key for key in node.metadata_props if key != _KEPT]:
                del node.metadata_props[key]
            for value in node.outputs:
                value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
