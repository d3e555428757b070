"""Clip -> QuantizeLinear  =>  Relu -> QuantizeLinear, where the codes saturate at the upper bound anyway."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.topology import const_array, main_domain
from autoprec.lowering.passes.lowering_pass import LoweringPass

_LARGEST_CODE = 127
_COMMUTES_WITH_CLIP = frozenset(
    {"Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
_ROUNDING = 1e-6
"""A scale is stored in single precision: 127 times it may exceed the bound by that much."""


class SaturatedClipsPass(LoweringPass):
    """Leave the upper bound of a Clip from 0 to the QuantizeLinear behind it, which cannot represent more.

    TensorRT 8.6 moves a QuantizeLinear over the Clip before it and then applies the bounds to the codes: behind a
    convolution in FP16 the results are wrong. Over a Relu it moves rightly.

    Only signed codes count, whose largest is 127. Requires: constant scales. Ensures: every code is the same as before;
    no QuantizeLinear reads such a Clip.
    """

    def ensures(self, model: ir.Model) -> None:
        """Check that no Clip is left whose upper bound the codes have anyway."""
        super().ensures(model)
        for node in model.graph:
            if _saturated_readers(node):
                raise ir.passes.PostconditionError(f"the upper bound of {node.name!r} must be left to the codes")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace the Clips; the model is modified if there was one."""
        found = False
        for node in list(model.graph):
            if readers := _saturated_readers(node):
                self._replace(model.graph, node, readers)
                found = True
        return ir.passes.PassResult(model, modified=found)

    def _replace(self, graph: ir.Graph, clip: ir.Node, readers: list[tuple[ir.Node, int]]) -> None:
        """Let the readers take a Relu; a Clip that has no other readers is removed."""
        output = clip.outputs[0]
        alone = len(readers) == len(output.uses()) and not output.is_graph_output()
        if alone:  # verification and precisions know the node by its name
            name, made = clip.name, ir.Value(type=output.type, shape=output.shape)
        else:
            name, made = self.editor.names.new(f"{clip.name}/relu"), self.editor.value(f"{output.name}/relu", output)
        relu = ir.node("Relu", [clip.inputs[0]], outputs=[made], name=name)
        graph.insert_before(clip, relu)
        if alone:
            self.editor.take_over(output, made)
            self.editor.became(clip, [relu])
            graph.remove(clip, safe=True)
            return
        for user, index in readers:
            user.replace_input_with(index, made)
        self.editor.became(clip, [clip, relu])


def _saturated_readers(clip: ir.Node) -> list[tuple[ir.Node, int]]:
    """Return the readers of a Clip from 0 whose codes are the same without its upper bound."""
    high = _upper_bound(clip) if clip.op_type == "Clip" and main_domain(clip) else None
    return [] if high is None else [(user, index) for user, index in clip.outputs[0].uses() if _saturates(user, high)]


def _upper_bound(clip: ir.Node) -> float | None:
    """Return the upper bound of a Clip that starts at 0, or None for any other."""
    if len(clip.inputs) < 3:
        return None
    low, high = const_array(clip.inputs[1]), const_array(clip.inputs[2])
    if low is None or high is None or low.size != 1 or high.size != 1 or float(low.reshape(())) != 0:
        return None
    return float(high.reshape(()))


def _saturates(node: ir.Node, high: float) -> bool:
    """Return whether a value above `high` gives the same codes as `high` itself at every end of this branch."""
    if node.op_type == "QuantizeLinear":
        scale = const_array(node.inputs[1])
        point = const_array(node.inputs[2]) if len(node.inputs) > 2 else None
        signed = point is not None and point.dtype == np.int8 and not point.any()
        return signed and scale is not None and float(scale.max()) * _LARGEST_CODE <= high * (1 + _ROUNDING)
    if node.op_type not in _COMMUTES_WITH_CLIP or node.outputs[0].is_graph_output():
        return False
    users = node.outputs[0].uses()
    return bool(users) and all(_saturates(user, high) for user, _ in users)
