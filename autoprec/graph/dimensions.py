"""What the dimensions of inputs and outputs mean: unknown lengths, and the axis that holds the samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from autoprec.graph.topology import Topology, all_graphs

_UNKNOWN = frozenset({"", "?", "*", "-", "none", "null", "unknown", "dynamic", "any"})
"""What exporters write for a length that is not known, in small letters: such a text is no name that two axes share."""


def forget_placeholders(model: ir.Model) -> None:
    """Make every dimension unknown that is a negative number, or a text that names nothing, such as "?" or "-1"."""
    for graph in all_graphs(model.graph):
        values = [*graph.inputs, *graph.outputs, *(value for node in graph for value in node.outputs)]
        for value in values:
            if value.shape is not None and any(map(_is_placeholder, value.shape)):
                value.shape = ir.Shape([None if _is_placeholder(dim) else dim for dim in value.shape])


def _is_placeholder(dim: int | ir.SymbolicDim) -> bool:
    if isinstance(dim, int):
        return dim < 0
    text = dim.value
    return text is not None and (text.strip().lower() in _UNKNOWN or text.strip().lstrip("+-").isdigit())


def dimensions(value: ir.Value) -> tuple[int | str | None, ...]:
    """Return each dimension as a length, a name, or None if nothing is known."""
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape or ())


def sample_axes(graph: ir.Graph) -> dict[ir.Value, int | None]:
    """Return the axis of each input and output of the graph that holds the samples.

    It is the axis whose name all inputs share, if there is one, else the first. None stands for an input that holds no
    axis for samples, and for an output that depends on no input.
    """
    name, topology = _name_of_samples(graph), Topology(graph)
    lengths = {dims[0] for value in graph.inputs if (dims := dimensions(value)) and isinstance(dims[0], int)}
    fixed = None if len(lengths) < 2 or name is not None else 1 if 1 in lengths else _first_length(graph)
    axes: dict[ir.Value, int | None] = {}
    for value in graph.inputs:
        dims = dimensions(value)
        other = fixed is not None and bool(dims) and isinstance(dims[0], int) and dims[0] != fixed
        axes[value] = None if not dims or other else dims.index(name) if name in dims else 0
    for value in graph.outputs:
        dims = dimensions(value)
        idle = value in topology.constants or value in topology.shape_values
        axes[value] = dims.index(name) if name is not None and name in dims else None if idle else 0
    if len(lengths) == 1 and name is None and not _divided(axes, graph, *lengths):
        axes.update(dict.fromkeys(graph.inputs))
    return axes


def _divided(axes: Mapping[ir.Value, int | None], graph: ir.Graph, samples: int | str | None) -> bool:
    """Return whether so many samples may share each output, as far as its first dimension says."""
    firsts = [dimensions(value)[:1] for value in graph.outputs if value.shape is not None and axes[value] is not None]
    known = [first[0] if first else 1 for first in firsts if not first or isinstance(first[0], int)]
    return not isinstance(samples, int) or all(isinstance(n, int) and n % max(samples, 1) == 0 for n in known)


def _first_length(graph: ir.Graph) -> int:
    return next(dims[0] for value in graph.inputs if (dims := dimensions(value)) and isinstance(dims[0], int))


def _name_of_samples(graph: ir.Graph) -> str | None:
    """Return the name that each input has for the axis of its samples, or None if no name is in all of them."""
    inputs = [dims for value in graph.inputs if (dims := dimensions(value))]
    outputs = [dims for value in graph.outputs if (dims := dimensions(value))]
    open_first = all(isinstance(dims[0], str) for dims in inputs)  # else the first axis says how many samples there are
    names = [name for name in _in_all(inputs) if open_first or any(dims[0] == name for dims in inputs)]
    first = next((name for name in names if all(dims[0] == name for dims in inputs)), None)
    everywhere = [name for name in names if name in set(_in_all(outputs))]
    # Of time and batch, only the batch is in each output, such as the last state of a recurrent network.
    if everywhere and (first is None or first not in everywhere):
        return everywhere[0]
    return first or next(iter(names), None)


def _in_all(shapes: Sequence[Sequence[int | str | None]]) -> Iterator[str]:
    for dim in shapes[0] if shapes else ():
        if isinstance(dim, str) and all(dim in shape for shape in shapes):
            yield dim
