"""MatMul(x, W)  =>  MatMul(x, DequantizeLinear(W_4bit, scales)), with a scale for each block of rows of each column.

ONNX Runtime fuses the two, with an Add of a bias behind them, to MatMulNBits; TensorRT to one layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import attribute_int, const_array
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.scales import round_scale
from autoprec.lowering.placement import WeightPoint
from autoprec.precision import Array, Precision
from autoprec.ranges.affine import SMALLEST_HALF_SCALE
from autoprec.ranges.gptq import gptq_codes
from autoprec.ranges.moments import Moments
from autoprec.ranges.weight_blocks import BlockGrid, block_grid

RoundedWeights = dict[Hashable, Array]
"""The codes of matrices, by their numbers and by all else that they depend on."""


class QuantizeBlocksPass(LoweringPass):
    """Store matrices in 4 bits.

    Args:
        editor: the editor of the model.
        points: the matrices, each with a precision that has blocks.
        scale_type: the coarsest float type that any scale is stored in; codes are computed with the rounded scale.
        moments: value name -> the second moments of its channels. Weights that are multiplied with such a value are
            rounded so that the product loses least, all others to the nearest code.
        rounded: what earlier lowerings of the model have rounded, which takes long.

    Requires: opset 21, and each point is the second operand of a MatMul, an initializer of two dimensions.
    Ensures: it is read through a DequantizeLinear of its own.
    """

    def __init__(
        self,
        editor: GraphEditor,
        points: Sequence[WeightPoint],
        scale_type: Precision,
        moments: Mapping[str, Moments] = MappingProxyType({}),
        rounded: RoundedWeights | None = None,
    ) -> None:
        super().__init__(editor)
        self.points, self.scale_type, self.moments = tuple(points), scale_type, moments
        self._rounded: RoundedWeights = {} if rounded is None else rounded

    def requires(self, model: ir.Model) -> None:
        """Check that each point is a matrix that a MatMul reads."""
        super().requires(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            node = nodes.get(point.node)
            value = node.inputs[1] if node is not None and node.op_type == "MatMul" else None
            if value is None or value.const_value is None or len(value.const_value.shape) != 2 or point.index != 1:
                raise ir.passes.PreconditionError(f"input {point.index} of {point.node!r} must be a constant matrix")

    def ensures(self, model: ir.Model) -> None:
        """Check that each point is read through a DequantizeLinear with blocks."""
        super().ensures(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            if grid_of(nodes[point.node]) is None:
                raise ir.passes.PostconditionError(f"input 1 of {point.node!r} must be stored in blocks of 4 bits")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantise the matrices; the model is modified if there was a point."""
        nodes = {node.name: node for node in model.graph}
        made: dict[tuple[ir.Value | None, Precision, str], tuple[ir.Value, ...]] = {}
        for point in self.points:
            node = nodes[point.node]
            moments = self._moments_of(node)
            key = (node.inputs[1], point.precision, "" if moments is None else moments.digest)
            if key not in made:
                made[key] = self._stored(node.inputs[1], point.precision, moments)
            self._dequantize(node, made[key], point.precision)
        model.graph.sort()
        drop_unused(model.graph)
        return ir.passes.PassResult(model, bool(self.points))

    def _moments_of(self, node: ir.Node) -> Moments | None:
        """Return the moments of what a product reads, None where they are not known or are of another size."""
        source, weight = node.inputs[0], node.inputs[1]
        found = self.moments.get(str(source.name)) if source is not None else None
        rows = None if weight is None or weight.const_value is None else weight.const_value.shape[0]
        return found if found is not None and found.channels == rows else None

    def _stored(self, weight: ir.Value | None, precision: Precision, moments: Moments | None) -> tuple[ir.Value, ...]:
        """Return the initializers of the codes, the scales, and the zero points where there are any."""
        if weight is None or weight.const_value is None:  # requires has looked at it
            raise ValueError("weights must be constant")
        what = ("blocks", precision, self.scale_type, "" if moments is None else moments.digest)
        grid = self.editor.computed(
            weight.const_value, what, lambda array: stored_grid(array, precision, self.scale_type)
        )
        wish = f"{weight.name}/{precision}"

        def rounded(array: Array) -> Array:
            return rounded_once(self._rounded, array, what, lambda: _codes(array, grid, moments))

        codes = self.editor.derived(weight, ("codes", *what), wish, rounded)
        scales = self.editor.constant(f"{wish}.scale", grid.scales)
        if grid.zeros is None:
            return codes, scales
        return codes, scales, self.editor.constant(f"{wish}.zero_point", grid.zeros.astype(_UINT4))

    def _dequantize(self, node: ir.Node, stored: tuple[ir.Value, ...], precision: Precision) -> None:
        """Give the product a DequantizeLinear of its own: runtimes fuse none that others read too."""
        weight = node.inputs[1]
        if weight is None:
            raise ValueError(f"{node.name!r} must read weights")
        output = self.editor.value(f"{node.name}/weights", weight, ir.DataType.FLOAT)
        name = self.editor.names.new(f"{node.name}/dequantize_weights")
        attributes = {"axis": 0, "block_size": precision.block}
        made = ir.node("DequantizeLinear", list(stored), attributes, outputs=[output], name=name)
        self.editor.graph.append(made)
        node.replace_input_with(1, output)


