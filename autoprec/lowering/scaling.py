"""Which products can take a factor for each channel of a value, and what before the value can take the inverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import Topology, attribute_int, const_array, is_float, main_domain
from autoprec.precision import Array

_HOMOGENEOUS = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Abs",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "Dropout",
    }
)
"""The operators f with f(x / s) = f(x) / s for s > 0, channel by channel."""
_NORMS = {
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "SimplifiedLayerNormalization": (1,),
}
"""The normalisations -> which inputs hold a scale and a shift for each channel."""
_LAST_AXIS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})


@dataclass(frozen=True, slots=True, eq=False)
class Edit:
    """A constant that is multiplied.

    Attributes:
        node: the node that reads it.
        index: the input that it is.
        factor: the factor, broadcast to it.
    """

    node: ir.Node
    index: int
    factor: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """The products that read a value, by constant weights.

    Attributes:
        nodes: the products, in topological order.
        axis: the axis of the value that holds its channels.
        channels: the number of channels.
        are_all: whether nothing else reads the value.
    """

    nodes: tuple[ir.Node, ...]
    axis: int
    channels: int
    are_all: bool

    def edits(self, factor: Array) -> list[Edit]:
        """Return what multiplies the input channels of all of them."""
        return [Edit(node, 1, _of_input_channels(node, factor)) for node in self.nodes]

    def largest_weights(self) -> Array:
        """Return the largest magnitude among the weights that each channel is multiplied by."""
        found: Array = np.max([_by_input_channel(node) for node in self.nodes], axis=0)
        return found

    @property
    def are_depthwise(self) -> bool:
        """Whether no sum of products mixes the channels, so that each has a scale of its weights for itself."""
        return all(n.op_type == "Conv" and attribute_int(n, "group", 1) == self.channels for n in self.nodes)


def readers_of(topology: Topology, value: ir.Value) -> Readers | None:
    """Return the products that read the value, or None if there are none or they disagree on its channels."""
    nodes = [node for node in topology.consumers(value) if _is_product(node, value)]
    kinds = {(_channel_axis(node, value), _channels(node)) for node in nodes}
    if len(kinds) != 1 or not is_float(value):
        return None
    ((axis, channels),) = kinds
    if axis is None:
        return None
    others = len(topology.consumers(value)) > len(nodes) or topology.escapes(value)
    return Readers(nodes=tuple(nodes), axis=axis, channels=channels, are_all=not others)


def taken_in(topology: Topology, value: ir.Value, factor: Array, axis: int) -> list[Edit] | None:
    """Return what multiplies the channels of a value where it is made, or None if something cannot take them.

    Args:
        topology: the topology of the graph.
        value: the value; all of its readers expect it to be scaled.
        factor: the factor of each channel.
        axis: the axis of the value that holds its channels.
    """
    node = value.producer()
    if node is None or topology.escapes(value) or value.shape is None or value is not node.outputs[0]:
        return None
    if any(topology.consumers(other) or topology.escapes(other) for other in node.outputs[1:]):
        return None
    last = axis == len(value.shape) - 1

    def inner(source: ir.Value | None, part: Array = factor) -> list[Edit] | None:
        if source is None or len(topology.consumers(source)) != 1 or len(source.uses()) != 1:
            return None
        return taken_in(topology, source, part, axis)

    if node.op_type in _NORMS and (last if node.op_type in _LAST_AXIS else axis == 1):
        return _of_norm(node, factor)
    if not main_domain(node):
        return None
    if node.op_type in _HOMOGENEOUS or _is_flat(node):
        return inner(node.inputs[0])
    if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return _of_product(node, factor, axis, last)
    if node.op_type == "Concat":
        return _of_concat(node, factor, axis, inner)
    if node.op_type in ("Mul", "Div", "Add", "Sub"):
        return _of_binary(topology, node, factor.reshape((-1,) + (1,) * (len(value.shape) - 1 - axis)), inner)
    return None


def _of_norm(node: ir.Node, factor: Array) -> list[Edit] | None:
    known = [index for index in _NORMS[node.op_type] if index < len(node.inputs) and node.inputs[index] is not None]
    whole = node.op_type not in _LAST_AXIS or attribute_int(node, "axis", -1) in (-1, _rank(node) - 1)
    arrays = [const_array(node.inputs[index]) for index in known]
    if not whole or not known or any(array is None or array.shape != factor.shape for array in arrays):
        return None
    return [Edit(node, index, factor) for index in known]


def _of_product(node: ir.Node, factor: Array, axis: int, last: bool) -> list[Edit] | None:
    bias = 2 if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if any(const_array(node.inputs[index]) is None for index in (1, bias) if index is not None):
        return None
    rank = len(const_array(node.inputs[1]).shape)  # type: ignore[union-attr]
    if node.op_type in ("Gemm", "MatMul"):
        if not last or rank < 2:
            return None
        rows = node.op_type == "Gemm" and attribute_int(node, "transB", 0)
        weight = factor[:, None] if rows else factor
    else:
        turned = node.op_type == "ConvTranspose"
        if axis != 1 or (turned and attribute_int(node, "group", 1) != 1):
            return None
        weight = factor.reshape((-1,) + (1,) * (rank - 1 - turned))
    return [Edit(node, 1, weight), *([] if bias is None else [Edit(node, bias, factor)])]


def _of_concat(
    node: ir.Node, factor: Array, axis: int, inner: Callable[[ir.Value | None, Array], list[Edit] | None]
) -> list[Edit] | None:
    rank = _rank(node)
    found: list[Edit] = []
    start = 0
    for value in node.inputs:
        size = value.shape[axis] if value is not None and value.shape is not None else None
        if not isinstance(size, int) or attribute_int(node, "axis", 0) % rank != axis:
            return None
        edits = inner(value, factor[start : start + size])
        if edits is None:
            return None
        found += edits
        start += size
    return found if start == len(factor) else None


def _of_binary(
    topology: Topology, node: ir.Node, factor: Array, inner: Callable[[ir.Value | None], list[Edit] | None]
) -> list[Edit] | None:
    constant = [const_array(value) is not None for value in node.inputs]
    sides = [topology.constants.issuperset([value]) for value in node.inputs if value is not None]
    if constant != sides or all(constant) or any(value is None or value.shape is None for value in node.inputs):
        return None
    if any(len(value.shape) > _rank(node) for value in node.inputs):  # type: ignore[union-attr, arg-type]
        return None
    if node.op_type in ("Mul", "Div"):
        if not any(constant) or (node.op_type == "Div" and constant[0]):
            return None
        index = constant.index(True)
        return [Edit(node, index, 1 / factor if node.op_type == "Div" else factor)]
    found: list[Edit] = []
    for index, value in enumerate(node.inputs):
        edits = [Edit(node, index, factor)] if constant[index] else inner(value) if _is_whole(node, value) else None
        if edits is None:
            return None
        found += edits
    return found


def _is_whole(node: ir.Node, value: ir.Value | None) -> bool:
    """Return whether a value is not broadcast, as far as its rank tells."""
    return value is not None and value.shape is not None and len(value.shape) == _rank(node)


def _is_flat(node: ir.Node) -> bool:
    """Return whether a Flatten keeps the channels on their axis, because all axes behind them have length one."""
    source = node.inputs[0] if node.inputs else None
    if node.op_type != "Flatten" or source is None or source.shape is None or attribute_int(node, "axis", 1) != 1:
        return False
    return len(source.shape) > 1 and all(size == 1 for size in list(source.shape)[2:])


def _rank(node: ir.Node) -> int:
    shape = node.outputs[0].shape
    return len(shape) if shape is not None else 0


def _is_product(node: ir.Node, value: ir.Value) -> bool:
    if not main_domain(node) or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return False
    weight = const_array(node.inputs[1])
    if node.inputs[0] is not value or value in list(node.inputs)[1:] or weight is None or weight.ndim < 2:
        return False
    return weight.dtype == np.float32 and not (node.op_type == "Gemm" and attribute_int(node, "transA", 0))


def _channel_axis(node: ir.Node, value: ir.Value) -> int | None:
    if node.op_type.startswith("Conv"):
        return 1
    return len(value.shape) - 1 if value.shape is not None else None


def _channels(node: ir.Node) -> int:
    shape = const_array(node.inputs[1]).shape  # type: ignore[union-attr]
    if node.op_type == "Conv":
        return int(shape[1]) * attribute_int(node, "group", 1)
    if node.op_type == "ConvTranspose":
        return int(shape[0])
    return int(shape[1] if node.op_type == "Gemm" and attribute_int(node, "transB", 0) else shape[-2])


def _of_input_channels(node: ir.Node, factor: Array) -> Array:
    """Return the factor of each input channel, broadcast to the weights of a product."""
    weight = const_array(node.inputs[1])
    assert weight is not None
    behind = (1,) * (weight.ndim - 2)
    if node.op_type == "Conv":
        groups = attribute_int(node, "group", 1)
        by_group: Array = factor.reshape(groups, 1, -1)
        each = np.broadcast_to(by_group, (groups, weight.shape[0] // groups, weight.shape[1]))
        return each.reshape(weight.shape[0], weight.shape[1], *behind)
    if node.op_type == "ConvTranspose":
        return factor.reshape(-1, 1, *behind)
    return factor if node.op_type == "Gemm" and attribute_int(node, "transB", 0) else factor[:, None]


def _by_input_channel(node: ir.Node) -> Array:
    """Return the largest magnitude of the weights of each input channel."""
    weight = const_array(node.inputs[1])
    assert weight is not None
    sizes: Array = np.abs(weight).astype(np.float64)
    if node.op_type == "Conv":
        groups = attribute_int(node, "group", 1)
        sizes = sizes.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        found: Array = sizes.max(axis=(1, 3)).reshape(-1)
        return found
    rows: Array = np.moveaxis(sizes, input_axis(node), 0)
    largest: Array = rows.reshape(rows.shape[0], -1).max(axis=1)
    return largest


def input_axis(node: ir.Node) -> int:
    """Return the axis of a product's weights that holds its input channels, within a group."""
    if node.op_type == "Conv":
        return 1
    if node.op_type == "ConvTranspose":
        return 0
    return 1 if node.op_type == "Gemm" and attribute_int(node, "transB", 0) else -2
