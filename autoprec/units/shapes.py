"""The shapes that values have in a run: what a graph with free dimensions, or with arithmetic on shapes, does not say.

The sizes of the inputs come from a sample. Shape inference follows them as far as it can, and one run of the model
tells the rest: its outputs are the shapes of the values, not the values, so that it takes no more memory than any run.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from autoprec.backends.protocol import Backend
from autoprec.errors import BackendError, UsageError
from autoprec.graph.interface import Interface
from autoprec.graph.model import Model, to_bytes
from autoprec.graph.names import Names
from autoprec.graph.preparation import infer_types
from autoprec.precision import Array
from autoprec.units.records import Partition
from autoprec.units.sizes import sized

Shape = tuple[int, ...]


def shapes_in_run(model: Model, feed: Mapping[str, Array], backend: Backend) -> dict[str, Shape]:
    """Return the shape of each value of the main graph that has a free dimension in the model.

    Args:
        model: the model.
        feed: the inputs of one sample, as the model takes them.
        backend: the runtime that runs the model where inference does not tell all shapes.

    Returns:
        Value name -> shape; values whose shape neither inference nor a run tells are left out.
    """
    work = model.ir.clone()
    free = [str(value.name) for value in _values(work.graph) if not _known(value)]
    if not free:
        return {}
    for value in work.graph.inputs:
        value.shape = ir.Shape(np.shape(feed[str(value.name)]))
    for value in _values(work.graph)[len(work.graph.inputs) :]:
        value.shape = value.shape if _known(value) else None  # what was inferred from free dimensions is told anew
    infer_types(work)
    values = {str(value.name): value for value in _values(work.graph)}
    unknown = [values[name] for name in free if not _known(values[name])]
    inferred = {name: shape for name in free if (shape := _known(values[name])) is not None}
    return {**inferred, **_seen(work, unknown, feed, backend)}


def assumed_feed(interface: Interface, sizes: Mapping[str, Shape] | None = None) -> dict[str, Array]:
    """Return inputs for a run whose shapes are all that matters: zeros, of length 1 where the model says no length.

    Args:
        interface: the interface of the model.
        sizes: the shapes of some inputs.

    Raises:
        UsageError: there is no such input, or it cannot have the shape.
    """
    known = dict(sizes or {})
    specs = {spec.name: spec for spec in interface.inputs}
    for name, shape in known.items():
        dims = specs[name].shape if name in specs else None
        if dims is None:
            raise UsageError(f"a shape must be for an input of the model, {', '.join(specs)}, but is for {name!r}")
        fits = len(dims) == len(shape) and all(d == size for d, size in zip(dims, shape, strict=True) if type(d) is int)
        if not fits:
            raise UsageError(f"the shape of input {name!r} must be like {list(dims)}, but is {list(shape)}")
    shapes = {
        spec.name: known.get(spec.name, tuple(dim if isinstance(dim, int) else 1 for dim in spec.shape))
        for spec in interface.inputs
    }
    return {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in interface.inputs}


def sized_for(partition: Partition, model: Model, sizes: Mapping[str, Shape], backend: Backend) -> Partition:
    """Return the partition with the sizes that it has for these shapes of inputs; without any it stays as it is.

    Args:
        partition: the units of the model.
        model: the model.
        sizes: input name -> shape in a run of one sample.
        backend: the runtime that runs the model where inference does not tell all shapes.
    """
    if not sizes:
        return partition
    return sized(partition, model.graph, shapes_in_run(model, assumed_feed(model.interface, sizes), backend))


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(value for node in graph for value in node.outputs)]


def _known(value: ir.Value) -> Shape | None:
    """Return the shape of a value if all of its dimensions are known."""
    if value.shape is None:
        return None
    dims = [dim for dim in value.shape if isinstance(dim, int) and dim >= 0]
    return tuple(dims) if len(dims) == len(value.shape) else None


def _seen(work: ir.Model, unknown: list[ir.Value], feed: Mapping[str, Array], backend: Backend) -> dict[str, Shape]:
    """Return the shapes of values in one run of a model, which is changed; nothing if it cannot run with this feed."""
    tensors = [value for value in unknown if value.type is None or isinstance(value.type, ir.TensorType)]
    if not tensors:
        return {}
    names, asked = Names(work.graph), {}
    work.graph.outputs.clear()
    for value in tensors:
        node = ir.node("Shape", [value], name=names.new(f"{value.name}/shape"))
        node.outputs[0].name = names.new(f"{value.name}/shape")
        node.outputs[0].dtype = ir.DataType.INT64
        work.graph.append(node)
        work.graph.outputs.append(node.outputs[0])
        asked[str(node.outputs[0].name)] = str(value.name)
    try:
        with backend.build(to_bytes(work), exact=True) as engine:
            found = engine.run(feed)
    except BackendError:  # as where one pixel is too few for the network; then what was inferred is all that is known
        return {}
    return {asked[name]: tuple(map(int, shape)) for name, shape in found.items() if name in asked}
