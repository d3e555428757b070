"""Slice(x) with a stride, then Pad of channels with zeros  =>  Conv 1x1 (x) of that stride, with ones and zeros.

This is the shortcut without parameters of "Deep Residual Learning for Image Recognition" (He et al. 2016, option A).
TensorRT fuses the Add behind a convolution into it, but not one behind a Pad, around which it converts layouts.
Measured on an H100 with TensorRT 8.6: 0.89 of the latency of ResNet-20 in FP16 (see tests/benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import const_array
from autoprec.lowering.passes.named_rewrite import NamedRewritePass
from autoprec.precision import Array
from autoprec.units.records import Unit


class ShortcutToConvPass(NamedRewritePass):
    """Rewrite the named Pads of images, with the Slices before them.

    Requires: constant parameters. Ensures: the same numbers for finite values, since each is multiplied by one and
    added to zeros; node and output of the Pad keep their names.
    """

    op_types = frozenset({"Pad"})

    def why_not(self, node: ir.Node) -> str | None:
        """Return why the shortcut cannot be rewritten, or None if it can."""
        source = _sliced(node)[-1].inputs[0] if _sliced(node) else None
        if source is None:
            return "no Slice that only the Pad reads is before it"
        if source.shape is None or len(source.shape) != 4 or not isinstance(source.shape[1], int):
            return "it pads no images with a known number of channels"
        if _strides(node) is None:
            return "its Slices take more than every second or third row and column"
        return None if _channels(node) is not None else "it pads more than channels, or with another number than zero"

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> None:
        """Replace the Slices and the Pad by one convolution."""
        slices, strides, channels = _sliced(node), _strides(node), _channels(node)
        source, output = slices[-1].inputs[0], node.outputs[0]
        if source is None or source.shape is None or strides is None or channels is None:
            raise ValueError("a shortcut must be one that why_not gives no reason against")
        count = int(source.shape[1])  # type: ignore[arg-type]  # why_not has seen that it is a number
        weight = np.zeros((channels[0] + count + channels[1], count, 1, 1), np.float32)
        weight[np.arange(count) + channels[0], np.arange(count)] = 1.0
        made = ir.Value(type=output.type, shape=output.shape)
        kernel = self.editor.constant(f"{node.name}/conv.weight", weight)
        conv = ir.node(
            "Conv", [source, kernel], {"kernel_shape": [1, 1], "strides": strides}, outputs=[made], name=node.name
        )
        graph.insert_after(node, conv)
        self.editor.take_over(output, made)
        for old in (node, *slices):
            self.editor.became(old, [conv])
            graph.remove(old, safe=True)


def shortcut_pad(value: ir.Value | None) -> ir.Node | None:
    """Return the Pad that computes `value` at the end of such a shortcut, None where there is none."""
    pad = value.producer() if value is not None else None
    return pad if pad is not None and pad.op_type == "Pad" and _sliced(pad) else None


def _sliced(pad: ir.Node) -> list[ir.Node]:
    """Return the Slices before the Pad that only it reads, the nearest first."""
    found: list[ir.Node] = []
    value = pad.inputs[0]
    while value is not None and len(value.consumers()) == 1 and not value.is_graph_output():
        node = value.producer()
        if node is None or node.op_type != "Slice":
            break
        found.append(node)
        value = node.inputs[0]
    return found


def _strides(pad: ir.Node) -> list[int] | None:
    """Return the steps of rows and columns, or None where the Slices do more than to step."""
    strides = [1, 1]
    for node in _sliced(pad):
        starts, ends, axes, steps = (_ints(node, index) for index in range(1, 5))
        if starts is None or ends is None or axes is None or steps is None:
            return None
        for start, end, axis, step in zip(starts, ends, (a % 4 for a in axes), steps, strict=True):
            source = node.inputs[0]
            size = source.shape[axis] if source is not None and source.shape is not None else None
            whole = end >= size if isinstance(size, int) else end >= 2**31 - 1
            if start != 0 or not whole or step < 1 or (axis < 2 and step != 1):
                return None
            if axis >= 2:
                strides[axis - 2] *= step
    return strides if max(strides) > 1 else None


def _channels(pad: ir.Node) -> tuple[int, int] | None:
    """Return how many channels of zeros are put before and behind, or None where the Pad does anything else."""
    mode = pad.attributes["mode"].as_string() if "mode" in pad.attributes else "constant"
    pads, fill = _ints(pad, 1), const_array(pad.inputs[2]) if len(pad.inputs) > 2 else None
    dynamic_fill = len(pad.inputs) > 2 and pad.inputs[2] is not None and fill is None
    other_axes = len(pad.inputs) > 3 and pad.inputs[3] is not None
    if mode != "constant" or pads is None or len(pads) != 8 or dynamic_fill or other_axes:
        return None
    if (fill is not None and np.any(fill != 0)) or any(pads[i] != 0 for i in (0, 2, 3, 4, 6, 7)) or min(pads) < 0:
        return None
    return pads[1], pads[5]


def _ints(node: ir.Node, index: int) -> Sequence[int] | None:
    array: Array | None = const_array(node.inputs[index]) if len(node.inputs) > index else None
    return None if array is None else [int(number) for number in array.reshape(-1)]


def padded_skips(graph: ir.Graph, units: Sequence[Unit]) -> list[str]:
    """Return the names of the Pads that an Add of one of the units reads."""
    inside = {name for unit in units for name in unit.nodes}
    adds = [node for node in graph if node.op_type == "Add" and node.name in inside]
    pads = [shortcut_pad(value) for node in adds for value in node.inputs]
    return [str(pad.name) for pad in pads if pad is not None]
