"""MatMul(x, W)  =>  MatMul(DQ(DynamicQuantize(x)), DQ(W_codes)) in MXFP8 or NVFP4, in TensorRT's own operators.

Blocks lie along the axis that is summed over. ONNX has no operator that finds the scales of blocks at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.simulate_blocks import in_blocks
from autoprec.lowering.placement import WeightPoint
from autoprec.precision import Array, Precision
from autoprec.ranges.scaled_blocks import ScaledBlocks, scaled_blocks

_DOMAIN = "trt"
_IR_VERSION = 11
"""The first version of the ONNX format that has codes of E2M1."""


class ScaleBlocksPass(LoweringPass):
    """Quantise what products read, and their weights, in blocks that have small floats as scales.

    Args:
        editor: the editor of the model.
        points: the matrices, each with the precision of its product.
        originals: node name -> its weights before any pass changed their type.
        of_all: node name -> the scale of all blocks of what an NVFP4 product reads.
        in_float: whether the arithmetic is written in standard FP32 operators, for a runtime without such kernels.

    Requires: opset 21, and each point is the second operand of a MatMul, of two dimensions. Types are assigned already,
    unless `in_float`. Ensures: no such product reads what it read before; its result has the name and type that it had.
    """

    def __init__(
        self,
        editor: GraphEditor,
        points: Sequence[WeightPoint],
        originals: Mapping[str, ir.Value],
        of_all: Mapping[str, float],
        *,
        in_float: bool = False,
    ) -> None:
        super().__init__(editor)
        self.points, self.originals, self.of_all, self.in_float = tuple(points), originals, of_all, in_float

    def requires(self, model: ir.Model) -> None:
        """Check that each point is a matrix that a MatMul reads, and that its scale is known."""
        super().requires(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            node, weight = nodes.get(point.node), self.originals.get(point.node)
            rank = 0 if weight is None or weight.const_value is None else len(weight.const_value.shape)
            if node is None or node.op_type != "MatMul" or point.index != 1 or rank != 2:
                raise ir.passes.PreconditionError(f"input {point.index} of {point.node!r} must be a constant matrix")
            if point.precision is Precision.NVFP4 and point.node not in self.of_all:
                raise ir.passes.PreconditionError(f"what {point.node!r} reads must have a scale")

    def ensures(self, model: ir.Model) -> None:
        """Check that each product reads blocks on both sides."""
        super().ensures(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            read, weights = nodes[point.node].inputs[:2]
            if read is None or read.producer() is None or weights is self.originals[point.node]:
                raise ir.passes.PostconditionError(f"{point.node!r} must read blocks")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the products; the model is modified if there was one."""
        nodes = {node.name: node for node in model.graph}
        made: dict[tuple[ir.Value, Precision], ir.Value] = {}
        stored: dict[tuple[ir.Value, Precision], list[ir.Value | None]] = {}
        for point in self.points:
            node = nodes[point.node]
            key = (self.originals[point.node], point.precision)
            if key not in stored:
                stored[key] = self._stored(*key)
            source, weight = node.inputs[:2]
            if source is None or weight is None:
                raise ValueError(f"{point.node!r} must read two values")
            if (source, point.precision) not in made:
                made[source, point.precision] = self._quantized(source, point)
            node.replace_input_with(1, self._weights(weight, point, stored[key]))
            node.replace_input_with(0, made[source, point.precision])
        if self.points:
            if not self.in_float:
                model.opset_imports.setdefault(_DOMAIN, 1)
                model.ir_version = max(model.ir_version, _IR_VERSION)
            model.graph.sort()
            drop_unused(model.graph)
        return ir.passes.PassResult(model, bool(self.points))

    def _quantized(self, source: ir.Value, point: WeightPoint) -> ir.Value:
        precision, of_all = point.precision, self.of_all.get(point.node)
        if self.in_float:
            return in_blocks(self.editor, source, precision, of_all)
        wish = f"{source.name}/{precision}"
        kinds = (ir.DataType.FLOAT8E4M3FN, ir.DataType.UINT8)
        kinds = kinds if precision is Precision.MXFP8 else (ir.DataType.FLOAT4E2M1, ir.DataType.FLOAT8E4M3FN)
        codes = self.editor.value(f"{wish}.q", source, kinds[0])
        scales = ir.Value(name=self.editor.names.new(f"{wish}.scale"), type=ir.TensorType(kinds[1]))
        shared = None if of_all is None else self.editor.constant(f"{wish}.scale_of_all", np.array(of_all, np.float32))
        attributes = {"axis": -1, "block_size": precision.scaled_block}
        inputs: list[ir.Value | None] = [source]
        if precision is Precision.MXFP8:
            op, kind = "TRT_MXFP8DynamicQuantize", {"output_dtype": int(kinds[0])}
        else:
            op, kind = "TRT_FP4DynamicQuantize", {"scale_type": int(kinds[1])}
            inputs.append(shared)
        name = self.editor.names.new(f"{wish}/quantize")
        made = ir.node(op, inputs, attributes | kind, domain=_DOMAIN, outputs=[codes, scales], name=name)
        self.editor.graph.append(made)
        return self._dequantized([codes, scales, shared], source, wish, axis=-1, block=precision.scaled_block)

    def _stored(self, original: ir.Value, precision: Precision) -> list[ir.Value | None]:
        """Return the initializers of the codes, the scales, and the scale of all; or, in float, of the values."""
        wish, known = f"{original.name}/{precision}", list[ScaledBlocks]()

        def derived(what: str, part: Callable[[ScaledBlocks], Array]) -> ir.Value:
            def made(array: Array) -> Array:
                if not known:
                    known.append(scaled_blocks(array.T, precision))
                found = part(known[0])
                return np.ascontiguousarray(found.T) if found.ndim else found

            return self.editor.derived(original, (what, precision), f"{wish}{what}", made)

        if self.in_float:
            return [derived(".values", ScaledBlocks.values)]
        codes = derived("", lambda blocks: blocks.codes)
        scales = derived(".scale", lambda blocks: blocks.scales)
        if precision is Precision.MXFP8:
            return [codes, scales, None]
        return [codes, scales, derived(".scale_of_all", lambda blocks: np.array(blocks.of_all, np.float32))]

    def _weights(self, weight: ir.Value, point: WeightPoint, stored: list[ir.Value | None]) -> ir.Value:
        """Return the weights that a product reads instead; codes lie as the matrix does, [K, N]."""
        if self.in_float:
            [values] = stored
            if values is None:
                raise ValueError(f"{point.node!r} must have values")
            return values
        return self._dequantized(stored, weight, str(stored[0].name), axis=0, block=point.precision.scaled_block)  # type: ignore[union-attr]

    def _dequantized(
        self, parts: Sequence[ir.Value | None], like: ir.Value, wish: str, *, axis: int, block: int
    ) -> ir.Value:
        """Return what blocks stand for, of the type and shape of `like`."""
        codes, scales, shared = parts
        wanted = like.dtype or ir.DataType.FLOAT
        attributes = {"axis": axis, "block_size": block}
        output = self.editor.value(f"{wish}.dq", like)
        if shared is None:
            self._add("TRT_MXFP8DequantizeLinear", [codes, scales], output, attributes | {"output_dtype": int(wanted)})
            return output
        real = self.editor.value(f"{wish}.scale.fp32", like, ir.DataType.FLOAT)
        real.shape = None
        self._add("DequantizeLinear", [scales, shared], real, {})
        if wanted is ir.DataType.FLOAT:
            self._add("DequantizeLinear", [codes, real], output, attributes)
            return output
        wide = self.editor.value(f"{wish}.dq.fp32", like, ir.DataType.FLOAT)
        self._add("DequantizeLinear", [codes, real], wide, attributes)
        self._add("Cast", [wide], output, {"to": int(wanted)}, domain="")
        return output

    def _add(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        output: ir.Value,
        attributes: Mapping[str, int],
        domain: str = _DOMAIN,
    ) -> None:
        name = self.editor.names.new(f"{output.name}/{op.lower()}")
        self.editor.graph.append(ir.node(op, inputs, attributes, domain=domain, outputs=[output], name=name))
