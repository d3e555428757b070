"""op(x, W)  =>  op(x, DequantizeLinear(W_8bit, scale)); for an embedding Gather(W_8bit) -> DequantizeLinear."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import LINEAR_OPS
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.quantize_blocks import RoundedWeights, rounded_once
from autoprec.lowering.passes.scales import round_scale
from autoprec.lowering.placement import WeightPoint
from autoprec.lowering.reading import Reading, reading_of
from autoprec.precision import Array, Precision
from autoprec.ranges.affine import SMALLEST_HALF_SCALE
from autoprec.ranges.gptq import gptq_codes_of_columns
from autoprec.ranges.moments import Moments
from autoprec.ranges.table import EIGHT_BITS
from autoprec.ranges.weights import quantize_weight, weight_scales


class QuantizeWeightsPass(LoweringPass):
    """Store constants in 8 bits, one scale for each output channel.

    Args:
        editor: the editor of the model.
        points: the constants, each with the axis of its scales.
        scale_type: the coarsest float type that any scale is stored in; codes are computed with the
            rounded scale, so that rounding it costs nothing.
        largest: the largest INT8 code of a weight that is multiplied; embeddings have all codes.
        moments: what layers read -> its second moments. INT8 weights of a layer that reads such are rounded so that it
            loses least, all others to the nearest code.
        rounded: what earlier lowerings of the model have rounded by moments.

    Requires: each point's input is an initializer. Ensures: it is read through one DequantizeLinear;
    codes are symmetric, without zero point.
    """

    def __init__(
        self,
        editor: GraphEditor,
        points: Sequence[WeightPoint],
        scale_type: Precision,
        largest: int = 127,
        *,
        moments: Mapping[tuple[str, str], Moments] = MappingProxyType({}),
        rounded: RoundedWeights | None = None,
    ) -> None:
        super().__init__(editor)
        self.largest, self.moments = largest, moments
        self._rounded: RoundedWeights = {} if rounded is None else rounded
        self.points = tuple(points)
        self.scale_type = scale_type

    def requires(self, model: ir.Model) -> None:
        """Check that each point names an initializer."""
        super().requires(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            value = nodes[point.node].inputs[point.index] if point.node in nodes else None
            if value is None or not value.is_initializer() or value.const_value is None:
                raise ir.passes.PreconditionError(f"input {point.index} of {point.node!r} must be an initializer")

    def ensures(self, model: ir.Model) -> None:
        """Check that each point is read through a DequantizeLinear of an initializer."""
        super().ensures(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            require_stored(nodes, point, ir.passes.PostconditionError)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantise the constants; the model is modified if there was a point."""
        nodes = {node.name: node for node in model.graph}
        stored: dict[Hashable, tuple[ir.Value, ir.Value]] = {}
        made: dict[Hashable, ir.Value] = {}
        for point in self.points:
            node = nodes[point.node]
            if point.after_gather:
                self._gather(model.graph, node, point)
                continue
            weight = node.inputs[point.index]
            moments = self._moments_of(node, point)
            key = (weight, point.axis, point.precision, None if moments is None else moments[1].digest)
            if key not in stored:
                stored[key] = self._codes(node, point, moments)
            if key not in made or point.precision.weights_only:  # runtimes fuse none of these that others read too
                made[key] = self._dequantized(model.graph, weight, point, stored[key])
            node.replace_input_with(point.index, made[key])
        model.graph.sort()
        drop_unused(model.graph)
        return ir.passes.PassResult(model, bool(self.points))

    def _moments_of(self, node: ir.Node, point: WeightPoint) -> tuple[Reading, Moments] | None:
        """Return what a layer reads, and its moments; None where its weights take the nearest codes."""
        if point.index != 1 or point.axis is None or point.precision not in EIGHT_BITS or not self.moments:
            return None
        reading = reading_of(node)
        found = self.moments.get(reading.key) if reading is not None else None
        if reading is None or found is None or (found.channels, found.groups) != (reading.channels, reading.groups):
            return None
        return reading, found

    def _codes(
        self, node: ir.Node, point: WeightPoint, moments: tuple[Reading, Moments] | None = None
    ) -> tuple[ir.Value, ir.Value]:
        weight = node.inputs[point.index]
        if weight is None or weight.const_value is None:
            raise ValueError(f"input {point.index} of {point.node!r} must be an initializer")
        largest = self.largest if node.op_type in LINEAR_OPS and point.precision is Precision.INT8 else None
        what = (point.axis, point.precision, self.scale_type, largest)
        scales = self.editor.computed(
            weight.const_value, ("scales", *what), lambda array: self._scales(array, point, largest)
        )

        digest = None if moments is None else moments[1].digest

        def codes(array: Array) -> Array:
            if moments is None:
                return quantize_weight(array.astype(np.float32, copy=False), scales, point.axis, point.precision)
            limit = int(point.precision.largest) if largest is None else largest
            key = ("columns", *what, moments[1].digest)
            return rounded_once(self._rounded, array, key, lambda: _rounded_by(*moments, array, scales, limit))

        stored = self.editor.derived(weight, ("codes", *what, digest), f"{weight.name}/{point.precision}", codes)
        scale = self.editor.constant(f"{weight.name}/{point.precision}.scale", np.asarray(scales, np.float32))
        return stored, scale

    def _scales(self, array: Array, point: WeightPoint, largest: int | None) -> Array:
        exact = weight_scales(array.astype(np.float32, copy=False), point.axis, point.precision)
        if largest is not None and largest < point.precision.largest:
            exact = exact * np.float32(point.precision.largest / largest)
        return round_scale(exact, self.scale_type, SMALLEST_HALF_SCALE)

    def _dequantized(
        self, graph: ir.Graph, weight: ir.Value | None, point: WeightPoint, constants: tuple[ir.Value, ir.Value]
    ) -> ir.Value:
        if weight is None:
            raise ValueError(f"{point.node!r} must read weights")
        stored, scale = constants
        attributes = {} if point.axis is None else {"axis": point.axis}
        output = self.editor.value(f"{stored.name}/dq", weight, ir.DataType.FLOAT)
        name = self.editor.names.new(f"{stored.name}/dequantize")
        graph.append(ir.node("DequantizeLinear", [stored, scale], attributes, outputs=[output], name=name))
        return output

    def _gather(self, graph: ir.Graph, node: ir.Node, point: WeightPoint) -> None:
        stored, scale = self._codes(node, point)
        found = node.outputs[0]
        axis = -1 if found.shape is None else len(found.shape) - 1
        node.replace_input_with(0, stored)
        final = ir.Value(type=ir.TensorType(ir.DataType.FLOAT), shape=found.shape)
        self.editor.take_over(found, final, f"{found.name}/codes")
        found.type = ir.TensorType(stored.dtype if stored.dtype is not None else ir.DataType.INT8)
        name = self.editor.names.new(f"{node.name}/dequantize")
        dequantize = ir.node("DequantizeLinear", [found, scale], {"axis": axis}, outputs=[final], name=name)
        graph.append(dequantize)
        self.editor.became(node, [node, dequantize])


def _rounded_by(reading: Reading, moments: Moments, array: Array, scales: Array, largest: int) -> Array:
    """Return the codes of the weights of a layer that lose least at what it makes of what it reads."""
    of_groups = scales.reshape(reading.groups, -1)
    codes = gptq_codes_of_columns(reading.matrices(array), of_groups, largest, moments)
    return reading.stored(codes, array.shape)


def require_stored(
    nodes: Mapping[str | None, ir.Node], point: WeightPoint, error: type[Exception] = ir.passes.PreconditionError
) -> None:
    """Raise `error` if the constant at `point` is not stored in codes."""
    node = nodes.get(point.node)
    reader = node if node is None or point.after_gather else node.inputs[point.index].producer()  # type: ignore[union-attr]
    source = reader.inputs[0] if reader is not None else None
    codes = (ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN, ir.DataType.INT4, ir.DataType.UINT4)
    if source is None or not source.is_initializer() or source.dtype not in codes:
        raise error(f"input {point.index} of {point.node!r} must be stored in codes")