def rounded_once(known: RoundedWeights, array: Array, what: Hashable, make: Callable[[], Array]) -> Array:
    """Return the codes of weights, which are made once for all plans; one and the same may have several names."""
    key = (hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest(), what)
    if key not in known:
        known[key] = make()
    return known[key]


def stored_grid(array: Array, precision: Precision, scale_type: Precision) -> BlockGrid:
    """Return the blocks of rows of a matrix, with scales as they are stored in a float type."""
    grid = block_grid(array, precision.block, zero_points=precision.has_zero_points)
    return replace(grid, scales=round_scale(grid.scales, scale_type, SMALLEST_HALF_SCALE))


def _codes(array: Array, grid: BlockGrid, moments: Moments | None) -> Array:
    return grid.codes(array) if moments is None else gptq_codes(array, grid, moments)


_UINT4 = ir.DataType.UINT4.numpy()


def grid_of(node: ir.Node) -> tuple[BlockGrid, Array] | None:
    """Return the grid and the codes of weights that a product reads in blocks, or None."""
    value = node.inputs[1] if len(node.inputs) > 1 else None
    maker = value.producer() if value is not None else None
    if maker is None or maker.op_type != "DequantizeLinear" or not attribute_int(maker, "block_size", 0):
        return None
    codes, scales, *zeros = (const_array(each) for each in maker.inputs)
    if codes is None or scales is None:
        return None
    zero = None if not zeros or zeros[0] is None else zeros[0].astype(np.uint8)
    return BlockGrid(attribute_int(maker, "block_size", 0), scales.astype(np.float32), zero), codes


@dataclass(frozen=True, slots=True)
class WeightPoints:
    """The constants of a placement by the pass that stores them.

    Attributes:
        matrices: those in blocks that products read.
        tables: those in blocks that rows are looked up in.
        scaled: matrices in MXFP8 or NVFP4.
        others: those with one scale, or one for each channel.
    """

    matrices: tuple[WeightPoint, ...]
    tables: tuple[WeightPoint, ...]
    scaled: tuple[WeightPoint, ...]
    others: tuple[WeightPoint, ...]


def split_by_blocks(points: Sequence[WeightPoint]) -> WeightPoints:
    """Return the constants by the pass that stores them."""
    blocks = [point for point in points if point.precision.block]
    return WeightPoints(
        matrices=tuple(point for point in blocks if point.index == 1),
        tables=tuple(point for point in blocks if point.index == 0),
        scaled=tuple(point for point in points if point.precision.scaled_block),
        others=tuple(p for p in points if not p.precision.block and not p.precision.scaled_block),
    )
