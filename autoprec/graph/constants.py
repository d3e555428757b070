"""Constants of a graph: new initializers, and nodes that only rearrange initializers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

import ml_dtypes
import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import attribute_int, attribute_ints, const_array, main_domain
from autoprec.graph.weight_files import LARGE_BYTES, FileWeight, WeightStore
from autoprec.precision import Array

_LARGE_ELEMENTS = 4096


def add_initializer(
    graph: ir.Graph, name: str, array: Array | FileWeight, store: WeightStore | None = None
) -> ir.Value:
    """Add an initializer to `graph`.

    Args:
        graph: the graph that gets it.
        name: a name that no other value has (see `autoprec.graph.names`).
        array: the numbers, or the weight in a file.
        store: where large arrays are kept, None for in memory.

    Raises:
        ValueError: an initializer has the name.
    """
    if name in graph.initializers:
        raise ValueError(f"there is an initializer {name!r} already")
    tensor: ir.TensorProtocol
    if isinstance(array, FileWeight):
        tensor = array.renamed(name)
    elif store is not None and array.nbytes >= LARGE_BYTES:
        tensor = store.put(array, name)
    else:
        tensor = ir.tensor(np.ascontiguousarray(array) if array.ndim else array, name=name)
    shape = ir.Shape(tensor.shape.numpy())
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def fold_rearranged(graph: ir.Graph, kept: Collection[str] = (), store: WeightStore | None = None) -> int:
    """Replace Transpose, Reshape, Identity and the like of an initializer by an initializer.

    A DequantizeLinear must feed its product directly, so nothing may stand between a weight and its op.

    Args:
        graph: the graph.
        kept: the names of nodes that stay as they are.
        store: where large results are kept, None for in memory.

    Returns:
        The number of nodes removed.
    """
    folded = 0
    for node in list(graph):
        value = _rearranged(graph, node, store) if node.name not in kept else None
        if value is None:
            continue
        ir.convenience.replace_all_uses_with(node.outputs[0], value)
        graph.remove(node, safe=True)
        folded += 1
    drop_unused(graph)
    return folded


def tied_transposes(graph: ir.Graph) -> dict[str, ir.Value]:
    """Return the name -> the result of each Transpose of a large weight that other nodes read as it is.

    To fold it would store the weight twice, as for an embedding whose table is also the last layer of the network.
    """
    return {
        str(node.name): node.outputs[0]
        for node in graph
        if node.op_type == "Transpose"
        and (array := const_array(node.inputs[0])) is not None
        and array.size >= _LARGE_ELEMENTS
        and len(set(node.inputs[0].consumers() if node.inputs[0] is not None else ())) > 1
    }


def is_foldable(value: ir.Value | None) -> bool:
    """Return whether a constant is an initializer, or one that `fold_rearranged` makes of initializers."""
    if value is None or value.const_value is not None:
        return value is not None
    node = value.producer()
    if node is None or node.op_type not in _FOLDERS or not main_domain(node):
        return False
    if node.op_type == "Cast" and attribute_int(node, "to", 1) not in _CAST_TARGETS:
        return False
    return all(map(is_foldable, node.inputs))


def _rearranged(graph: ir.Graph, node: ir.Node, store: WeightStore | None) -> ir.Value | None:
    """Return the initializer that can stand for the result of `node`, or None if there is none."""
    if node.op_type not in _FOLDERS or not main_domain(node) or not node.inputs:
        return None
    arrays = [array for value in node.inputs if (array := const_array(value)) is not None]
    if len(arrays) < len(node.inputs) or node.outputs[0].is_graph_output():
        return None
    if node.op_type == "Identity":
        return node.inputs[0]  # not a copy: exporters write shared weights like this
    result = _FOLDERS[node.op_type](node, arrays)
    if result is None:
        return None
    source = node.inputs[0].const_value if node.inputs[0] is not None else None
    if store is not None and isinstance(source, FileWeight):  # plans that fold it anew share what was made
        what = (source.place, node.op_type, str(node.attributes), *(array.tobytes() for array in arrays[1:]))
        kept = store.once(what, partial(store.put, result, str(node.outputs[0].name)))
        return add_initializer(graph, str(node.outputs[0].name), kept)
    return add_initializer(graph, str(node.outputs[0].name), result, store)  # the node goes, and the name is free then


def drop_unused(graph: ir.Graph) -> None:
    """Remove initializers that nothing reads."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def _transpose(node: ir.Node, arrays: list[Array]) -> Array | None:
    order = attribute_ints(node, "perm") or tuple(reversed(range(arrays[0].ndim)))
    result: Array = arrays[0].transpose(order)
    return result


def _reshape(node: ir.Node, arrays: list[Array]) -> Array | None:
    if len(arrays) != 2 or attribute_int(node, "allowzero", 0):
        return None
    shape = [int(dim) if dim else arrays[0].shape[index] for index, dim in enumerate(arrays[1])]
    return arrays[0].reshape(shape)


def _flatten(node: ir.Node, arrays: list[Array]) -> Array | None:
    axis = attribute_int(node, "axis", 1)
    shape = arrays[0].shape
    return arrays[0].reshape(int(np.prod(shape[:axis], dtype=np.int64)), -1) if arrays[0].size else None


def _identity(node: ir.Node, arrays: list[Array]) -> Array | None:
    return arrays[0]


def _squeeze(node: ir.Node, arrays: list[Array]) -> Array | None:
    axes = arrays[1].tolist() if len(arrays) > 1 else attribute_ints(node, "axes")
    return np.squeeze(arrays[0], tuple(axes) if axes is not None else None)


def _unsqueeze(node: ir.Node, arrays: list[Array]) -> Array | None:
    axes = arrays[1].tolist() if len(arrays) > 1 else attribute_ints(node, "axes")
    return None if axes is None else np.expand_dims(arrays[0], tuple(axes))


def _cast(node: ir.Node, arrays: list[Array]) -> Array | None:
    target = _CAST_TARGETS.get(attribute_int(node, "to", 1))
    source = arrays[0]
    from_half = source.dtype == ml_dtypes.bfloat16 and target in (np.float32, np.float64)  # exact
    if target is None or (source.dtype.kind not in "fiub" and not from_half):
        return None
    if source.dtype.kind == "f" and target.kind in "iu" and not (np.abs(source) < 127).all():
        return None  # what a runtime makes of a number that does not fit is not defined
    return source.astype(target)


_CAST_TARGETS = {
    int(data_type): data_type.numpy()
    for data_type in (
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
        ir.DataType.INT8,
        ir.DataType.INT32,
        ir.DataType.INT64,
        ir.DataType.BOOL,
    )
}
_FOLDERS: dict[str, Callable[[ir.Node, list[Array]], Array | None]] = {
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Identity": _identity,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Cast": _cast,
}
