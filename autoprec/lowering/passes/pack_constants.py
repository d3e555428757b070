"""C  =>  DequantizeLinear(C_int8, scale), for large constants that INT8 times one scale holds exactly.

Attention masks of zeros and one large negative number are as big as a layer and cost nothing to pack.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import FLOAT_TYPES, LINEAR_OPS, const_array
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.precision import Array

_SMALLEST_ELEMENTS = 4096


class PackConstantsPass(LoweringPass):
    """Store large float constants of few levels in INT8.

    Weights of linear ops are left alone: in 8 bits without a pair on the activation they would be half a
    quantised op. Requires: an opset with DequantizeLinear for the type of the constants. Ensures: every value is the
    same, bit for bit; no constant that qualifies is left.
    """

    def ensures(self, model: ir.Model) -> None:
        """Check that no constant is left that could be packed."""
        super().ensures(model)
        for value in model.graph.initializers.values():
            if _packed(value) is not None:
                raise ir.passes.PostconditionError(f"{value.name!r} must be packed")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Pack the constants; the model is modified if one of them qualified."""
        graph, modified = model.graph, False
        for value in list(graph.initializers.values()):
            if (packed := _packed(value)) is not None:
                self._replace(graph, value, *packed)
                modified = True
        if modified:
            graph.sort()
            drop_unused(graph)
        return ir.passes.PassResult(model, modified)

    def _replace(self, graph: ir.Graph, value: ir.Value, codes: Array, scale: Array) -> None:
        stored = self.editor.constant(f"{value.name}/packed", codes)
        factor = self.editor.constant(f"{value.name}/packed.scale", scale)
        output = self.editor.value(f"{value.name}/unpacked", value)
        ir.convenience.replace_all_uses_with(value, output)
        name = self.editor.names.new(f"{value.name}/unpack")
        graph.append(ir.node("DequantizeLinear", [stored, factor], outputs=[output], name=name))


def _packed(value: ir.Value) -> tuple[Array, Array] | None:
    """Return the codes and the scale of a large constant, or None if it does not qualify."""
    array = const_array(value) if value.dtype in FLOAT_TYPES else None
    if array is None or array.size < _SMALLEST_ELEMENTS or value.is_graph_output():
        return None
    return None if any(node.op_type in LINEAR_OPS for node in value.consumers()) else _pack(array)


def _pack(array: Array) -> tuple[Array, Array] | None:
    sample = array.reshape(-1)[:_SMALLEST_ELEMENTS]
    if len(np.unique(sample)) > 255 or not np.isfinite(array).all():
        return None
    magnitudes = np.abs(array[array != 0])
    if magnitudes.size == 0:
        return None
    scale = magnitudes.min()
    codes = np.rint(array.astype(np.float64) / float(scale))
    if np.abs(codes).max() > 127:
        return None
    small = codes.astype(np.int8)
    exact = (small.astype(np.float32) * np.float32(scale)).astype(array.dtype)
    if not np.array_equal(exact, array):
        return None
    return small, np.asarray(scale, dtype=array.dtype)
