"""Clip -> QuantizeLinear  =>  Relu -> QuantizeLinear, where the codes saturate at the upper bound anyway."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import const_array

_LARGEST_CODE = 127
_COMMUTES_WITH_CLIP = frozenset(
    {"Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
_ROUNDING = 1e-6
"""A scale is stored in single precision: 127 times it may exceed the bound by that much."""


class SaturatedClipsPass(ir.passes.InPlacePass):
    """Leave the upper bound of a Clip from 0 to the QuantizeLinear behind it, which cannot represent more.

    TensorRT 8.6 moves a QuantizeLinear over the Clip before it and then applies the bounds to the codes: behind a
    convolution in FP16 the results are wrong. Over a Relu it moves rightly.

    Requires: signed codes, so that 127 is the largest. Ensures: every code is the same as before.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace; modified where there was such a Clip."""
        found = False
        for node in list(model.graph):
            if node.op_type == "Clip" and node.domain in ("", "ai.onnx"):
                found |= _replace(model.graph, node)
        return ir.passes.PassResult(model, modified=found)


def _replace(graph: ir.Graph, clip: ir.Node) -> bool:
    high = _upper_bound(clip)
    output = clip.outputs[0]
    if high is None:
        return False
    pairs = [(user, index) for user, index in output.uses() if _saturates(user, high)]
    if not pairs:
        return False
    relu = ir.node("Relu", [clip.inputs[0]], name=f"{clip.name}/relu", num_outputs=1)
    made = relu.outputs[0]
    made.name, made.type, made.shape = f"{output.name}/relu", output.type, output.shape
    graph.insert_before(clip, relu)
    alone = len(pairs) == len(output.uses()) and not output.is_graph_output()
    for user, index in pairs:
        user.replace_input_with(index, made)
    if alone:
        name = clip.name, output.name
        graph.remove(clip, safe=True)
        relu.name, made.name = name  # verification and precisions know the node by its name
    return True


def _upper_bound(clip: ir.Node) -> float | None:
    """The upper bound of a Clip that starts at 0, None for any other."""
    if len(clip.inputs) < 3:
        return None
    low, high = const_array(clip.inputs[1]), const_array(clip.inputs[2])
    if low is None or high is None or low.size != 1 or high.size != 1 or float(low.reshape(())) != 0:
        return None
    return float(high.reshape(()))


def _saturates(node: ir.Node, high: float) -> bool:
    """Whether a value above `high` gives the same codes as `high` itself at every end of this branch."""
    if node.op_type == "QuantizeLinear":
        scale = const_array(node.inputs[1])
        point = const_array(node.inputs[2]) if len(node.inputs) > 2 else None
        signed = point is not None and point.dtype == np.int8 and not point.any()
        return signed and scale is not None and float(scale.max()) * _LARGEST_CODE <= high * (1 + _ROUNDING)
    if node.op_type not in _COMMUTES_WITH_CLIP or node.outputs[0].is_graph_output():
        return False
    users = node.outputs[0].uses()
    return bool(users) and all(_saturates(user, high) for user, _ in users)
